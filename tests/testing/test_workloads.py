"""Every registered workload keeps the contract, and the suite that says so finds workloads that do not."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from flstore import workloads
from flstore.errors import UpdateNotFoundError
from flstore.testing.sample_job import SampleJob, sample_job
from flstore.testing.workloads import check_workload
from flstore.types import Key, Kind, PolicyClass
from flstore.workloads import Additive, Catalogue, Inputs, Scope, Workload
from flstore.workloads.base import require_round

NET = {"model": "flstore.testing.sample_task:model", "data": "flstore.testing.sample_task:data"}
NEEDED: dict[str, dict[str, Any]] = dict.fromkeys(
    ("debugging", "incentives", "inference", "personalization", "scheduling_performance"), NET
)
"""Parameters without a default."""


@pytest.mark.parametrize("name", sorted(workloads.BUILT_IN))
def test_registered_workloads_keep_the_contract(name: str) -> None:
    check_workload(lambda: workloads.make(name, **NEEDED.get(name, {})))


@pytest.mark.parametrize(
    ("name", "params", "scope"),
    [
        ("clustering", {"k": 2, "initial": ["c0", "c1"]}, {"round": 3}),
        ("lineage", {"top": 0}, {"client": "c1"}),
        ("lineage", {}, {"client": "c1", "rounds": [4, 1]}),
        ("hyperparameters", {"last": 1}, {}),
        ("malicious_filtering", {"threshold": 2.5}, {"round": 4}),
        ("cosine_similarity", {}, {"round": 1}),
        ("aggregation", {"rule": "trimmed_mean", "trim": 0.3}, {"round": 2}),
        ("debugging", {"model": NET["model"], "shape": [8], "faulty": 2}, {"round": 2}),
        ("scheduling_performance", {"by": "oort", "candidates": ["c1", "c8", "c9"]}, {"round": 3}),
        ("scheduling_similarity", {"count": 5, "of": "model"}, {"round": 2}),
        ("inference", {**NET, "batch_size": 4}, {"round": 2, "client": "c1"}),
        ("inference", {**NET, "metric": "loss"}, {"round": 2}),
        ("personalization", {**NET, "clusters": 3, "k": 1, "metric": "loss"}, {"round": 3}),
        ("incentives", {**NET, "budget": 7}, {"round": 1}),
        ("contribution", {"utility": "accuracy", **NET}, {"round": 3}),
        ("contribution", {"utility": "accuracy", **NET, "exact_up_to": 2, "permutations": 5}, {"round": 3}),
        ("contribution", {"of": "model"}, {"round": 3}),
    ],
)
def test_with_parameters_they_keep_it_too(name: str, params: dict[str, Any], scope: dict[str, Any]) -> None:
    check_workload(lambda: workloads.make(name, **params), scopes=[scope])


@dataclass(frozen=True)
class Sums:
    sums: list[float]


@dataclass(frozen=True)
class Sum(Workload):
    """Keeps the contract; those below break it in one way each."""

    name: ClassVar[str] = "sum"
    policy_class: ClassVar[PolicyClass] = PolicyClass.P2
    result_type: ClassVar[type] = Sums

    def needs(self, scope: Scope, catalogue: Catalogue) -> list[Key]:
        round = require_round(self.name, scope)
        clients = catalogue.clients(round)
        with_metadata = catalogue.clients_with_metadata(round)
        return [
            *(Key(scope.job, Kind.UPDATE, round, c) for c in clients),
            *(Key(scope.job, Kind.METADATA, round, c) for c in with_metadata),
        ]

    def compute(self, inputs: Inputs) -> Any:
        updates = inputs.updates(require_round(self.name, inputs.scope))
        return Sums([float(u["dense.bias"].sum()) for u in updates.values()])


@dataclass(frozen=True)
class NamesWhatIsNotThere(Sum):
    def needs(self, scope: Scope, catalogue: Catalogue) -> list[Key]:
        return [Key(scope.job, Kind.UPDATE, require_round(self.name, scope), c) for c in ("c1", "c99")]


@dataclass(frozen=True)
class NamesTwice(Sum):
    def needs(self, scope: Scope, catalogue: Catalogue) -> list[Key]:
        return super().needs(scope, catalogue) * 2


@dataclass(frozen=True)
class RaisesKeyError(Sum):
    def needs(self, scope: Scope, catalogue: Catalogue) -> list[Key]:
        return [{3: Key(scope.job, Kind.AGGREGATE, 3)}[scope.round]]  # type: ignore[index]


@dataclass(frozen=True)
class RaisesInCompute(Sum):
    def compute(self, inputs: Inputs) -> Any:
        return inputs.data["nothing"]  # type: ignore[index]


@dataclass(frozen=True)
class ChangesMetadata(Sum):
    def compute(self, inputs: Inputs) -> Any:
        for key, value in inputs.data.items():
            if key.kind is Kind.METADATA:
                value["seen"] = True
        return super().compute(inputs)


@dataclass(frozen=True)
class ForgetsInputs(Sum):
    def compute(self, inputs: Inputs) -> Any:
        answer = super().compute(inputs)
        inputs.data.clear()  # type: ignore[attr-defined]
        return answer


@dataclass(frozen=True)
class GoesByArrival(Sum):
    def compute(self, inputs: Inputs) -> Any:
        return Sums([float(v["dense.bias"].sum()) for k, v in inputs.data.items() if k.kind is Kind.UPDATE])


_CALLS = itertools.count()


@dataclass(frozen=True)
class Guesses(Sum):
    def compute(self, inputs: Inputs) -> Any:
        return Sums([float(next(_CALLS))])


@dataclass(frozen=True)
class AnswersADict(Sum):
    def compute(self, inputs: Inputs) -> Any:
        return {"sums": [1.0]}


@dataclass(frozen=True)
class AnswersAnObject(Sum):
    def compute(self, inputs: Inputs) -> Any:
        return Sums([object()])  # type: ignore[list-item]


@dataclass(frozen=True)
class TakesAnObject(Sum):
    how: Any = len


@dataclass(frozen=True)
class KnowsNothing(Sum):
    def needs(self, scope: Scope, catalogue: Catalogue) -> list[Key]:
        raise UpdateNotFoundError("nothing here")


@dataclass(frozen=True)
class ClassByName(Sum):
    policy_class: ClassVar[Any] = "P2"


@dataclass(frozen=True)
class ClassByParameter(Sum):
    recent: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "policy_class", PolicyClass.P4 if self.recent else PolicyClass.P2)


@dataclass(frozen=True)
class ClassByNameForSome(Sum):
    def __post_init__(self) -> None:
        object.__setattr__(self, "policy_class", "P4")


@dataclass(frozen=True)
class ClassByChance(Sum):
    def __post_init__(self) -> None:
        object.__setattr__(self, "policy_class", list(PolicyClass)[next(_CALLS) % 4])


@dataclass(frozen=True)
class AnyResult(Sum):
    result_type: ClassVar[type] = dict


@dataclass
class NotFrozen(Workload):
    name: ClassVar[str] = "not-frozen"
    policy_class: ClassVar[PolicyClass] = PolicyClass.P2
    result_type: ClassVar[type] = Sums
    needs = Sum.needs  # type: ignore[assignment]
    compute = Sum.compute  # type: ignore[assignment]


def test_the_example_keeps_it() -> None:
    check_workload(Sum)
    check_workload(ClassByParameter)
    check_workload(lambda: ClassByParameter(recent=True))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (NamesWhatIsNotThere, "what does not exist: update of client 'c99' in round 3"),
        (NamesTwice, "names an object twice"),
        (RaisesKeyError, "no error of FLStore's: KeyError"),
        (RaisesInCompute, "compute raised.*no error of FLStore's: KeyError"),
        (ChangesMetadata, "changed its inputs.*metadata of client 'c0'"),
        (ForgetsInputs, "changed which inputs there are"),
        (GoesByArrival, "depends on the order"),
        (Guesses, "another answer when it was asked again"),
        (AnswersADict, "is no Sums"),
        (AnswersAnObject, "does not travel back"),
        (TakesAnObject, "parameters of .* do not travel"),
        (KnowsNothing, "answers nothing about the job"),
        (ClassByName, "policy_class must be"),
        (ClassByNameForSome, r"ClassByNameForSome\(\)\.policy_class must be"),
        (ClassByChance, "parameters of .* must decide its policy_class"),
        (AnyResult, "result_type must be a dataclass"),
        (NotFrozen, "is not a dataclass"),
    ],
)
def test_a_broken_promise_is_found(make: Callable[[], Workload], says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        check_workload(make)


def test_a_class_that_functions_cannot_import_is_found() -> None:
    @dataclass(frozen=True)
    class Local(Sum):
        pass

    with pytest.raises(AssertionError, match="is defined in a function"):
        check_workload(Local)


def test_a_scope_that_was_named_must_be_answered() -> None:
    with pytest.raises(AssertionError, match=r"refuses .*sum is about one round"):
        check_workload(Sum, scopes=[{"client": "c1"}])
    with pytest.raises(AssertionError, match="round 9"):
        check_workload(Sum, scopes=[{"round": 9}])


def test_a_job_of_ones_own() -> None:
    job = SampleJob("mine")
    job.add(7, {"x": {"dense.bias": np.ones(2, np.float32)}})
    check_workload(Sum, scopes=[{"round": 7}], job=job)


def test_the_sample_is_always_the_same() -> None:
    one, two = sample_job(), sample_job()
    assert {k: bytes(v) for k, v in one.buffers.items()} == {k: bytes(v) for k, v in two.buffers.items()}
    assert (one.rounds(), one.clients(2), one.rounds_of("c1")) == (
        [1, 2, 3, 4],
        ["c0", "c1", "c2", "c4", "c5"],
        [1, 2, 3, 4],
    )
    assert one.has_aggregate(0)
    assert one.clients_with_metadata(1) == one.clients(1)
    with pytest.raises(UpdateNotFoundError, match="no update in round 9; there are: 1, 2, 3, 4"):
        one.clients(9)
    with pytest.raises(UpdateNotFoundError, match="no update of client 'x'"):
        one.rounds_of("x")


@dataclass(frozen=True)
class Longest(Additive):
    """Says that it is additive, but a largest element is no sum."""

    name: ClassVar[str] = "longest"
    policy_class: ClassVar[PolicyClass] = PolicyClass.P2
    result_type: ClassVar[type] = Sums

    def needs(self, scope: Scope, catalogue: Catalogue) -> list[Key]:
        round = require_round(self.name, scope)
        return [Key(scope.job, Kind.UPDATE, round, c) for c in catalogue.clients(round)]

    def partial(self, inputs: Inputs) -> dict[str, Any]:
        updates = inputs.updates(require_round(self.name, inputs.scope)).values()
        return {"sums": np.array([max(float(np.abs(t).max(initial=0)) for t in u.values()) for u in updates])}

    def finish(self, scope: Scope, total: Mapping[str, Any]) -> Sums:
        return Sums(total["sums"].tolist())


def test_a_workload_that_is_not_additive_is_found_out() -> None:
    with pytest.raises(AssertionError, match="from ranges of tensors: sums is"):
        check_workload(Longest)


@dataclass(frozen=True)
class DerivesAnother(Longest):
    """Computes on its own, past what it derives."""

    name: ClassVar[str] = "derives-another"

    def compute(self, inputs: Inputs) -> Sums:
        return Sums([0.0 for _ in inputs.updates(require_round(self.name, inputs.scope))])


def test_a_workload_that_answers_otherwise_from_what_it_derived_is_found() -> None:
    with pytest.raises(AssertionError, match=r"answers otherwise, about .*, from what it derived before"):
        check_workload(DerivesAnother)

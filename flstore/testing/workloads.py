"""The contract of a workload, as a suite that anybody can run on their own.

One test function is enough:

>>> from flstore.testing.workloads import check_workload
>>> from flstore.workloads.clustering import Clustering
>>> check_workload(Clustering)
>>> check_workload(lambda: Clustering(k=3), scopes=[{"round": 2}])
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import numpy as np

from flstore.codec import ClientUpdate, decode
from flstore.errors import FLStoreError
from flstore.functions import wire
from flstore.parts import cut
from flstore.testing.sample_job import SampleJob, sample_job
from flstore.types import Key, Kind, Part, PolicyClass
from flstore.workloads import Workload, by_path, from_path
from flstore.workloads.base import Additive, Derivable, Inputs, Piecewise, Scope

SCOPES: tuple[Mapping[str, Any], ...] = (
    {}, {"round": 3}, {"client": "c1"}, {"round": 3, "client": "c1"}, {"rounds": (2, 3)},
    {"rounds": (2, 3), "client": "c1"},
)  # fmt: skip
"""What is asked of a workload when nothing else is said: every way to be about something in the sample job."""
_NOWHERE = 987_654
_NOBODY = "nobody of this name"


def check_workload(
    make_workload: Callable[[], Workload],
    scopes: Iterable[Mapping[str, Any]] | None = None,
    job: SampleJob | None = None,
) -> None:
    """Check a workload against everything that a store relies on.

    It must

    - be a frozen dataclass with a `name`, a `policy_class` and a `result_type`, importable by its path;
    - have parameters and results that travel as plain values, and are the same when they arrive;
    - name in `needs` nothing but objects that exist, each once, and the same ones when it is asked again;
    - answer with its `result_type`, from those objects alone, whatever order they are in;
    - answer equally when it is asked again, and leave its inputs as they were;
    - if it is ``Derivable``, answer the same from what was derived before, and leave that as it was;
    - if it is ``Piecewise``, answer the same from pieces that it computed ahead, without computing one again;
    - if it is ``Additive``, answer the same from ranges of the tensors as from whole ones, but for rounding;
    - meet a round, a client or a job that does not exist with an error of FLStore's, or with objects that do exist.

    Parameters
    ----------
    make_workload : callable
        Returns the workload; a class whose parameters have defaults will do.
    scopes : iterable of mappings, optional
        What requests are about (``{"round": 3}``); all of them must be answered. Default: `SCOPES`, of which at least
        one must be answered, and the others refused with an error of FLStore's.
    job : SampleJob, optional
        What there is to read. Default: :func:`flstore.testing.sample_job.sample_job`.

    Raises
    ------
    AssertionError
        Says which promise was broken, and about what.
    """
    workload = make_workload()
    _check_class(workload)
    _check_parameters(workload, make_workload())
    job = job or sample_job()
    refused = {}
    for about in SCOPES if scopes is None else list(scopes):
        scope = Scope(job.name, **{**about, "rounds": tuple(about["rounds"]) if about.get("rounds") else None})
        try:
            _check_answers(workload, job, scope)
            _check_unknown(workload, job, scope)
        except FLStoreError as error:
            if scopes is not None:
                raise AssertionError(f"{workload} refuses {scope}, which it must answer: {error}") from error
            refused[str(about)] = str(error)
    if scopes is None and len(refused) == len(SCOPES):
        said = "; ".join(f"{about}: {error}" for about, error in refused.items())
        _fail(f"{workload} answers nothing about the job that it is tested on: {said}")


def _check_class(workload: Workload) -> None:
    cls = type(workload)
    try:
        if from_path(by_path(cls)) is not cls:
            _fail(f"{by_path(cls)} is another class than the one that is tested")
    except FLStoreError as error:
        raise AssertionError(str(error)) from error
    if not isinstance(cls.name, str) or not cls.name:
        _fail(f"{cls.__name__}.name must be a string that is not empty, not {cls.name!r}")
    for what, found in ((cls.__name__, cls.policy_class), (str(workload), workload.policy_class)):
        if not isinstance(found, PolicyClass):
            _fail(f"{what}.policy_class must be a flstore.types.PolicyClass, not {found!r}")
    if not (isinstance(cls.result_type, type) and dataclasses.is_dataclass(cls.result_type)):
        _fail(f"{cls.__name__}.result_type must be a dataclass, not {cls.result_type!r}")


def _check_parameters(workload: Workload, other: Workload) -> None:
    if workload != other:
        _fail(f"two workloads with the same parameters must be equal: {workload} and {other}")
    values = {f.name: getattr(workload, f.name) for f in dataclasses.fields(workload)}  # type: ignore[arg-type]
    try:
        arrived = type(workload)(**wire.unpack(wire.pack(values)))
    except Exception as error:
        raise AssertionError(f"the parameters of {workload} do not travel to a cache function: {error}") from error
    if arrived != workload:
        _fail(f"the parameters of {workload} arrive at a cache function as those of {arrived}")
    if not workload.policy_class is other.policy_class is arrived.policy_class:
        _fail(
            f"the parameters of {workload} must decide its policy_class: it is {workload.policy_class}, and of an "
            f"equal one {other.policy_class} or {arrived.policy_class}"
        )


def _check_answers(workload: Workload, job: SampleJob, scope: Scope) -> None:
    keys = _needs(workload, job, scope)
    if keys != _needs(workload, job, scope):
        _fail(f"{workload}.needs named other objects when it was asked again about {scope}")
    first = _answer(workload, job, scope, keys)
    if first != _answer(workload, job, scope, keys):
        _fail(f"{workload} gave another answer when it was asked again about {scope}")
    if first != _answer(workload, job, scope, keys[::-1]):
        _fail(f"the answer of {workload} about {scope} depends on the order in which its inputs arrived")
    if isinstance(workload, Derivable) and workload.derivation(keys):
        _check_derived(workload, job, scope, keys, first)
    if isinstance(workload, Piecewise) and workload.piece:
        _check_pieces(workload, job, scope, keys, first)
    if isinstance(workload, Additive) and workload.in_ranges and all(key.kind is not Kind.METADATA for key in keys):
        _check_ranges(workload, job, scope, keys, wire.unpack(first))


def _needs(workload: Workload, job: SampleJob, scope: Scope) -> list[Key]:
    try:
        keys = list(workload.needs(scope, job))
    except FLStoreError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise AssertionError(f"{workload}.needs raised, about {scope}, no error of FLStore's: {said}") from error
    if len(set(keys)) < len(keys):
        _fail(f"{workload}.needs names an object twice, about {scope}: {max(keys, key=keys.count)}")
    absent = [str(key) for key in keys if key not in job.buffers]
    if absent:
        _fail(f"{workload}.needs names, about {scope}, what does not exist: {', '.join(absent)}")
    return keys


def _answer(workload: Workload, job: SampleJob, scope: Scope, keys: list[Key]) -> bytes:
    """What a cache function would send back, from inputs of its own."""
    data = {key: job.read(key) for key in keys}
    before = {key: _bytes(value) for key, value in data.items()}
    given = dict(data)
    try:
        result = workload.compute(Inputs(scope, given))
    except FLStoreError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise AssertionError(f"{workload}.compute raised, about {scope}, no error of FLStore's: {said}") from error
    if list(given) != list(data) or any(given[key] is not data[key] for key in data):
        _fail(f"{workload}.compute changed which inputs there are, about {scope}")
    changed = [str(key) for key in keys if _bytes(data[key]) != before[key]]
    if changed:
        _fail(f"{workload}.compute changed its inputs, about {scope}: {', '.join(changed)}")
    if type(result) is not workload.result_type:
        _fail(f"{workload}.compute returned {result!r}, which is no {workload.result_type.__name__}")
    try:
        sent = wire.pack_result(result)
        arrived = wire.pack_result(wire.unpack_result(workload.result_type, sent))
    except Exception as error:
        raise AssertionError(f"the result of {workload} does not travel back from a function: {error}") from error
    if arrived != sent:
        _fail(f"the result of {workload} is another one when it arrives")
    return sent


def _check_derived(workload: Derivable, job: SampleJob, scope: Scope, keys: list[Key], answer: bytes) -> None:
    total = workload.derive(Inputs(scope, {key: job.read(key) for key in keys}))
    for _ in range(2):  # others use it afterwards
        if wire.pack_result(workload.finish(scope, total)) != answer:
            _fail(f"{workload} answers otherwise, about {scope}, from what it derived before")


class _Pieces(dict[Any, Any]):
    """Pieces by name and objects, as a function keeps them."""

    def find(self, what: str, keys: Collection[Key]) -> Any:
        return self.get((what, frozenset(keys)))

    def keep(self, what: str, keys: Collection[Key], value: dict[str, Any]) -> None:
        self[what, frozenset(keys)] = value


def _check_pieces(workload: Piecewise, job: SampleJob, scope: Scope, keys: list[Key], answer: bytes) -> None:
    known = _Pieces()
    inputs = Inputs(scope, {key: job.read(key) for key in keys}, known)
    steps = sum(1 for _ in workload.ahead(inputs))
    computed = list(known)
    for _ in range(2):  # others use them afterwards
        if wire.pack_result(workload.compute(inputs)) != answer:
            _fail(f"{workload} answers otherwise, about {scope}, from pieces that it computed ahead")
    if not steps or not computed or list(known) != computed:
        _fail(f"{workload} computed {len(computed)} pieces ahead, about {scope}, and needs {len(known)}")


def _check_ranges(workload: Additive, job: SampleJob, scope: Scope, keys: list[Key], whole: dict[str, Any]) -> None:
    def ranges(key: Key, part: Part) -> ClientUpdate:
        return decode(cut(job.read(key), part))

    given = [Inputs(scope, {key: ranges(key, Part(i, 3)) for key in keys}) for i in range(3)]
    partials = [wire.unpack(wire.pack(workload.partial(inputs))) for inputs in given]
    found = wire.unpack(wire.pack_result(workload.finish(scope, workload.combine(partials))))
    for name, expected in whole.items():
        if not _close(found[name], expected):
            _fail(
                f"{workload} about {scope}, from ranges of tensors: {name} is {found[name]}, from whole ones {expected}"
            )


def _close(found: Any, expected: Any) -> bool:
    """Equal, but for the rounding of numbers."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(_close(found[name], value) for name, value in expected.items())
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(_close, found, expected))
    if isinstance(expected, float) or (isinstance(expected, np.ndarray) and expected.dtype.kind in "fc"):
        least = 1e-4 * float(np.nan_to_num(np.abs(expected)).max(initial=1.0))
        return bool(np.allclose(found, expected, rtol=1e-3, atol=least, equal_nan=True))
    return bool(np.array_equal(found, expected))


def _bytes(value: Any) -> bytes:
    return bytes(value.buffer) if isinstance(value, ClientUpdate) else wire.pack(value)


def _check_unknown(workload: Workload, job: SampleJob, scope: Scope) -> None:
    strange = [(SampleJob("another job"), dataclasses.replace(scope, job="another job"))]
    if scope.round is not None:
        strange.append((job, dataclasses.replace(scope, round=_NOWHERE)))
    if scope.client is not None:
        strange.append((job, dataclasses.replace(scope, client=_NOBODY)))
    if scope.rounds is not None:
        strange.append((job, dataclasses.replace(scope, rounds=(_NOWHERE,))))
    for where, about in strange:
        try:
            _needs(workload, where, about)
        except FLStoreError:
            continue


def _fail(message: str) -> None:
    raise AssertionError(message)

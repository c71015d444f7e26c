"""What a workload is: a small frozen dataclass that says what it reads, and computes on it.

A workload runs on the cache function that holds the data, or in the process of a baseline; it cannot tell which. To
add one, write a file with a :class:`Workload` subclass and register it by name (``flstore.workloads.register``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from flstore.codec import ClientUpdate
from flstore.errors import InvalidParameterError
from flstore.types import Key, Kind, PolicyClass


class Catalogue(Protocol):
    """What exists, by the names that users gave. Every look-up of something absent raises ``UpdateNotFoundError``."""

    def rounds(self) -> Sequence[int]:
        """All rounds with client updates, ascending."""
        ...

    def clients(self, round: int) -> Sequence[str]:
        """Clients with an update in `round`, sorted; the error names the rounds that exist."""
        ...

    def rounds_of(self, client: str) -> Sequence[int]:
        """Rounds in which `client` took part, ascending; the error names clients that exist."""
        ...

    def has_aggregate(self, round: int) -> bool:
        """Whether the global model after `round` is stored."""
        ...

    def clients_with_metadata(self, round: int) -> Sequence[str]:
        """Clients with metadata in `round`, sorted (empty when there is none)."""
        ...


@dataclass(frozen=True, slots=True)
class Scope:
    """What a request is about: a job and, where the workload wants them, a round, a client, several rounds.

    Parameters
    ----------
    job : str
        The FL job.
    round : int, optional
        A round.
    client : str, optional
        A client.
    rounds : tuple of int, optional
        Several rounds.
    """

    job: str
    round: int | None = None
    client: str | None = None
    rounds: tuple[int, ...] | None = None


class Known(Protocol):
    """What was computed from objects of a request before, and is kept for others as long as these objects."""

    def find(self, what: str, keys: Collection[Key]) -> Mapping[str, Any] | None:
        """What was computed from exactly these objects under that name, or None."""
        ...

    def keep(self, what: str, keys: Collection[Key], value: dict[str, Any]) -> None:
        """Keep plain values, if there is room. Nobody may change them afterwards."""
        ...


@dataclass(frozen=True, slots=True)
class Inputs:
    """The objects of one request, in memory: updates and aggregates as tensors, metadata as plain dicts.

    Parameters
    ----------
    scope : Scope
        What the request is about.
    data : dict of Key to object
        What the workload's ``needs`` named.
    known : Known, optional
        What was derived from the data before.
    """

    scope: Scope
    data: Mapping[Key, Any]
    known: Known | None = None
    """What is known of them already; None where nothing is kept."""

    def once(self, what: str, keys: Collection[Key], compute: Callable[[], dict[str, Any]]) -> Mapping[str, Any]:
        """What is known of exactly these objects under this name; else what `compute` gives, which is then kept."""
        found = None if self.known is None else self.known.find(what, keys)
        if found is None:
            found = compute()
            if self.known is not None:
                self.known.keep(what, keys, found)
        return found

    def updates(self, round: int) -> dict[str, ClientUpdate]:
        """Client updates of `round` by client id, sorted by id."""
        found = {k.client: v for k, v in self.data.items() if k.kind is Kind.UPDATE and k.round == round}
        return {str(c): found[c] for c in sorted(found, key=str)}

    def history(self, client: str) -> dict[int, ClientUpdate]:
        """Updates of `client` by round, ascending."""
        found = {k.round: v for k, v in self.data.items() if k.kind is Kind.UPDATE and k.client == client}
        return dict(sorted(found.items()))

    def aggregate(self, round: int) -> ClientUpdate | None:
        """The global model after `round`, or None when the request did not ask for it."""
        found: ClientUpdate | None = self.data.get(Key(self.scope.job, Kind.AGGREGATE, round))
        return found

    def metadata(self) -> list[dict[str, Any]]:
        """One dict a (round, client), with these two among its entries, sorted by them."""
        rows = [(k.round, str(k.client), v) for k, v in self.data.items() if k.kind is Kind.METADATA]
        return [{**v, "round": r, "client": c} for r, c, v in sorted(rows, key=lambda row: row[:2])]


class Workload(ABC):
    """Base of all workloads. Subclasses are frozen dataclasses whose fields are the parameters of a request.

    Attributes
    ----------
    name : str
        The name that requests use.
    policy_class : PolicyClass
        The class of its access pattern (Table 1); chooses the caching policy. Where that depends on a parameter, the
        class has the usual one, and ``__post_init__`` sets that of the instance (``object.__setattr__``).
    result_type : type
        The dataclass that `compute` returns. Its fields hold plain values (None, bool, int, float, str, lists, dicts
        with string keys, NumPy arrays), because it crosses from a function to its caller without pickle.
    in_engine : bool
        For a workload that only looks at a few values of metadata, in microseconds and without waiting for anything: a
        request may then be computed in the process of the store, in the thread that asks. Default False.
    """

    name: ClassVar[str]
    policy_class: ClassVar[PolicyClass]
    result_type: ClassVar[type]
    in_engine: ClassVar[bool] = False

    @abstractmethod
    def needs(self, scope: Scope, catalogue: Catalogue) -> list[Key]:
        """The objects that this request reads. Raises when the scope is incomplete or names what does not exist."""

    @abstractmethod
    def compute(self, inputs: Inputs) -> Any:
        """The answer, an instance of `result_type`. Must not change its inputs, which others read too."""


class Derivable(Workload):
    """A workload whose answer follows from something small that can be computed before anybody asks.

    A cache function keeps what was derived as long as the objects that it was derived from, and every request about
    the same objects with an equal :meth:`derivation` shares it, whatever the workload.
    """

    def derivation(self, keys: Collection[Key]) -> str:
        """A name for what :meth:`derive` computes from these objects; "" when nothing is derived with these parameters.

        Default: one for this workload and its parameters.
        """
        return repr(self)

    @abstractmethod
    def derive(self, inputs: Inputs) -> dict[str, Any]:
        """Plain values: all that the answer needs of the inputs. Nobody may change them afterwards."""

    @abstractmethod
    def finish(self, scope: Scope, total: Mapping[str, Any]) -> Any:
        """The answer, from what :meth:`derive` returned."""

    def compute(self, inputs: Inputs) -> Any:
        """The answer, with nothing computed before."""
        return self.finish(inputs.scope, self.derive(inputs))


class Piecewise(Workload):
    """A workload that needs something small of every object by itself, such as the outputs of each model.

    It asks ``inputs.known`` before it computes such a piece, and hands over what it had to compute. A cache function
    keeps a piece as long as its object, for every workload that asks by the same name, and computes pieces while it is
    idle: one by one, so that no request waits for more than one.
    """

    @property
    @abstractmethod
    def piece(self) -> str:
        """A name for the pieces that it needs; "" when it needs none with these parameters."""

    @abstractmethod
    def ahead(self, inputs: Inputs) -> Iterator[None]:
        """Compute pieces that are not known, and yield after each."""


class Additive(Derivable):
    """A workload that sees updates through sums over their elements only, such as inner products.

    A round that fits no single function is held in parts by ranges of elements. Each function then computes `partial`
    of its range, and the partial results, not the updates, cross the network.
    """

    @property
    def in_ranges(self) -> bool:
        """Whether ranges will do; a workload may need whole updates with some of its parameters."""
        return True

    @abstractmethod
    def partial(self, inputs: Inputs) -> dict[str, Any]:
        """Plain values that stand for the updates in `inputs`, which may be whole or one range of every tensor.

        The tensors of a range are vectors of the same names. Numbers and arrays must be sums over elements; everything
        else must be the same for every range.
        """

    def combine(self, partials: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Partial results of all ranges, in their order, as that of whole updates: sums of numbers and of arrays."""
        total = dict(partials[0])
        for further in partials[1:]:
            for name, value in further.items():
                if isinstance(value, int | float | np.ndarray) and not isinstance(value, bool):
                    with np.errstate(invalid="ignore"):  # of values that are not finite
                        total[name] = total[name] + value
        return total

    def derive(self, inputs: Inputs) -> dict[str, Any]:
        """The partial result of whole updates."""
        return self.combine([self.partial(inputs)])


class Staged(Workload):
    """A workload that sends values through a model, layer by layer.

    A model that fits no single function is held in parts of whole layers. Each function then runs its own layers on
    what came out of the layers before, and these values, not the model, cross the network.
    """

    @abstractmethod
    def stage(self, inputs: Inputs, part: int, of: int, values: Sequence[Any] | None) -> list[Any]:
        """Run the layers that `inputs` has the tensors of.

        Parameters
        ----------
        inputs : Inputs
            With the tensors of one part of the model.
        part, of : int
            Which part, of how many.
        values : sequence of ndarray, or None
            What the stage before returned; None for the first one.

        Raises
        ------
        NotStagedError
            The model cannot be run in parts, or not in these. It is put together then.
        """

    @abstractmethod
    def finish(self, values: Sequence[Any]) -> Any:
        """The answer, from what the last stage returned."""


def require_round(name: str, scope: Scope) -> int:
    """The round of `scope`, or an error that says how to name one."""
    if scope.round is None:
        raise InvalidParameterError(f"{name} is about one round: store.request({name!r}, round=3)")
    return scope.round


def require_client(name: str, scope: Scope) -> str:
    """The client of `scope`, or an error that says how to name one."""
    if scope.client is None:
        raise InvalidParameterError(f"{name} is about one client: store.request({name!r}, client='7')")
    return scope.client

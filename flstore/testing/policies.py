"""The contract of a caching policy, as a suite that anybody can run on their own.

One test function is enough:

>>> from flstore.policies import P2
>>> from flstore.testing.policies import check_policy
>>> check_policy(P2)
>>> check_policy(lambda: P2(window=3))
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator

import numpy as np

from flstore.engine import State, step
from flstore.errors import PolicyError
from flstore.policies.base import Policy, View
from flstore.policies.taxonomy import CLASS_OF
from flstore.types import (
    NO_CLIENT,
    Deleted,
    Derive,
    Event,
    Feedback,
    FunctionJoined,
    FunctionLeaving,
    FunctionLost,
    Ingested,
    IntArray,
    KeySet,
    Kind,
    LoadFailed,
    PolicyClass,
    Requested,
    Unwant,
    Want,
)  # fmt: skip

SEEDS = range(3)
_CLIENTS, _ROUNDS, _FUNCTIONS, _SIZE_BYTES = 6, 10, 2, 10


def check_policy(make_policy: Callable[[], Policy], seeds: Iterable[int] = SEEDS) -> None:
    """Check a policy against everything that the engine relies on.

    The policy goes through training runs with requests of every class, two jobs, rounds with gaps and late clients,
    failed loads, functions that come and go, clients that leave and rounds that are deleted, with more and with less
    memory than is wanted. It must

    - raise on no kind of event, not even on those about rounds and clients that it never heard of;
    - return nothing but ``Want``, ``Unwant`` and ``Derive`` of ``flstore.types``, with owners that can be hashed;
    - want objects that exist, as long as it was asked about such, and none that was deleted;
    - decide on the event, the view and its own past alone: a fresh instance decides an equal history equally;
    - leave the event and the arrays of the view as they were;
    - be made anew by every call of `make_policy`;
    - have a `share` of memory above 0 and at most 1.

    Parameters
    ----------
    make_policy : callable
        Returns a fresh policy; a class without mandatory parameters will do, and so will one that ``needs_future``.
    seeds : iterable of int, default range(3)
        One history is made from each.

    Raises
    ------
    AssertionError
        Says which promise was broken, and at which event.

    Examples
    --------
    >>> from flstore.policies import LRU
    >>> check_policy(lambda: LRU(fill="write-allocate"))
    """
    make = _maker(make_policy)
    _check_instances(make)
    for seed in seeds:
        for capacity_bytes in (1_000_000, 7 * _SIZE_BYTES):
            history = list(_history(seed, capacity_bytes))
            said = _follow(make(history), history)
            again = _follow(make(history), history)
            for number, (once, twice) in enumerate(zip(said, again, strict=True)):
                if once != twice:
                    at = f"event {number}, {history[number]}"
                    _fail(f"two fresh instances decided differently on {at}: {once} and {twice}")
            strange = list(_strange(capacity_bytes))
            _follow(make(strange), strange, must_exist=False)


def _maker(make_policy: Callable[[], Policy]) -> Callable[[list[Event]], Policy]:
    """Makes a fresh policy for a history, of which it is told the requests if it has to know them."""
    if getattr(make_policy, "needs_future", False):
        from_future: Callable[[list[Requested]], Policy] = make_policy.from_future  # type: ignore[attr-defined]
        return lambda history: from_future([event for event in history if isinstance(event, Requested)])
    return lambda history: make_policy()


def _check_instances(make: Callable[[list[Event]], Policy]) -> None:
    first, second = make([]), make([])
    for policy in (first, second):
        if not isinstance(policy, Policy):
            _fail(f"it made {policy!r}, which is no flstore.policies.Policy")
        if not isinstance(getattr(policy, "name", None), str) or not policy.name:
            _fail(f"{type(policy).__name__}.name must be a string that is not empty")
        if not 0 < policy.share <= 1:
            _fail(f"the share of {policy.name!r} must be above 0 and at most 1, and it is {policy.share!r}")
    if first is second:
        _fail(f"it made the same instance of {first.name!r} twice; every run needs a fresh policy")


class _Watched(Policy):
    """Passes on what another policy says, and checks it on the way."""

    name = "watched"

    def __init__(self, policy: Policy, must_exist: bool) -> None:
        self._policy = policy
        self.share = policy.share
        self._must_exist = must_exist
        self.said: list[list[str]] = []

    def decide(self, event: Event, view: View) -> Iterable[Want | Unwant | Derive]:
        before = repr(event)
        try:
            said = list(self._policy.decide(event, view))
        except Exception as error:
            raise AssertionError(f"the policy {self._policy.name!r} raised {error!r} on {event}") from error
        if repr(event) != before:
            _fail(f"the policy {self._policy.name!r} changed the event {before} to {event}")
        for item in said:
            self._check(item, event, view)
        self.said.append([_plain(item) for item in said])
        return said

    def _check(self, item: object, event: Event, view: View) -> None:
        if not isinstance(item, Want | Unwant | Derive):
            said = f"returned {item!r} on {event}; only Want, Unwant and Derive are known"
            raise AssertionError(f"the policy {self._policy.name!r} {said}")
        if not isinstance(item, Derive) and not isinstance(item.owner, Hashable):
            _fail(f"the owner {item.owner!r} of the policy {self._policy.name!r} cannot be hashed")
        if not isinstance(item, Unwant) and self._must_exist and not (view.size(item.keys) > 0).all():
            _fail(f"the policy {self._policy.name!r} wants objects that do not exist, on {event}: {item}")


def _follow(policy: Policy, history: list[Event], must_exist: bool = True) -> list[list[str]]:
    """What the policy said to each event of a history."""
    state, watched = State(), _Watched(policy, must_exist)
    exists: dict[tuple[int, Kind, int], list[int]] = {}
    for event in history:
        try:
            step(state, watched, event)
        except PolicyError as error:
            if isinstance(error.__cause__, AssertionError):
                raise error.__cause__ from None
            raise
        if isinstance(event, Ingested) and isinstance(event.keys.rounds, int):
            slot = (event.keys.job, event.keys.kind, event.keys.rounds)
            exists.setdefault(slot, []).extend(c for _, c in event.keys.pairs() if c not in exists.get(slot, []))
        elif isinstance(event, Deleted):
            for keys in event.keys:
                for round, gone in keys.by_round():
                    slot = (keys.job, keys.kind, round)
                    exists[slot] = [c for c in exists.get(slot, []) if c not in gone.tolist()]
    for slot, table in state.slots():
        if table.clients.tolist() != exists[slot]:
            _fail(f"the policy {policy.name!r} changed the participants that the view showed it: {slot}")
    return watched.said


# --- histories ------------------------------------------------------------------------------------------------------


def _history(seed: int, capacity_bytes: int) -> Iterator[Event]:
    """Two training runs side by side, with requests of every class and functions that come and go."""
    rng = np.random.default_rng(seed)
    numbers = iter(range(1, 1_000_000))
    yield from (FunctionJoined(f, capacity_bytes, "first") for f in range(_FUNCTIONS))
    took_part: dict[tuple[int, int], IntArray] = {}
    for step_ in range(_ROUNDS):
        for job in (0, 1):
            round = step_ if job == 0 else 3 * step_
            clients = np.sort(rng.choice(_CLIENTS, size=int(rng.integers(1, _CLIENTS)), replace=False)).astype(np.int64)
            took_part[job, round] = clients
            yield from _round(job, round, clients, late=bool(rng.random() < 0.3))
            for workload, policy_class in CLASS_OF.items():
                known = sorted(r for j, r in took_part if j == job)
                if rng.random() < 0.12 and known:
                    at = int(known[max(0, len(known) - 1 - int(rng.integers(0, 4)))])
                    number = next(numbers)
                    yield _request(number, job, workload, policy_class, at, took_part)
                    if number % 3 == 0:
                        yield Feedback(number - number % 2, useful=number % 4 == 0)
        yield from _fault(rng, capacity_bytes, took_part)
        yield from _deletion(rng, took_part)


def _deletion(rng: np.random.Generator, took_part: dict[tuple[int, int], IntArray]) -> Iterator[Event]:
    """Now and then a round is deleted, which may come again, or a client leaves."""
    job, round = list(took_part)[int(rng.integers(0, len(took_part)))]
    clients = took_part[job, round]
    chance = rng.random()
    if chance < 0.25:
        del took_part[job, round]
        everything = [KeySet(job, kind, round, clients) for kind in (Kind.UPDATE, Kind.METADATA)]
        yield Deleted((*everything, KeySet.of_client(job, Kind.AGGREGATE, NO_CLIENT, [round])))
        if chance < 0.1:
            took_part[job, round] = clients
            yield from _round(job, round, clients, late=False)
    elif chance < 0.4:
        client = int(clients[0])
        rounds = sorted(r for (j, r), who in took_part.items() if j == job and client in who)
        yield Deleted(tuple(KeySet.of_client(job, kind, client, rounds) for kind in (Kind.UPDATE, Kind.METADATA)))
        for r in rounds:
            took_part[job, r] = took_part[job, r][took_part[job, r] != client]
            if not len(took_part[job, r]):
                del took_part[job, r]


def _round(job: int, round: int, clients: IntArray, late: bool) -> Iterator[Event]:
    on_time = clients[:-1] if late and len(clients) > 1 else clients
    for part in (on_time, clients[len(on_time) :]):
        if len(part):
            for kind in (Kind.UPDATE, Kind.METADATA):
                yield Ingested(KeySet(job, kind, round, part), np.full(len(part), _SIZE_BYTES, dtype=np.int64))
    yield Ingested(KeySet.of_round(job, Kind.AGGREGATE, round, [NO_CLIENT]), np.array([_SIZE_BYTES], dtype=np.int64))


def _request(
    number: int,
    job: int,
    workload: str,
    policy_class: PolicyClass,
    round: int,
    took_part: dict[tuple[int, int], IntArray],
) -> Requested:
    clients = took_part[job, round]
    first = int(clients[0])
    if policy_class is PolicyClass.P4:
        return Requested(
            number, job, workload, policy_class, round, None, (KeySet(job, Kind.METADATA, round, clients),)
        )
    if policy_class is PolicyClass.P3:
        rounds = sorted(r for (j, r), who in took_part.items() if j == job and r <= round and first in who)
        keys = KeySet.of_client(job, Kind.UPDATE, first, rounds[-2:])
        return Requested(number, job, workload, policy_class, round, first, (keys,))
    before = [r for j, r in took_part if j == job and r < round]
    parts = [KeySet(job, Kind.UPDATE, round, clients[:1] if policy_class is PolicyClass.P1 else clients)]
    if before and number % 2:
        parts.append(KeySet.of_client(job, Kind.AGGREGATE, NO_CLIENT, [max(before)]))
    return Requested(number, job, workload, policy_class, round, None, tuple(parts))


def _fault(
    rng: np.random.Generator, capacity_bytes: int, took_part: dict[tuple[int, int], IntArray]
) -> Iterator[Event]:
    function = int(rng.integers(0, _FUNCTIONS))
    job, round = list(took_part)[int(rng.integers(0, len(took_part)))]
    chance = rng.random()
    if chance < 0.2:
        yield LoadFailed(function, KeySet(job, Kind.UPDATE, round, took_part[job, round]), "gone", 10**6)
    elif chance < 0.4:
        yield FunctionLost(function, "first")
        held = KeySet(job, Kind.UPDATE, round, took_part[job, round][:1])
        yield FunctionJoined(function, capacity_bytes, "first", ((held, np.array([_SIZE_BYTES], dtype=np.int64)),))
    elif chance < 0.5:
        yield FunctionLost(function, "an earlier one")


def _strange(capacity_bytes: int) -> Iterator[Event]:
    """Events about what nobody ever heard of: before there is a function, before there is a round, and afterwards."""
    unknown = KeySet.of_round(7, Kind.UPDATE, 900, [0, 5])
    for first_number in (1, 101):
        yield from (FunctionLost(9, "x"), FunctionLeaving(9), Feedback(12_345, useful=True))
        yield Deleted(
            (unknown, KeySet.of_client(7, Kind.UPDATE, 5, [900, 950]), KeySet.of_round(7, Kind.METADATA, 3, []))
        )
        yield LoadFailed(9, unknown, "gone", 1)
        for number, (workload, policy_class) in enumerate(CLASS_OF.items(), start=first_number):
            kind = Kind.METADATA if policy_class is PolicyClass.P4 else Kind.UPDATE
            keys = KeySet.of_round(7, kind, 900, [0, 5])
            aggregate = KeySet.of_client(7, Kind.AGGREGATE, NO_CLIENT, [899])
            yield Requested(number, 7, workload, policy_class, 900, None, (keys, aggregate))
            yield Requested(number + 50, 7, workload, policy_class, None, None, ())
        yield FunctionJoined(0, capacity_bytes, "x", ((unknown, np.array([_SIZE_BYTES] * 2, dtype=np.int64)),))
        for round in (3, 950, 900, 1):
            yield from _round(7, round, np.array([0, 2, 5], dtype=np.int64), late=round == 950)


def _plain(item: Want | Unwant | Derive) -> str:
    if isinstance(item, Derive):
        return repr((type(item).__name__, item.what, item.keys.canonical()))
    keys = None if item.keys is None else item.keys.canonical()
    more = (str(item.group), item.priority) if isinstance(item, Want) else ()
    return repr((type(item).__name__, item.owner, keys, *more))


def _fail(message: str) -> None:
    raise AssertionError(message)

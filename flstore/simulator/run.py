"""One replay under way: feeds the events of a trace to the engine, and notes what became of each access."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flstore.engine import State, settle
from flstore.engine.single import find
from flstore.engine.table import NOWHERE, distinct
from flstore.errors import InvalidParameterError
from flstore.policies import P2, P4, Tailored
from flstore.policies.base import Policy
from flstore.simulator.clock import Clock
from flstore.simulator.compiled import Trace
from flstore.simulator.outcome import HIT, MISS, TOOK
from flstore.simulator.progress import bar_of
from flstore.simulator.rounds import Round
from flstore.types import Action, FunctionJoined, KeySet, Load, PolicyClass, Requested, Source

_ALL = frozenset(PolicyClass)
SAME_ROUND: dict[type[Policy], frozenset[PolicyClass]] = {
    P2: _ALL,
    P4: _ALL,
    Tailored: frozenset({PolicyClass.P2, PolicyClass.P4}),
}
"""Of which classes of requests a policy regards nothing but job, workload and round: asked again for the same round
with nothing in between, it says nothing more. Such requests are looked up together."""


class Run:
    """The state of a replay; see :func:`flstore.simulator.replay`."""

    def __init__(
        self,
        trace: Trace,
        policy: Policy,
        capacity_bytes: int,
        clock: Clock | None,
        arrivals: NDArray[np.float64] | None,
    ) -> None:
        self._trace, self._policy, self._clock, self._arrivals = trace, policy, clock, arrivals
        self._state = State(instant=clock is None)
        settle(self._state, policy, FunctionJoined(0, capacity_bytes))
        self._function = self._state.functions[0]
        self._pending = dict(trace.rounds)
        # By job, the last first: rounds that nobody asks for and that are to come.
        self._silent: dict[int, list[int]] = {}
        self._all: dict[int, list[int]] = {}  # the same of all rounds, where requests say which exist
        self.service_s: dict[str, float] = {}
        self.outcome = np.full(len(trace.client), MISS, dtype=np.int8)
        self.loads = self.bytes_from_store = self.resident_peak_bytes = 0
        self._resident: list[tuple[int, int]] = []
        self._used = -1
        self._heedless = SAME_ROUND.get(type(policy), frozenset())
        self._ends: Iterator[int] | None = None
        self._end = 0
        self._last: tuple[int, int] | None = None
        self._took: list[tuple[Any, ...]] = []

    def all(self, ingest: str, progress: bool | None) -> None:
        """Every event of the trace, in order."""
        trace = self._trace
        if ingest == "posthoc":
            for one in list(self._pending.values()):
                self._ingest(one)
        elif ingest == "online":
            self._note_silent()
        by_time = sorted(self._pending.values(), key=lambda r: r.arrival_s)[::-1] if ingest == "timed" else []
        bar = bar_of(len(trace), len(trace.rounds), progress)
        number, count = 0, len(trace)
        while number < count:
            while by_time and self._arrivals is not None and by_time[-1].arrival_s <= self._arrivals[number]:
                self._deliver(by_time[-1].arrival_s)
                self._ingest(by_time.pop())
            if self._arrivals is not None:
                self._deliver(float(self._arrivals[number]))
            if ingest == "online":
                self._ingest_for(number)
            elif self._pending:
                self._check_there(number)
            done = self._request(number)
            number += done
            if bar is not None:
                bar.update(done)
        for one in by_time[::-1]:
            self._ingest(one)
        if bar is not None:
            bar.close()

    def resident(self) -> pd.DataFrame:
        """Bytes held after each request: one row a change."""
        return pd.DataFrame(self._resident, columns=["request", "resident_bytes"]).set_index("request")

    def requests(self) -> pd.DataFrame | None:
        """What each request took, with a link."""
        if self._clock is None:
            return None
        frame = pd.DataFrame(self._took, columns=TOOK)
        return frame.set_index(pd.RangeIndex(1, len(frame) + 1, name="request"))

    # --- rounds come in -----------------------------------------------------------------------------------------------

    def _note_silent(self) -> None:
        asked = set(self._asked())
        for job, round in list(self._trace.rounds)[::-1]:
            if self._trace.after is not None:
                self._all.setdefault(job, []).append(round)
            if (job, round) not in asked:
                self._silent.setdefault(job, []).append(round)

    def _asked(self) -> list[tuple[int, int]]:
        job, round = self._trace.job, self._trace.round
        if not len(round):
            return []
        change = np.ones(len(round), dtype=np.bool_)
        change[1:] = (round[1:] != round[:-1]) | (job[1:] != job[:-1])
        return list(zip(job[change].tolist(), round[change].tolist(), strict=True))

    def _ingest_for(self, number: int) -> None:
        """What a request finds there: its rounds, and the rounds before them that nobody asks for."""
        trace = self._trace
        if not self._pending:
            return
        rows = trace.rows(number)
        rounds = trace.round[rows]
        job = int(trace.job[rows][0])
        if trace.after is not None:
            everything, newest = self._all[job], int(trace.after[number])
            while everything and everything[-1] <= newest:
                one = self._pending.get((job, everything.pop()))
                if one is not None:
                    self._ingest(one)
        if len(rounds) == 1 and self._last == (job, rounds.item()):
            return
        self._last = (job, rounds.item()) if len(rounds) == 1 else None
        asked = distinct(rounds)
        latest = asked[-1]
        silent = self._silent.get(job)
        while silent and silent[-1] < latest:
            one = self._pending.get((job, silent.pop()))
            if one is not None:
                self._ingest(one)
        for round in asked:
            one = self._pending.get((job, round))
            if one is not None:
                self._ingest(one)

    def _check_there(self, number: int) -> None:
        trace = self._trace
        rows = trace.rows(number)
        job = int(trace.job[rows][0])
        for round in distinct(trace.round[rows]):
            if (job, round) in self._pending and self._arrivals is not None:
                raise InvalidParameterError(
                    f"request {number + 1} asks for round {round} at {self._arrivals[number]} s, and the round arrives "
                    f"at {self._pending[job, round].arrival_s} s: let it ask later, or use ingest='online'"
                )

    def _ingest(self, one: Round) -> None:
        del self._pending[one.job, one.round]
        for event in self._trace.ingests(one):
            actions, _ = settle(self._state, self._policy, event)
            self._note(actions)
            if self._clock is not None:
                self._clock.start(actions, [], 0.0)
                self._deliver(self._clock.now_s)

    # --- requests -----------------------------------------------------------------------------------------------------

    def _request(self, number: int) -> int:
        """One request, and those after it for the same round where they change nothing; how many these are."""
        rows, event = self._trace.rows(number), self._trace.request(number)
        if self._clock is not None:
            self._timed(event, rows)
            return 1
        alone = event.client is not None
        missing = [] if alone else self._look_up(event, rows)[0]
        actions, counts = settle(self._state, self._policy, event)
        if alone:
            self.outcome[rows] = HIT if counts.hits else MISS
            missing = list(event.keys) if counts.misses else missing
        self._note(actions, event, missing)
        return 1 + self._same_round(number, event)

    def _same_round(self, number: int, event: Requested) -> int:
        """Look up the requests after this one that this policy would not heed; how many there are."""
        if event.client is None or event.policy_class not in self._heedless:
            return 0
        first = number + 1
        end = self._next_round(number)
        if end > first:
            clients = self._trace.client[first:end]
            held, ready = self._held(event.keys[0], clients)
            self.outcome[first:end] = _codes(held, ready)
            if not held.all():
                keys = event.keys[0]
                self.bytes_from_store += self._bytes(KeySet(keys.job, keys.kind, keys.rounds, clients[~held]))
        return end - first

    def _next_round(self, number: int) -> int:
        """The first request after this one that is about another round, workload or job, or comes later."""
        if self._ends is None:
            trace, count = self._trace, len(self._trace)
            if trace.order is not None or count != len(trace.client):
                changes = np.arange(count)  # requests have several rows: each is looked up by itself
            else:
                differs = (trace.round[1:] != trace.round[:-1]) | (trace.workload[1:] != trace.workload[:-1])
                differs |= trace.job[1:] != trace.job[:-1]
                if trace.after is not None:
                    differs |= trace.after[1:] != trace.after[:-1]
                changes = np.flatnonzero(np.concatenate([[True], differs]))
            self._ends = iter([*changes[1:].tolist(), count])
        while self._end <= number:
            self._end = next(self._ends)
        return self._end

    def _timed(self, event: Requested, rows: Any) -> None:
        """A request at its time: what is late is waited for, what is missing is fetched."""
        clock = self._clock
        assert clock is not None
        missing, late = self._look_up(event, rows)
        objects, size_bytes = sum(map(len, missing)), sum(map(self._bytes, missing))
        fetch_s, wait_s = clock.takes_s(objects, size_bytes), clock.wait_s(late)
        actions, counts = settle(self._state, self._policy, event)
        clock.start(actions, missing, fetch_s)
        self._note(actions, event, missing)
        compute_s = self.service_s[event.workload]
        self._took.append(
            (event.job, event.workload, clock.now_s, counts.hits, counts.late_hits, counts.misses, size_bytes, objects,
             wait_s, fetch_s, compute_s, max(wait_s, fetch_s) + compute_s)
        )  # fmt: skip

    def _deliver(self, now_s: float) -> None:
        for loaded in self._clock.advance(now_s) if self._clock is not None else ():
            settle(self._state, self._policy, loaded)

    # --- notes --------------------------------------------------------------------------------------------------------

    def _look_up(self, event: Requested, rows: Any) -> tuple[list[KeySet], list[KeySet]]:
        """Note how each row stands before the event; what is missing, and what is on its way."""
        missing: list[KeySet] = []
        late: list[KeySet] = []
        outcome = self.outcome[rows]
        for keys in event.keys:
            assert isinstance(keys.clients, np.ndarray)
            held, ready = self._held(keys, keys.clients)
            for mask, into in ((~held, missing), (held & ~ready, late)):
                if mask.any():
                    into.append(KeySet(keys.job, keys.kind, keys.rounds, keys.clients[mask]))
            if len(event.keys) == 1 and len(keys) == len(outcome):
                outcome = _codes(held, ready)
            else:  # over several rounds, or with rows that name the same object
                mine = self._trace.round[rows] == keys.rounds
                outcome[mine] = _codes(*self._held(keys, self._trace.client[rows][mine]))
        self.outcome[rows] = outcome
        return missing, late

    def _held(self, keys: KeySet, clients: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which of these clients of the round of `keys` are held now; which of them are loaded."""
        assert isinstance(keys.rounds, int)
        table = self._state.table((keys.job, keys.kind, keys.rounds))
        assert table is not None
        rows = table.rows(clients)
        held: NDArray[np.bool_] = table.function[rows] != NOWHERE
        return held, held if self._clock is None else held & table.ready[rows]

    def _note(self, actions: list[Action], event: Requested | None = None, missing: Iterable[KeySet] = ()) -> None:
        for action in actions:
            if isinstance(action, Load) and action.source is Source.STORE:
                self.loads += len(action.keys)
                self.bytes_from_store += action.size_bytes
        for keys in missing:  # what the policy does not hold from now on was fetched for this request alone
            found = find(self._state, keys)
            if found is not None:
                if found[1].function[found[2]] == NOWHERE:
                    self.bytes_from_store += found[1].sizes.item(found[2])
                continue
            assert isinstance(keys.clients, np.ndarray)
            alone = keys.clients[~self._held(keys, keys.clients)[0]]
            self.bytes_from_store += self._bytes(KeySet(keys.job, keys.kind, keys.rounds, alone))
        used = self._function.used_bytes
        if used > self.resident_peak_bytes:
            self.resident_peak_bytes = used
        if event is not None and used != self._used:
            self._resident.append((event.request, used))
            self._used = used

    def _bytes(self, keys: KeySet) -> int:
        return sum(int(t.sizes[rows].sum()) for _, t, _, rows in self._state.resolve(keys) if t is not None)


def _codes(held: NDArray[np.bool_], ready: NDArray[np.bool_]) -> NDArray[np.int8]:
    """0 for a hit, 1 for a late hit, 2 for a miss."""
    return np.int8(MISS) - held.view(np.int8) - ready.view(np.int8)

"""What each class would have held of a request, had it been followed: worked out from its rule, without following it.

The rules are those of :mod:`flstore.policies.p1` to ``p4`` with memory for all that they want; nothing is loaded and no
set of objects is kept, so that a request costs a few look-ups whatever its size.
"""

from __future__ import annotations

from collections.abc import Iterator

from flstore.policies.base import View
from flstore.types import Deleted, IntArray, KeySet, Kind, PolicyClass, Requested

SAMPLE = 32
"""Of larger sets, so many objects are looked at where the rule is about single objects (P1 and P3)."""


class Ghosts:
    """The four classes as they would stand for one workload of one job.

    Parameters
    ----------
    job : int
        The job.
    last, window, rounds, cursors : int
        Parameters of the classes.
    """

    __slots__ = ("_asked", "_at", "_cursors", "_job", "_last", "_reads", "_recent", "_rounds", "_window")

    def __init__(self, job: int, last: int, window: int, rounds: int, cursors: int) -> None:
        self._job, self._last, self._window, self._rounds, self._cursors = job, last, window, rounds, cursors
        self._recent: dict[tuple[Kind, int, int], None] = {}
        self._asked: int | None = None
        self._reads: set[int] = set()
        self._at: dict[int, int] = {}

    def shares(self, event: Requested, view: View) -> tuple[float, float, float, float]:
        """The part of its keys that P1, P2, P3 and P4 would have held, each from 0 to 1."""
        total = 0
        p1 = p2 = p3 = p4 = 0.0
        for keys in event.keys:
            kind = keys.kind
            for round, clients in keys.by_round():
                n = len(clients)
                total += n
                p1 += self._p1(kind, round, clients, view)
                if kind is Kind.UPDATE:
                    p2 += n if self._p2(round, view) else 0
                    p3 += self._p3(round, clients, view)
                elif kind is Kind.METADATA:
                    p4 += n if self._p4(round, view) else 0
                elif any(self._p2(round - offset, view) for offset in self._reads):
                    p2 += n
        if total < 2:
            return p1, p2, p3, p4
        return p1 / total, p2 / total, p3 / total, p4 / total

    def _p1(self, kind: Kind, round: int, clients: IntArray, view: View) -> float:
        if kind is Kind.AGGREGATE and round == view.latest(self._job, Kind.AGGREGATE):
            return len(clients)
        if not self._recent:
            return 0.0
        few, of_each = _sample(clients)
        return of_each * sum((kind, round, client) in self._recent for client in few)

    def _p2(self, round: int, view: View) -> bool:
        asked, latest = self._asked, view.latest(self._job)
        if asked is None or latest is None:
            return False
        if latest - asked <= self._window:
            return asked <= round <= latest
        return round in (asked, latest) or round == view.next_round(self._job, asked)

    def _p3(self, round: int, clients: IntArray, view: View) -> float:
        few, of_each = _sample(clients)
        held = 0
        for client in few:
            at = self._at.get(client)
            if at is not None and at <= round:
                held += at == round or view.next_participation(self._job, client, at) == round
        return of_each * held

    def _p4(self, round: int, view: View) -> bool:
        newest = view.newest(self._job, self._rounds, Kind.METADATA)
        return bool(newest) and round >= newest[0]

    def footprints(self, view: View) -> tuple[float, float, float, float]:
        """The bytes that P1, P2, P3 and P4 would take, taking objects of a kind for equally large."""
        latest = view.latest(self._job)
        update = rounds = 0
        if latest is not None:
            clients = view.participants(self._job, latest)
            update = int(view.size(KeySet(self._job, Kind.UPDATE, latest, clients[:1]))[0])
            if self._asked is not None:
                ahead = len(view.rounds(self._job, self._asked, latest))
                rounds = len(clients) * (ahead if latest - self._asked <= self._window else min(3, ahead))
        metadata = self._metadata_bytes(view)
        return len(self._recent) * update, rounds * update, 2 * len(self._at) * update, metadata

    def _metadata_bytes(self, view: View) -> int:
        newest = view.newest(self._job, self._rounds, Kind.METADATA)
        if not newest:
            return 0
        clients = view.participants(self._job, newest[-1], Kind.METADATA)
        return len(newest) * int(view.size(KeySet(self._job, Kind.METADATA, newest[-1], clients)).sum())

    # --- what they remember -----------------------------------------------------------------------------------------

    def see(self, event: Requested) -> None:
        """Take in a request that was judged."""
        updates = []
        for keys in event.keys:
            for round, clients in keys.by_round():
                self._remember(keys.kind, round, clients)
                if keys.kind is Kind.UPDATE:
                    updates.append((round, clients))
        if updates:
            if len(updates) > 1:
                updates.sort(key=lambda part: part[0])
            for round, clients in updates:
                self._follow(round, clients)
            newest = self._asked = updates[-1][0]
            for keys in event.keys:
                if keys.kind is Kind.AGGREGATE:
                    self._reads.update(r - newest for r, _ in keys.by_round())

    def _remember(self, kind: Kind, round: int, clients: IntArray) -> None:
        recent = self._recent
        for client in clients[-self._last :].tolist() if self._last else ():
            key = (kind, round, client)
            recent.pop(key, None)
            recent[key] = None
        while len(recent) > self._last:
            del recent[next(iter(recent))]

    def _follow(self, round: int, clients: IntArray) -> None:
        at = self._at
        for client in clients.tolist():
            at.pop(client, None)
            at[client] = round
        while len(at) > self._cursors:
            del at[next(iter(at))]

    def forget(self, event: Deleted) -> None:
        """Objects do not exist any more."""
        for keys in event.keys:
            if keys.job == self._job:
                for round, client in keys.pairs():
                    self._recent.pop((keys.kind, round, client), None)

    def past(self, policy_class: PolicyClass) -> Iterator[KeySet]:
        """What a class has to be asked for, in order, to stand where it would stand (P2 goes by the last request)."""
        if policy_class is PolicyClass.P1:
            for kind, round, client in self._recent:
                yield KeySet.of_client(self._job, kind, client, [round])
        elif policy_class is PolicyClass.P3:
            by_round: dict[int, list[int]] = {}
            for client, round in self._at.items():
                by_round.setdefault(round, []).append(client)
            for round, clients in by_round.items():
                yield KeySet.of_round(self._job, Kind.UPDATE, round, clients)


def _sample(clients: IntArray) -> tuple[list[int], float]:
    """Some of the clients, evenly spaced, and for how many each of them stands."""
    n = len(clients)
    if n <= SAMPLE:
        return clients.tolist(), 1.0
    few = clients[:: n // SAMPLE][:SAMPLE].tolist()
    return few, n / len(few)

"""Table 3's rules over again, in plain Python sets and without an engine: what a replay is compared with.

Nothing here is shared with the code under test but the table of policy classes. Memory is unlimited for the classes,
and counted in updates for LRU. What is held is worked out anew from the rules before every request, which is slow and
hard to get wrong.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from flstore.policies.taxonomy import CLASS_OF

WINDOW = 10
METADATA_ROUNDS = 10
REQUESTED_KEPT = 10

Key = tuple[Any, str, int, Any]
"""(job, "update" or "metadata", round, client)."""


@dataclass
class Request:
    """Rows that form one request; `keys` in the order of their rounds, then of their rows."""

    job: Any
    workload: str
    keys: list[Key]
    rows: list[int]


@dataclass
class World:
    """What exists, and the past that the rules look at."""

    clients: dict[tuple[Any, str], dict[int, list[Any]]] = field(default_factory=lambda: defaultdict(dict))
    p2: dict[tuple[Any, str], int] = field(default_factory=dict)
    p3: dict[tuple[Any, str, Any], int] = field(default_factory=dict)
    p1: list[Key] = field(default_factory=list)

    def rounds(self, job: Any, kind: str = "update") -> list[int]:
        return sorted(self.clients[job, kind])

    def keys(self, job: Any, kind: str, rounds: set[int]) -> set[Key]:
        there = self.clients[job, kind]
        return {(job, kind, r, c) for r in rounds if r in there for c in there[r]}

    def held_by_p1(self) -> set[Key]:
        return set(self.p1)

    def held_by_p2(self) -> set[Key]:
        held: set[Key] = set()
        for (job, _), at in self.p2.items():
            rounds = self.rounds(job)
            later = [r for r in rounds if r > at]
            if rounds[-1] - at <= WINDOW:
                wanted = {r for r in rounds if r >= at}
            else:
                wanted = {at, *later[:1], rounds[-1]}
            held |= self.keys(job, "update", wanted)
        return held

    def held_by_p3(self) -> set[Key]:
        held: set[Key] = set()
        for (job, _, client), at in self.p3.items():
            took_part = [r for r in self.rounds(job) if client in self.clients[job, "update"][r]]
            held |= {(job, "update", r, client) for r in [at, *[r for r in took_part if r > at][:1]]}
        return held

    def held_by_p4(self) -> set[Key]:
        jobs = [job for job, kind in list(self.clients) if kind == "metadata"]
        recent = {job: set(self.rounds(job, "metadata")[-METADATA_ROUNDS:]) for job in jobs}
        return {key for job, rounds in recent.items() for key in self.keys(job, "metadata", rounds)}

    def requested(self, request: Request, classes: set[str]) -> None:
        if "P1" in classes:
            for key in request.keys:
                self.p1 = [k for k in self.p1 if k != key] + [key]
            self.p1 = self.p1[-REQUESTED_KEPT:]
        updates = [key for key in request.keys if key[1] == "update"]
        if "P2" in classes and updates:
            self.p2[request.job, request.workload] = max(r for _, _, r, _ in updates)
        if "P3" in classes:
            for client in {c for *_, c in updates}:
                newest = max(r for _, _, r, c in updates if c == client)
                self.p3[request.job, request.workload, client] = newest


def events(
    requests: pd.DataFrame, participation: pd.DataFrame | None = None, ingest: str = "online"
) -> Iterator[tuple[list[Key], Request | None]]:
    """Ingests (keys and None) and requests (no keys and the request) in the order in which they happen."""
    rows = _filled(requests)
    taken = rows if participation is None else _filled(participation)
    kinds = sorted({_kind(row["workload"]) for row in rows}, key=["update", "metadata"].index)
    rounds: dict[tuple[Any, int], list[Any]] = {}
    for p in taken:
        who = rounds.setdefault((p["job"], p["round"]), [])
        if p["client"] not in who:
            who.append(p["client"])
    asked = {(row["job"], row["round"]) for row in rows}

    def take_in(job: Any, round: int) -> Iterator[tuple[list[Key], None]]:
        clients = rounds.pop((job, round), None)
        if clients is not None:
            for kind in kinds:
                yield [(job, kind, round, c) for c in clients], None

    if ingest == "posthoc":
        jobs = list(dict.fromkeys(job for job, _ in rounds))  # in order: job by job, as they appear
        for job, round in sorted(rounds, key=lambda at: (jobs.index(at[0]), at[1])):
            yield from take_in(job, round)
    for request in _requests(rows):
        needed = sorted({r for _, _, r, _ in request.keys})
        never = [r for job, r in rounds if job == request.job and r < needed[-1] and (job, r) not in asked]
        for round in sorted(never) + needed:
            yield from take_in(request.job, round)
        yield [], request


def classify(
    requests: pd.DataFrame, policy: str, participation: pd.DataFrame | None = None, ingest: str = "online"
) -> list[str]:
    """``hit`` or ``miss`` for each row under ``p1`` to ``p4`` or ``tailored``, memory unlimited."""
    world = World()
    outcome = ["?"] * len(requests)
    known = ["P1", "P2", "P3", "P4"] if policy == "tailored" else [policy.upper()]
    for keys, request in events(requests, participation, ingest):
        for job, kind, round, client in keys:
            world.clients[job, kind].setdefault(round, []).append(client)
        if request is not None:
            held = set().union(*(getattr(world, f"held_by_{name.lower()}")() for name in known))
            _note(outcome, request, requests, held)
            own = str(CLASS_OF[request.workload])
            world.requested(request, {own} if policy == "tailored" else set(known))
    return outcome


def classify_lru(
    requests: pd.DataFrame, capacity: int, fill: str, participation: pd.DataFrame | None = None, ingest: str = "online"
) -> list[str]:
    """``hit`` or ``miss`` for each row under least recently used with room for `capacity` updates."""
    cache: OrderedDict[Key, None] = OrderedDict()
    outcome = ["?"] * len(requests)

    def use(keys: list[Key]) -> None:
        for key in keys:
            cache[key] = None
            cache.move_to_end(key)
            if len(cache) > capacity:
                cache.popitem(last=False)

    for keys, request in events(requests, participation, ingest):
        if request is not None:
            _note(outcome, request, requests, set(cache))
            use(request.keys)
        elif fill == "write-allocate":
            use(keys)
    return outcome


def _note(outcome: list[str], request: Request, requests: pd.DataFrame, held: set[Key]) -> None:
    kind = _kind(request.workload)
    for row in request.rows:
        key = (request.job, kind, int(requests["round"].iloc[row]), requests["client"].iloc[row])
        outcome[row] = "hit" if key in held else "miss"


def _requests(rows: list[dict[str, Any]]) -> list[Request]:
    found: dict[Any, Request] = {}
    for i, row in enumerate(rows):
        request = found.setdefault(row["request"], Request(row["job"], row["workload"], [], []))
        request.rows.append(i)
        key = (row["job"], _kind(row["workload"]), row["round"], row["client"])
        if key not in request.keys:
            request.keys.append(key)
    for request in found.values():
        request.keys.sort(key=lambda key: key[2])
    return list(found.values())


def _filled(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {"job": "default", "workload": "clustering", "request": i, **row}
        for i, row in enumerate(frame.to_dict(orient="records"))
    ]


def _kind(workload: str) -> str:
    return "metadata" if str(CLASS_OF[workload]) == "P4" else "update"

"""The state that the engine decides on.

Logical, never physical: an object counts as held from the decision to load it, and capacity is counted in logical
bytes. So decisions depend on the order of ingests and requests alone, not on how fast anything moved.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from flstore.engine.standing import Standing
from flstore.engine.table import NOWHERE, RoundTable, distinct
from flstore.engine.wants import Slot, WantLedger
from flstore.types import Group, IntArray, KeySet, Kind


@dataclass(slots=True)
class FunctionState:
    """One cache function as the engine sees it."""

    capacity_bytes: int
    incarnation: str = ""
    used_bytes: int = 0
    copy_bytes: int = 0
    leaving: bool = False

    @property
    def free_bytes(self) -> int:
        """Logical bytes that neither objects nor copies of objects take."""
        return self.capacity_bytes - self.used_bytes


@dataclass(slots=True)
class Waiting:
    """Wanted objects that found no room."""

    priority: int
    order: int
    group: Group
    slot: Slot
    rows: IntArray
    refused: bool = False
    ingested: bool = False


class OnTheWay(NamedTuple):
    """Loads that are not done yet."""

    size_bytes: int
    generations: set[int]
    objects: int


class State:
    """All that the engine knows. Only :func:`flstore.engine.step` changes it.

    Parameters
    ----------
    instant : bool
        Loads are ready as soon as they are decided (the simulator without time).
    replicas : int
        Copies of each held object on functions other than its own, as far as there is room.
    """

    def __init__(self, *, instant: bool = False, replicas: int = 0) -> None:
        self.instant = instant
        self.replicas = replicas
        self.functions: dict[int, FunctionState] = {}
        self.tables: dict[tuple[int, Kind], dict[int, RoundTable]] = {}
        self.rounds: dict[tuple[int, Kind], list[int]] = {}
        self.ledger = WantLedger()
        self.waiting: list[Waiting] = []
        self.may_fit = False  # whether anything happened since the last fill that could let a waiting object in
        self.hot: dict[Slot, int] = {}  # further copies that a slot gets because requests for it queue
        self.copied: dict[Slot, None] = {}  # slots with copies, the oldest copies first
        self.short: dict[Slot, None] = {}  # slots that may lack copies
        self.bereft: dict[Slot, None] = {}  # slots whose copies could not be loaded; tried again when asked for
        self.striped: dict[Slot, tuple[int, ...]] = {}  # slots held in parts, with the function of each part
        self.derived: dict[Slot, dict[str, None]] = {}  # what workloads shall find computed, while the slot is wanted
        self.underived: dict[Slot, None] = {}  # of these, slots of which it is not, or not any more
        self.standing = Standing()  # what was found about requests since the last change
        self.generation = 0
        self.sequence = 0
        self._chains: dict[tuple[int, int], list[int]] = {}
        self._chained: dict[int, set[int]] = {}

    # --- look-up --------------------------------------------------------------------------------------------------

    def table(self, slot: Slot) -> RoundTable | None:
        """The table at `slot`, or None."""
        tables = self.tables.get(slot[:2])
        return None if tables is None else tables.get(slot[2])

    def slots(self) -> Iterator[tuple[Slot, RoundTable]]:
        """Every table with its address, in a fixed order."""
        for (job, kind), tables in self.tables.items():
            for round in self.rounds[job, kind]:
                yield (job, kind, round), tables[round]

    def resolve(self, keys: KeySet) -> Iterator[tuple[Slot, RoundTable | None, IntArray, IntArray]]:
        """Yield (slot, table, clients, rows) for each round of `keys`; a row of -1 is unknown."""
        if isinstance(keys.rounds, int):  # a generator less for what nearly every key set is
            slot, clients = (keys.job, keys.kind, keys.rounds), keys.clients
            table = self.table(slot)
            assert isinstance(clients, np.ndarray)
            rows = table.rows(clients) if table is not None else np.full(len(clients), -1, dtype=np.int64)
            yield slot, table, clients, rows
            return
        for round, clients in keys.by_round():
            slot = (keys.job, keys.kind, round)
            table = self.table(slot)
            rows = table.rows(clients) if table is not None else np.full(len(clients), -1, dtype=np.int64)
            yield slot, table, clients, rows

    def where(self, keys: KeySet) -> IntArray:
        """The function that holds each object, ``NOWHERE`` for none."""
        parts = [
            np.where(rows >= 0, table.function[rows], NOWHERE) if table is not None else np.full(len(rows), NOWHERE)
            for _, table, _, rows in self.resolve(keys)
        ]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)

    def since(self, keys: KeySet) -> IntArray:
        """The last load that was decided before each object came to exist; 0 for what does not exist."""
        parts = [
            np.where(rows >= 0, table.since[rows], 0) if table is not None else np.zeros(len(rows), dtype=np.int64)
            for _, table, _, rows in self.resolve(keys)
        ]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)

    def copies_wanted(self, slot: Slot) -> int:
        """How many functions beside the primary shall hold what is held of this slot.

        What is held in parts has no copies; its second copy is in the persistent store.
        """
        if slot in self.striped:
            return 0
        return self.replicas + self.hot.get(slot, 0) if self.hot else self.replicas

    def holds(self, function: int, keys: KeySet, before: int | None = None) -> NDArray[np.bool_]:
        """Whether `function` holds each object, as primary or as a copy, ready or not.

        With `before`, only what a load of a lower generation put there, or puts there.
        """
        parts = []
        for _, table, _, rows in self.resolve(keys):
            held = np.zeros(len(rows), dtype=np.bool_)
            for layer in table.layers() if table is not None else ():
                here = (rows >= 0) & (layer.function[rows] == function)
                held |= here if before is None else here & (layer.generation[rows] < before)
            parts.append(held)
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.bool_)

    def loading(self, held: Iterable[tuple[int, KeySet]]) -> OnTheWay:
        """The loads to these functions that are not done yet."""
        size_bytes, generations, objects = 0, set[int](), 0
        for function, keys in held:
            for _, table, _, rows in self.resolve(keys):
                for layer in table.layers() if table is not None else ():
                    mine = rows[rows >= 0]
                    mine = mine[(layer.function[mine] == function) & ~layer.ready[mine]]
                    size_bytes += table.bytes_each(mine)  # type: ignore[union-attr]
                    generations.update(layer.generation[mine].tolist())
                    objects += len(mine)
        return OnTheWay(size_bytes, generations, objects)

    def spoil(self, slot: Slot) -> None:
        """Note that what was derived from a slot went with something that was moved or lost."""
        if slot in self.derived:
            self.underived[slot] = None

    def participations(self, job: int, client: int) -> list[int]:
        """Rounds with an update of `client`, ascending. Built on first use, kept up to date from then on."""
        chain = self._chains.get((job, client))
        if chain is None:
            who = np.array([client], dtype=np.int64)
            tables = self.tables.get((job, Kind.UPDATE), {})
            chain = [r for r in self.rounds.get((job, Kind.UPDATE), []) if tables[r].rows(who)[0] >= 0]
            if chain:
                self._chains[job, client] = chain
                self._chained.setdefault(job, set()).add(client)
        return chain

    def holdings(self) -> dict[int, dict[Slot, IntArray]]:
        """For each function the clients of each slot that it holds: what an inventory should find."""
        found: dict[int, dict[Slot, IntArray]] = {f: {} for f in self.functions}
        for slot, table in self.slots():
            for layer in table.layers():
                for f in distinct(layer.function[layer.function != NOWHERE]):
                    mine = table.clients[layer.function == f]
                    found[f][slot] = np.sort(np.concatenate([found[f].get(slot, mine[:0]), mine]))
        return found

    # --- change (used by core) ------------------------------------------------------------------------------------

    def register(self, keys: KeySet, sizes: IntArray) -> bool:
        """Note that objects exist; whether some did before. Those get their new size (metadata may grow)."""
        if not isinstance(keys.rounds, int):
            raise TypeError("objects are ingested round by round")
        slot = (keys.job, keys.kind, keys.rounds)
        tables = self.tables.setdefault((keys.job, keys.kind), {})
        table = tables.get(keys.rounds)
        if table is None:
            table = tables[keys.rounds] = RoundTable()
            bisect.insort(self.rounds.setdefault((keys.job, keys.kind), []), keys.rounds)
        clients = keys.clients
        assert isinstance(clients, np.ndarray)
        rows = table.rows(clients)
        new = rows < 0
        if new.all():
            table.add(clients, sizes, self.generation)
            if slot[1] is Kind.UPDATE:
                self._extend_chains(slot[0], slot[2], clients)
            return False
        if new.any():
            table.add(clients[new], sizes[new], self.generation)
            if slot[1] is Kind.UPDATE:
                self._extend_chains(slot[0], slot[2], clients[new])
        known = rows[~new]
        for f in distinct(table.function[known]):
            if f != NOWHERE:
                mine = table.function[known] == f
                grown = int(sizes[~new][mine].sum() - table.sizes[known[mine]].sum())
                self.functions[f].used_bytes += grown
                self.may_fit |= grown < 0
        table.sizes[known] = sizes[~new]
        return True

    def _extend_chains(self, job: int, round: int, clients: IntArray) -> None:
        chained = self._chained.get(job)
        if chained:
            for client in chained.intersection(clients.tolist()):
                bisect.insort(self._chains[job, client], round)

    def shorten_chains(self, job: int, round: int, clients: IntArray) -> None:
        """Note that these clients have no update in `round` any more."""
        for client in self._chained.get(job, set()).intersection(clients.tolist()):
            chain = self._chains[job, client]
            chain.remove(round)
            if not chain:
                del self._chains[job, client]
                self._chained[job].discard(client)

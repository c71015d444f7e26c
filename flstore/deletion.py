"""Deletes what a client, some rounds or a whole job left behind: from memory, and from the persistent store."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from flstore.catalogue import Catalogue
from flstore.errors import FunctionLostError, InvalidParameterError, UnknownNameError
from flstore.functions import wire
from flstore.persistence import ObjectStore, Removed, Writer, remove
from flstore.persistence.layout import round_path
from flstore.persistence.removal import wanted
from flstore.persistence.waiting import Doomed
from flstore.types import NO_CLIENT, Deleted, Drop, KeySet, Kind

if TYPE_CHECKING:
    from flstore.functions.pool import FunctionPool


class Deletions:
    """Deletions from one system, one at a time.

    Parameters
    ----------
    catalogue, objects, writer
        What exists, where it is stored, and what is being written.
    rows, signatures : dict by round
        What the system remembers of metadata and tensors.
    ingest_lock : lock
        Held while something is taken in.
    tell : callable
        Notes that objects do not exist any more; returns what functions were told.
    confirm : callable
        Waits until functions have done that.
    settle : callable
        Waits until what was handed over is taken in.

    Attributes
    ----------
    alone : lock
        Whoever deletes holds it.
    unfinished : frozenset of int
        Rounds that are forgotten, but may still be in the persistent store; nothing may be ingested into them.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        objects: ObjectStore,
        writer: Writer,
        rows: MutableMapping[int, dict[str, Any]],
        signatures: MutableMapping[int, Any],
        ingest_lock: threading.RLock,  # type: ignore[valid-type]
        tell: Callable[[Deleted], list[Drop]],
        confirm: Callable[[list[Drop]], None],
        settle: Callable[[], None],
    ) -> None:
        self._catalogue, self._objects, self._writer = catalogue, objects, writer
        self._rows, self._signatures = rows, signatures
        self._ingest_lock: Any = ingest_lock
        self._tell, self._confirm, self._settle = tell, confirm, settle
        self.alone = threading.RLock()
        self.unfinished: frozenset[int] = frozenset()

    def delete(
        self, client: str | None, rounds: Iterable[int] | None, job: str | None, progress: bool = True
    ) -> Removed:
        """See :meth:`flstore.system.System.delete`."""
        doomed = self._checked(client, rounds, job)
        with self.alone, self._ingest_lock:
            self._settle()
            self._must_exist(doomed)
            drops = self.forget(doomed)
            self._writer.give_up(doomed)
            self._confirm(drops)
            removed = remove(self._objects, doomed.job, client=doomed.client, rounds=doomed.rounds, progress=progress)
            if doomed.client is None:
                self.unfinished = frozenset(r for r in self.unfinished if not doomed.concerns((self._catalogue.job, r)))
        return replace(removed, memory_copies=sum(len(drop.keys) for drop in drops))

    def forget(self, doomed: Doomed) -> list[Drop]:
        """Let memory forget it, here and in the functions; returns what those were told, and does not wait for them."""
        if doomed.job != self._catalogue.job:
            return []
        with self._ingest_lock:
            with self._catalogue.lock:
                keys = _key_sets(self._catalogue, doomed)
                drops = self._tell(Deleted(keys)) if keys else []
                if doomed.client is None:
                    told = self._catalogue.told_closed
                    told.difference_update([r for r in told if doomed.concerns((doomed.job, r))])
            for r in [r for r in self._rows if doomed.concerns((doomed.job, r))]:
                self._rows[r].pop(doomed.client or "", None)
                if doomed.client is None:
                    del self._rows[r]
            for r in [r for r in self._signatures if doomed.concerns((doomed.job, r))]:
                if doomed.client is None or (self._signatures[r] or (None,))[0] == doomed.client:
                    del self._signatures[r]
        return drops

    def erase(self, doomed: Doomed) -> None:
        """Remove rounds from the persistent store after they were forgotten, beside ingests of other rounds."""
        self._writer.give_up(doomed)
        remove(
            self._objects,
            doomed.job,
            rounds=doomed.rounds,
            keep_aggregates=doomed.keep_aggregates,
            progress=False,
        )

    def _checked(self, client: str | None, rounds: Iterable[int] | None, job: str | None) -> Doomed:
        given = {"client": client, "rounds": rounds, "job": job}
        if sum(value is not None for value in given.values()) != 1:
            said = ", ".join(f"{name}={value!r}" for name, value in given.items() if value is not None)
            raise InvalidParameterError(f"delete takes exactly one of client=, rounds= and job=, got {said or 'none'}")
        name = None if client is None else str(client)
        chosen = wanted(self._catalogue.job if job is None else job, name, rounds)
        if chosen is not None and not chosen:
            raise InvalidParameterError("rounds is empty; name at least one round to delete")
        return Doomed(self._catalogue.job if job is None else job, name, None if chosen is None else frozenset(chosen))

    def _must_exist(self, doomed: Doomed) -> None:
        """What memory does not know may still be stored, when a deletion failed half way."""
        catalogue, objects = self._catalogue, self._objects
        if doomed.job != catalogue.job:
            if doomed.job not in (jobs := objects.jobs()):
                raise UnknownNameError.of("job", doomed.job, jobs)
            return
        with catalogue.lock:
            known = _key_sets(catalogue, doomed)
        if doomed.client is not None and not known and not self._is_stored(doomed.client):
            catalogue.rounds_of(doomed.client)  # raises, naming those that exist
        for r in sorted(frozenset(doomed.rounds or ()) - {r for keys in known for r, _ in keys.by_round()}):
            if not objects.files(round_path(doomed.job, r)):
                catalogue.clients(r)  # raises, naming those that exist

    def _is_stored(self, client: str) -> bool:
        listing = self._objects.listing(self._catalogue.job)
        return any(
            client in clients or (has_metadata and client in self._objects.get_metadata(self._catalogue.job, r)[0])
            for r, clients, _, has_metadata in listing
        )


def _key_sets(catalogue: Catalogue, doomed: Doomed) -> tuple[KeySet, ...]:
    """What of it the index knows."""
    job, state = catalogue.number, catalogue.state
    there = [(kind, r, t) for (j, kind, r), t in state.slots() if j == job and doomed.concerns((catalogue.job, r))]
    if doomed.client is not None:
        number = catalogue.ids.find(doomed.client)
        if number is None:
            return ()
        mine = [(kind, r) for kind, r, table in there if table.rows(np.array([number]))[0] >= 0]
        rounds = {kind: [r for k, r in mine if k is kind] for kind in (Kind.UPDATE, Kind.METADATA)}
        return tuple(KeySet.of_client(job, kind, number, found) for kind, found in rounds.items() if found)
    parts = [KeySet.of_round(job, kind, r, t.clients) for kind, r, t in there if kind is not Kind.AGGREGATE]
    models = [r for kind, r, _ in there if kind is Kind.AGGREGATE and r not in doomed.keep_aggregates]
    return (*parts, *([KeySet.of_client(job, Kind.AGGREGATE, NO_CLIENT, models)] if models else []))


async def confirm_drops(pool: FunctionPool, catalogue: Catalogue, drops: list[Drop]) -> None:
    """Ask functions again to drop objects, and wait until they say that they did.

    One that does not answer is not waited for: the drop reaches it when it answers again, and one that was given up
    drops what the index does not know when it comes back.
    """

    async def one(drop: Drop) -> None:
        function = pool.functions.get(drop.function)
        if function is None:
            return
        keys = wire.pack([wire.key_values(key) for key in catalogue.keys(drop.keys)])
        call = asyncio.ensure_future(
            pool.call(drop.function, "drop", function.incarnation, keys=keys, generation=drop.generation)
        )
        silent = asyncio.ensure_future(function.silent.wait())
        try:
            await asyncio.wait([call, silent], return_when=asyncio.FIRST_COMPLETED)
            if call.done():
                with contextlib.suppress(FunctionLostError):
                    call.result()
        finally:
            call.cancel()
            silent.cancel()

    await asyncio.gather(*(one(drop) for drop in drops))

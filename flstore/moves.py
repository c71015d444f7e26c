"""Carries out what the engine decided about data: loads and drops, in the background, in the order of the decisions."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from flstore.catalogue import Catalogue
from flstore.errors import FLStoreError, FunctionLostError
from flstore.functions import wire
from flstore.parts import cut_buffer, part_bytes, pieces
from flstore.types import Drop, Event, Key, Kind, Load, Loaded, LoadFailed, Part

if TYPE_CHECKING:
    from flstore.functions.pool import FunctionPool


class Moves:
    """Loads and drops on their way.

    Parameters
    ----------
    pool : FunctionPool
        Where they go.
    catalogue : Catalogue
        For the names of keys.
    report : callable
        Takes the events ``Loaded`` and ``LoadFailed`` that a load ends with.
    """

    def __init__(self, pool: FunctionPool, catalogue: Catalogue, report: Callable[[Event], Any]) -> None:
        self._pool = pool
        self._catalogue = catalogue
        self._report = report
        self._loads: dict[int, asyncio.Task[None]] = {}
        self._held_back: dict[int, asyncio.Event] = {}
        self._busy: Counter[int] = Counter()
        self._idle = threading.Condition()
        # For each function one part at a time is in memory beside the object that it is cut from.
        self._cutting: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    def start(
        self, action: Load | Drop, incarnation: str, at_hand: Mapping[Key, Any], after: Future[Any] | None = None
    ) -> None:
        """Begin a load or drop on the event loop. To be called in the order of the decisions.

        Parameters
        ----------
        action : Load or Drop
            What was decided.
        incarnation : str
            Of the function that it was decided for: a restarted one must not get it.
        at_hand : dict of Key to buffer
            Objects that are sent from here (just ingested, or not durable yet); the function fetches the others itself.
        after : Future, optional
            A prefetch waits for the request that caused it, so as not to compete with it; until somebody needs it.
        """
        keys = self._catalogue.keys(action.keys)
        with self._idle:
            self._busy[action.function] += 1

        def begin() -> None:
            go = self._hold_back(action, after) if after is not None else None
            task = self._pool.loop.create_task(self._move(action, incarnation, keys, at_hand, go))
            if isinstance(action, Load):
                self._loads[action.generation] = task
            task.add_done_callback(lambda _: self._ended(action))

        self._pool.loop.call_soon_threadsafe(begin)

    def _hold_back(self, action: Load | Drop, after: Future[Any]) -> asyncio.Event:
        go = self._held_back[action.generation] = asyncio.Event()

        def release(_: Future[Any]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nothing moves any more
                self._pool.loop.call_soon_threadsafe(go.set)

        after.add_done_callback(release)
        return go

    def _release_all(self) -> None:
        for go in self._held_back.values():
            go.set()

    def wait(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Block until nothing is on its way; prefetches that still hold back begin now.

        What is on its way to a function that does not answer is not waited for.
        """
        self._pool.loop.call_soon_threadsafe(self._release_all)
        with self._idle:
            while any(n and f not in self._pool.silent() for f, n in self._busy.items()) and not stop():
                self._idle.wait(0.2)

    async def wait_for(self, generations: Iterable[int]) -> None:
        """Wait for loads by their generation (on the event loop)."""
        needed = list(generations)
        for generation in needed:
            if generation in self._held_back:
                self._held_back[generation].set()
        loads = [self._loads[g] for g in needed if g in self._loads]
        if loads:
            await asyncio.wait(loads)

    def _ended(self, action: Load | Drop) -> None:
        if isinstance(action, Load):
            self._loads.pop(action.generation, None)
            self._held_back.pop(action.generation, None)
        with self._idle:
            self._busy[action.function] -= 1
            self._idle.notify_all()

    async def _move(
        self,
        action: Load | Drop,
        incarnation: str,
        keys: list[Key],
        at_hand: Mapping[Key, Any],
        go: asyncio.Event | None,
    ) -> None:
        if go is not None:
            await go.wait()
        try:
            if isinstance(action, Drop):
                await self._call(action, incarnation, "drop", keys)
                return
            failed = await self._load(action, incarnation, keys, at_hand, background=go is not None)
        except FunctionLostError:
            return  # the engine hears of it as FunctionLost, and decides anew
        except FLStoreError as error:
            failed = [(key, str(error)) for key in keys]
        if isinstance(action, Load):
            self._tell(action, keys, failed)

    def _tell(self, action: Load, keys: list[Key], failed: list[tuple[Key, str]]) -> None:
        if failed:
            reasons = "; ".join(sorted({reason for _, reason in failed})[:3])
            for part in self._catalogue.key_sets(key for key, _ in failed):
                self._report(LoadFailed(action.function, part, reasons, action.generation))
        if len(failed) < len(keys):
            self._report(Loaded(action.function, action.keys, action.generation))

    async def _load(
        self, action: Load, incarnation: str, keys: list[Key], at_hand: Mapping[Key, Any], background: bool
    ) -> list[tuple[Key, str]]:
        """Send what is here, one update at a time, and let the function fetch the rest; returns what failed and why."""
        if action.part is not None:
            return await self._load_parts(action, action.part, incarnation, keys, at_hand, background)
        failed: list[Any] = []
        metadata = [key for key in at_hand if key.kind is Kind.METADATA]
        tensors = [[key] for key in at_hand if key.kind is not Kind.METADATA]
        for batch in [metadata, *tensors] if metadata else tensors:
            data = [sendable(key, at_hand[key]) for key in batch]
            failed += wire.unpack((await self._call(action, incarnation, "put", batch, data=data))["failed"])
        rest = [key for key in keys if key not in at_hand]
        if rest:
            reply = await self._call(action, incarnation, "load", rest, background=background)
            failed += wire.unpack(reply["failed"])
        return [(wire.key_of(values), reason) for values, reason in failed]

    async def _load_parts(
        self, action: Load, part: Part, incarnation: str, keys: list[Key], at_hand: Mapping[Key, Any], background: bool
    ) -> list[tuple[Key, str]]:
        """The same for parts of objects, in pieces."""
        failed: list[Any] = []
        sizes = {key: part_bytes(self._catalogue.size(key), part) for key in keys}
        of = [part.number, part.of, str(part.cut)]
        for key in (key for key in keys if key in at_hand):
            async with self._cutting[action.function]:
                data = await self._pool.loop.run_in_executor(None, cut_buffer, at_hand[key], part)
                for at, piece in pieces(data):
                    reply = await self._call(
                        action, incarnation, "put_part", [key], part=of, size_bytes=sizes[key], at=at,
                        total=data.nbytes, data=sendable(key, piece),
                    )  # fmt: skip
                    if not_taken := wire.unpack(reply["failed"]):
                        failed += not_taken
                        break
                del data
        rest = [key for key in keys if key not in at_hand]
        if rest:
            reply = await self._call(
                action, incarnation, "load_part", rest, part=of, sizes=[sizes[key] for key in rest],
                background=background,
            )  # fmt: skip
            failed += wire.unpack(reply["failed"])
        return [(wire.key_of(values), reason) for values, reason in failed]

    async def _call(
        self, action: Load | Drop, incarnation: str, what: str, keys: list[Key], **more: Any
    ) -> dict[str, Any]:
        packed = wire.pack([wire.key_values(key) for key in keys])
        return await self._pool.call(
            action.function, what, incarnation=incarnation, keys=packed, generation=action.generation, **more
        )


def sendable(key: Key, value: Any) -> Any:
    """A buffer or metadata row as it travels."""
    from flstore.functions.function import send_buffer

    return wire.pack(value) if key.kind is Kind.METADATA else send_buffer(value)

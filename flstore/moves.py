"""Carries out what the engine decided about data: loads and drops, in the background, in the order of the decisions."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flstore.catalogue import Catalogue
from flstore.errors import FLStoreError, FunctionLostError
from flstore.functions import wire
from flstore.healing import DAMAGED, Healing
from flstore.parts import cut_buffer, part_bytes, pieces
from flstore.types import Drop, Event, Key, Kind, Load, Loaded, LoadFailed, Part

if TYPE_CHECKING:
    from flstore.functions.pool import FunctionPool

_DAMAGED = {error.__name__ for error in DAMAGED}


@dataclass(frozen=True)
class Origin:
    """Where else the objects of a load are: addresses of functions by key, and the loads that put them there."""

    peers: Mapping[Key, str]
    generations: frozenset[int]


PUTS_AT_A_TIME = 2
"""Updates of one load on their way at the same time: one is copied in while the other is copied out."""


class Moves:
    """Loads and drops on their way.

    Parameters
    ----------
    pool : FunctionPool
        Where they go.
    catalogue : Catalogue
        For the names of keys.
    not_durable : callable
        The bytes of an object that the persistent store may not have yet, or None.
    healing : Healing
        Finds a copy of what the persistent store holds damaged or not at all.
    report : callable
        Takes the events ``Loaded`` and ``LoadFailed`` that a load ends with.
    """

    def __init__(
        self,
        pool: FunctionPool,
        catalogue: Catalogue,
        not_durable: Callable[[Key], Any],
        healing: Healing,
        report: Callable[[Event], Any],
    ) -> None:
        self._pool = pool
        self._healing = healing
        self._catalogue = catalogue
        self._not_durable = not_durable
        self._report = report
        self._loads: dict[int, asyncio.Task[None]] = {}
        self._held_back: dict[object, asyncio.Event] = {}
        self._busy: Counter[int] = Counter()
        self._idle = threading.Condition()
        # For each function one part at a time is in memory beside the object that it is cut from.
        self._cutting: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    def start(
        self,
        action: Load | Drop,
        incarnation: str,
        at_hand: Mapping[Key, Any],
        after: Future[Any] | None = None,
        origin: Origin | None = None,
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
        origin : Origin, optional
            Other functions that hold the objects: what they give need not come from the persistent store.
        """
        keys = self._catalogue.keys(action.keys)
        with self._idle:
            self._busy[action.function] += 1

        def begin() -> None:
            go = self._hold_back(action.generation, after) if after is not None else None
            task = self._pool.loop.create_task(self._move(action, incarnation, keys, at_hand, go, origin))
            if isinstance(action, Load):
                self._loads[action.generation] = task
            task.add_done_callback(lambda _: self._ended(action))

        self._pool.loop.call_soon_threadsafe(begin)

    def _hold_back(self, name: object, after: Future[Any]) -> asyncio.Event:
        go = self._held_back[name] = asyncio.Event()

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

    async def wait_for(self, generations: Iterable[int], *, urgent: bool = True) -> None:
        """Wait for loads by their generation (on the event loop); if `urgent`, those that hold back begin now."""
        needed = list(generations)
        await asyncio.sleep(0)  # loads decided a moment ago, by another thread, begin before this goes on
        for generation in needed:
            if urgent and generation in self._held_back:
                self._held_back[generation].set()
        loads = [self._loads[g] for g in needed if g in self._loads]
        if loads:
            await asyncio.wait(loads)

    def alongside(
        self, function: int, work: Callable[[], Coroutine[Any, Any, None]], after: Future[Any] | None = None
    ) -> None:
        """Begin something else for a function, `after` a request as in :meth:`start`; :meth:`wait` waits for it too."""
        with self._idle:
            self._busy[function] += 1

        async def run(go: asyncio.Event | None, name: object) -> None:
            if go is not None:
                await go.wait()
                del self._held_back[name]
            await work()

        def begin() -> None:
            name = object()
            go = self._hold_back(name, after) if after is not None else None
            self._pool.loop.create_task(run(go, name)).add_done_callback(lambda _: self._rest(function))

        self._pool.loop.call_soon_threadsafe(begin)

    def _ended(self, action: Load | Drop) -> None:
        if isinstance(action, Load):
            self._loads.pop(action.generation, None)
            self._held_back.pop(action.generation, None)
        self._rest(action.function)

    def _rest(self, function: int) -> None:
        with self._idle:
            self._busy[function] -= 1
            self._idle.notify_all()

    async def _move(
        self, action: Load | Drop, incarnation: str, keys: list[Key], at_hand: Mapping[Key, Any],
        go: asyncio.Event | None, origin: Origin | None,
    ) -> None:  # fmt: skip
        if go is not None:
            await go.wait()
        try:
            if isinstance(action, Drop):
                settled = next(iter(self._loads), action.generation + 1) - 1  # loads are in the order of decisions
                await self._call(action, incarnation, "drop", keys, settled=settled)
                return
            wanted = keys
            if origin is not None:
                wanted = await self._copy(action, incarnation, keys, origin)
                at_hand = {key: value for key in wanted if (value := self._not_durable(key)) is not None}
            failed = await self._load(action, incarnation, wanted, at_hand, background=go is not None)
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

    async def _copy(self, action: Load, incarnation: str, keys: list[Key], origin: Origin) -> list[Key]:
        """Let the function fetch from other functions, once these have it; returns what they could not give."""
        await self.wait_for(origin.generations)
        peers = [origin.peers.get(key) for key in keys]
        sizes = [self._catalogue.size(key) for key in keys]
        reply = await self._call(action, incarnation, "copy", keys, peers=wire.pack(peers), sizes=wire.pack(sizes))
        return [wire.key_of(values) for values in wire.unpack(reply["absent"])]

    async def _load(
        self, action: Load, incarnation: str, keys: list[Key], at_hand: Mapping[Key, Any], background: bool
    ) -> list[tuple[Key, str]]:
        """Send what is here, and let the function fetch the rest; returns what failed and why."""
        if action.part is not None:
            return await self._load_parts(action, action.part, incarnation, keys, at_hand, background)
        failed: list[Any] = []
        metadata = [key for key in at_hand if key.kind is Kind.METADATA]
        if metadata:
            data = [sendable(key, at_hand[key]) for key in metadata]
            failed += wire.unpack((await self._call(action, incarnation, "put", metadata, data=data))["failed"])
        turn = asyncio.Semaphore(PUTS_AT_A_TIME)

        async def put(key: Key) -> list[Any]:
            async with turn:
                packed = wire.pack([wire.key_values(key)])
                reply = await self._pool.put(
                    action.function, incarnation, at_hand[key], keys=packed, generation=action.generation
                )
                return list(wire.unpack(reply["failed"]))

        tensors = [put(key) for key in at_hand if key.kind is not Kind.METADATA]
        for result in await asyncio.gather(*tensors, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
            failed += result
        rest = [key for key in keys if key not in at_hand]
        if rest:
            reply = await self._call(action, incarnation, "load", rest, background=background)
            for values, reason, error in wire.unpack(reply["failed"]):
                copy = await self._healing.copy(wire.key_of(values)) if error in _DAMAGED else None
                if copy is None:
                    failed.append([values, reason, error])
                    continue
                key = wire.key_of(values)
                data = [sendable(key, copy.value)]
                failed += wire.unpack((await self._call(action, incarnation, "put", [key], data=data))["failed"])
        return [(wire.key_of(values), reason) for values, reason, _ in failed]

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
        return [(wire.key_of(values), reason) for values, reason, _ in failed]

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

"""Brings a request to the function that holds most of its data, and to another one when that goes away."""

# Longer than 300 lines because one request is followed here through all that can happen to it.

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakSet

from flstore.catalogue import Catalogue
from flstore.engine import reroute
from flstore.engine.state import OnTheWay
from flstore.engine.wants import Slot
from flstore.errors import (
    CapacityError,
    FLStoreError,
    FunctionLostError,
    NotStagedError,
    RequestTimeoutError,
    StoreClosedError,
)
from flstore.functions import wire
from flstore.healing import DAMAGED, Healing
from flstore.heat import Heat
from flstore.in_parts import InParts, located, order_of, slot_of
from flstore.moves import Moves, sendable
from flstore.results import Question
from flstore.types import Event, Key, KeySet, LoadFailed, Requested, Run
from flstore.workloads.base import Derivable, Piecewise

if TYPE_CHECKING:
    from flstore.functions.pool import FunctionPool

MEMBER_TIMEOUT_S = 15.0
"""How long a request waits for a function to come back when none is alive; then it is answered here."""
ATTEMPTS = 4
PAUSE_S = 0.02
"""Between looks for a function: whatever happens, others get a turn on the event loop."""


class Serving:
    """Requests on their way to functions and back.

    Parameters
    ----------
    pool : FunctionPool
        The functions.
    catalogue : Catalogue
        What exists and where it is, with the lock that guards both.
    moves : Moves
        Loads on their way, some of which a request waits for.
    not_durable : callable
        The bytes of an object that the persistent store may not have yet, or None: they travel with the request.
    healing : Healing
        Finds a copy of what the persistent store holds damaged or not at all.
    report : callable
        Takes the event that a function lacks what the engine thought it holds.
    here : callable, optional
        Answers a request that no function can answer; blocks.
    derives : bool
        Functions keep what they derive, and use what they derived before.
    """

    def __init__(
        self,
        pool: FunctionPool,
        catalogue: Catalogue,
        moves: Moves,
        not_durable: Callable[[Key], Any],
        healing: Healing,
        report: Callable[[Event], Any],
        here: Callable[[Question, FLStoreError], Any] | None = None,
        derives: bool = True,
    ) -> None:
        self._pool = pool
        self._catalogue = catalogue
        self._state = catalogue.state
        self._lock = catalogue.lock
        self._moves = moves
        self._not_durable = not_durable
        self._healing = healing
        self._report = report
        self._here = here
        self._derives = derives
        self._busy: Counter[int] = Counter()
        self._idle = threading.Condition()
        self._heat = Heat(self._state, report)
        self._in_parts = InParts(pool, catalogue, not_durable)
        self._open: WeakSet[Question] = WeakSet()  # a callback that took them out would be a cycle
        self._begun: list[tuple[Question, Requested, Run]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._abandoned = False

    def start(self, question: Question, event: Requested, run: Run) -> None:
        """Send a request on its way; its future tells how it ended."""
        self._open.add(question)
        if self._abandoned:
            self.abandon()
            return
        # Waking the event loop costs more than a request's own bookkeeping, so one call starts all that have come.
        with self._lock:
            self._begun.append((question, event, run))
            asleep = len(self._begun) == 1
        if asleep:
            self._pool.loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        with self._lock:
            begun, self._begun = self._begun, []
        for what in begun:
            task = self._pool.loop.create_task(self._to_its_end(*what))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def abandon(self) -> None:
        """Fail what is still open, because the store closes."""
        self._abandoned = True
        for question in list(self._open):
            question.fail(StoreClosedError("the store was closed before the request was answered"))

    def drain(self, functions: Collection[int], timeout: float) -> None:
        """Wait until no request runs on these functions, at most so many seconds. From any thread but the loop's."""
        end = time.monotonic() + timeout
        with self._idle:
            while any(self._busy[f] for f in functions) and (left := end - time.monotonic()) > 0:
                self._idle.wait(left)

    async def _to_its_end(self, question: Question, event: Requested, run: Run) -> None:
        try:
            self._heat.begin(event)
            value = await asyncio.wait_for(self._somewhere(question, event, run), question.left_s)
        except TimeoutError as error:
            late = RequestTimeoutError(
                f"{question.workload.name} was not answered within its {question.deadline_s} seconds"
            )
            question.fail(error if isinstance(error, FLStoreError) else late)
        except BaseException as error:
            question.fail(error)
        else:
            question.finish(value)
        finally:
            self._heat.end(event)

    async def _somewhere(self, question: Question, event: Requested, run: Run) -> Any:
        """On a function; where none is alive or has the room, in this process."""
        try:
            return await self._try_functions(question, event, run)
        except (FunctionLostError, CapacityError) as error:
            if self._here is None:
                raise
            return await asyncio.to_thread(self._here, question, error)

    async def _try_functions(self, question: Question, event: Requested, run: Run) -> Any:
        """Send the request; when its function goes away or falls silent, to the next best one too.

        A silent function may only be busy, so its answer is still awaited: the first one counts.
        """
        lost: Exception = FunctionLostError(f"no cache function answered for {MEMBER_TIMEOUT_S:.0f} seconds")
        running: dict[asyncio.Task[Any], Run] = {}
        full: set[int] = set()
        tries = 0
        if self._pool.silent() & _involved(run) or (self._state.copied and self._is_busy(run.function)):
            run = self._reroute(event, full)
        try:
            while True:
                if run.function >= 0 and run.function not in {r.function for r in running.values()}:
                    tries += 1
                    running[self._attempt(question, run)] = run
                elif not running:
                    if not await self._pool.wait_for_member(MEMBER_TIMEOUT_S):
                        raise lost
                    await asyncio.sleep(PAUSE_S)
                finished, at = await self._race(running)
                if finished is not None:
                    error = finished.exception()
                    if error is None:
                        return finished.result()
                    lost = cast(Exception, error)
                    if isinstance(error, CapacityError) and running:
                        full.add(at)
                    elif not isinstance(error, FunctionLostError) or (tries >= ATTEMPTS and not running):
                        raise error
                self._withdraw(running)
                if not running:
                    full.clear()
                run = self._reroute(event, full)
        finally:
            for task in running:
                task.cancel()

    def _is_busy(self, function: int) -> bool:
        """Whether another function has less to do, so that it is worth the while to look for one with a copy."""
        return any(self._busy[other] < self._busy[function] for other in self._pool.functions)

    def _reroute(self, event: Requested, full: set[int]) -> Run:
        with self._lock:
            return reroute(self._state, event, avoid=self._pool.silent() | full, busy=self._busy)

    def _withdraw(self, running: dict[asyncio.Task[Any], Run]) -> None:
        """Give up attempts that wait for data from a function that fell silent; they are planned anew without it."""
        silent = self._pool.silent()
        for task, run in list(running.items()):
            if run.function not in silent and _involved(run) & silent:
                del running[task]
                task.cancel()

    async def _race(self, running: dict[asyncio.Task[Any], Run]) -> tuple[asyncio.Task[Any] | None, int]:
        """Wait until an attempt ends (and take it out), or until a plan may be better (None)."""
        if not running:
            return None, -1
        silent = self._pool.silent()
        waited = {n for run in running.values() for n in _involved(run)} - silent
        functions = [f for n in waited if (f := self._pool.functions.get(n)) is not None]
        stuck = all(run.function in silent for run in running.values())
        while True:
            with self._pool.news.waiter() as news:
                await asyncio.wait([*running, news], return_when=asyncio.FIRST_COMPLETED)
            for task in running:
                if task.done():
                    return task, running.pop(task).function
            if stuck or any(f.silent.is_set() for f in functions):
                return None, -1

    def _attempt(self, question: Question, run: Run) -> asyncio.Task[Any]:
        """Begin to run a request on a function, which counts as busy with it from now on."""
        self._busy[run.function] += 1

        def ended(_: asyncio.Task[Any]) -> None:
            with self._idle:
                self._busy[run.function] -= 1
                self._idle.notify_all()

        task = asyncio.ensure_future(self._run_on(question, run))
        task.add_done_callback(ended)
        return task

    async def _run_on(self, question: Question, run: Run) -> Any:
        record = question.record
        began = self._pool.loop.time()
        awaited = OnTheWay(0, set(), 0)
        if record.functions or len(question.hit_keys) < len(question.keys):
            with self._lock:
                awaited = self._state.loading(run.held)
            await self._moves.wait_for(awaited.generations)
        waited_s = self._pool.loop.time() - began
        function = self._pool.functions.get(run.function)
        if function is None:
            raise FunctionLostError(f"cache function {run.function} is not alive")
        if (plan := self._in_parts.plan(question)) is not None:
            with contextlib.suppress(NotStagedError):
                return await self._in_parts.answer(question, plan, waited_s, awaited, self._note_absent)
        record.functions.append(function.name)
        try:
            async with function.running:
                queued_s = self._pool.loop.time() - began - waited_s
                reply = await self._send(question, run)
        except CapacityError:
            if (plan := self._in_parts.spread(question)) is None:
                raise
            return await self._in_parts.answer(question, plan, waited_s, awaited, self._note_absent)
        record.functions.append(record.functions.pop(record.functions.index(function.name)))  # who answers is the last
        record.fetch_s = waited_s + reply["fetch_s"]
        record.queue_s = question.waited_s + queued_s + reply["queue_s"]
        record.compute_s = reply["compute_s"]
        record.derived = reply["derived"]
        record.bytes_moved = awaited.size_bytes + reply["bytes_moved"]
        record.operations, record.memory_bytes = awaited.objects + reply["operations"], reply["memory_bytes"]
        return wire.unpack_result(question.workload.result_type, reply["result"])

    async def _send(self, question: Question, run: Run) -> dict[str, Any]:
        """Send the order; once more, with all that is not durable yet, when the function misses something.

        Then, for each object that is lost or damaged, with a copy of it from wherever there is one.
        """
        everything, copies = False, dict[Key, Any]()
        while True:
            with self._lock:
                order, extra = self._order(question, run, everything, copies)
                generation = self._state.generation
            try:
                reply = await self._pool.call(run.function, "run", request=order, extra=extra)
                absent = [wire.key_of(values) for values in wire.unpack(reply["absent"])]
                self._note_absent(question, run.function, absent, generation)
                return reply
            except DAMAGED as error:
                if everything:
                    if error.key is None or error.key in copies:
                        raise
                    copies[error.key] = await self._healing.value(error.key, error)
                everything = True

    def _note_absent(self, question: Question, function: int, keys: list[Key], generation: int) -> None:
        """What the function lacked was a miss; the engine hears of it, unless it dropped it on purpose meanwhile."""
        if not keys:
            return
        lacking = question.hit_keys.intersection(keys)
        question.hit_keys -= lacking
        question.record.hits -= len(lacking)
        question.record.misses += len(lacking)
        with self._lock:
            for key in keys:
                (part,) = self._catalogue.key_sets([key])
                on_its_way = self._state.loading([(function, part)]).generations
                if self._state.holds(function, part)[0] and not on_its_way:
                    self._report(LoadFailed(function, part, "the function does not hold it", generation))

    def _order(
        self, question: Question, run: Run, everything: bool, copies: Mapping[Key, Any]
    ) -> tuple[bytes, list[Any]]:
        """The request as plain values: what to run, and for each object where it is.

        What the persistent store may not have yet goes along: what no function holds, or (`everything`) all of it. So
        do `copies` of what it has lost.
        """
        objects: list[list[Any]] = []
        extra: dict[Key, Any] = dict(copies)
        in_parts: dict[Slot, KeySet] = {}
        for number, part in run.held:
            if (slot := slot_of(part)) in self._state.striped:
                in_parts[slot] = part
                continue
            function = self._pool.functions.get(number)
            answers = function is not None and not function.silent.is_set()
            peer = "" if number == run.function else function.address if function is not None and answers else None
            objects += located(self._catalogue, part, peer)
        for slot, part in in_parts.items():
            objects += located(self._catalogue, part, self._in_parts.holders(slot))
        for part in run.missing:
            objects += located(self._catalogue, part, None)
        for part in (*run.missing, *(part for _, part in run.held if everything)):
            found = ((key, self._not_durable(key)) for key in self._catalogue.keys(part))
            extra.update((key, value) for key, value in found if value is not None)
        workload = question.workload
        order = {**order_of(workload, question.scope), "objects": objects, "extra": list(map(wire.key_values, extra))}
        if self._derives and isinstance(workload, Derivable) and (name := workload.derivation(question.keys)):
            order["derivation"] = name
        elif self._derives and isinstance(workload, Piecewise):
            order["piece"] = workload.piece
        return wire.pack(order), [sendable(key, value) for key, value in extra.items()]


def _involved(run: Run) -> set[int]:
    """The functions that an attempt waits for: the one that runs it, and those that it fetches from."""
    return {run.function, *(number for number, _ in run.held)} - {-1}

"""Brings a request to the function that holds most of its data, and to another one when that goes away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from flstore.catalogue import Catalogue
from flstore.engine import reroute
from flstore.engine.wants import Slot
from flstore.errors import (
    CapacityError,
    FLStoreError,
    FunctionLostError,
    NotStagedError,
    RequestTimeoutError,
    StoreClosedError,
    UpdateNotFoundError,
)
from flstore.functions import wire
from flstore.in_parts import InParts, order_of, slot_of
from flstore.moves import Moves, sendable
from flstore.results import Question
from flstore.types import Event, Key, KeySet, LoadFailed, Requested, Run

if TYPE_CHECKING:
    from flstore.functions.pool import FunctionPool

MEMBER_TIMEOUT_S = 30.0
"""How long a request waits for a function to come back when none is alive."""
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
    report : callable
        Takes the event that a function lacks what the engine thought it holds.
    """

    def __init__(
        self,
        pool: FunctionPool,
        catalogue: Catalogue,
        moves: Moves,
        not_durable: Callable[[Key], Any],
        report: Callable[[Event], Any],
    ) -> None:
        self._pool = pool
        self._catalogue = catalogue
        self._state = catalogue.state
        self._lock = catalogue.lock
        self._moves = moves
        self._not_durable = not_durable
        self._report = report
        self._in_parts = InParts(pool, catalogue, not_durable)
        self._open: set[Question] = set()
        self._abandoned = False

    def start(self, question: Question, event: Requested, run: Run) -> None:
        """Send a request on its way; its future tells how it ended."""
        self._open.add(question)
        if self._abandoned:
            self.abandon()
            return
        question.future.add_done_callback(lambda _: self._open.discard(question))
        self._pool.submit(self._to_its_end(question, event, run))

    def abandon(self) -> None:
        """Fail what is still open, because the store closes."""
        self._abandoned = True
        for question in list(self._open):
            question.fail(StoreClosedError("the store was closed before the request was answered"))

    async def _to_its_end(self, question: Question, event: Requested, run: Run) -> None:
        try:
            value = await asyncio.wait_for(self._try_functions(question, event, run), question.left_s)
        except TimeoutError as error:
            late = RequestTimeoutError(
                f"{question.workload.name} was not answered within its {question.deadline_s} seconds"
            )
            question.fail(error if isinstance(error, FLStoreError) else late)
        except BaseException as error:
            question.fail(error)
        else:
            question.finish(value)

    async def _try_functions(self, question: Question, event: Requested, run: Run) -> Any:
        """Send the request; when its function goes away or falls silent, to the next best one too.

        A silent function may only be busy, so its answer is still awaited: the first one counts.
        """
        lost: Exception = FunctionLostError(f"no cache function answered for {MEMBER_TIMEOUT_S:.0f} seconds")
        running: dict[asyncio.Task[Any], Run] = {}
        full: set[int] = set()
        tries = 0
        if self._pool.silent() & _involved(run):
            run = self._reroute(event, full)
        try:
            while True:
                if run.function >= 0 and run.function not in {r.function for r in running.values()}:
                    tries += 1
                    running[asyncio.ensure_future(self._run_on(question, run))] = run
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

    def _reroute(self, event: Requested, full: set[int]) -> Run:
        with self._lock:
            return reroute(self._state, event, avoid=self._pool.silent() | full)

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
        watches: list[asyncio.Future[Any]] = [asyncio.ensure_future(f.silent.wait()) for f in functions]
        if all(run.function in silent for run in running.values()):
            watches.append(asyncio.ensure_future(self._pool.change()))
        try:
            await asyncio.wait([*running, *watches], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for watch in watches:
                watch.cancel()
        for task in running:
            if task.done():
                return task, running.pop(task).function
        return None, -1

    async def _run_on(self, question: Question, run: Run) -> Any:
        record = question.record
        began = self._pool.loop.time()
        with self._lock:
            awaited_bytes, generations = self._state.loading(run.held)
        await self._moves.wait_for(generations)
        waited_s = self._pool.loop.time() - began
        function = self._pool.functions.get(run.function)
        if function is None:
            raise FunctionLostError(f"cache function {run.function} is not alive")
        if (plan := self._in_parts.plan(question)) is not None:
            with contextlib.suppress(NotStagedError):
                return await self._in_parts.answer(question, plan, waited_s, awaited_bytes, self._note_absent)
        record.functions.append(function.name)
        try:
            reply = await self._send(question, run)
        except CapacityError:
            if (plan := self._in_parts.spread(question)) is None:
                raise
            return await self._in_parts.answer(question, plan, waited_s, awaited_bytes, self._note_absent)
        record.functions.append(record.functions.pop(record.functions.index(function.name)))  # who answers is the last
        record.fetch_s = waited_s + reply["fetch_s"]
        record.queue_s = reply["queue_s"]
        record.compute_s = reply["compute_s"]
        record.bytes_moved = awaited_bytes + reply["bytes_moved"]
        return wire.unpack_result(question.workload.result_type, reply["result"])

    async def _send(self, question: Question, run: Run) -> dict[str, Any]:
        """Send the order; once more, with all that is not durable yet, when the function misses something."""
        for everything in (False, True):
            with self._lock:
                order, extra = self._order(question, run, everything)
                generation = self._state.generation
            try:
                reply = await self._pool.call(run.function, "run", request=order, extra=extra)
                absent = [wire.key_of(values) for values in wire.unpack(reply["absent"])]
                self._note_absent(question, run.function, absent, generation)
                return reply
            except UpdateNotFoundError:
                if everything:
                    raise
        raise AssertionError("unreachable")

    def _note_absent(self, question: Question, function: int, keys: list[Key], generation: int) -> None:
        """What the function lacked was a miss; the engine hears of it, unless it dropped it on purpose meanwhile."""
        lacking = question.hit_keys.intersection(keys)
        question.hit_keys -= lacking
        question.record.hits -= len(lacking)
        question.record.misses += len(lacking)
        with self._lock:
            for key in keys:
                (part,) = self._catalogue.key_sets([key])
                if self._state.holds(function, part)[0]:
                    self._report(LoadFailed(function, part, "the function does not hold it", generation))

    def _order(self, question: Question, run: Run, everything: bool) -> tuple[bytes, list[Any]]:
        """The request as plain values: what to run, and for each object where it is.

        What the persistent store may not have yet goes along: what no function holds, or (`everything`) all of it.
        """
        objects: list[list[Any]] = []
        extra: dict[Key, Any] = {}
        in_parts: dict[Slot, KeySet] = {}
        for number, part in run.held:
            if (slot := slot_of(part)) in self._state.striped:
                in_parts[slot] = part
                continue
            function = self._pool.functions.get(number)
            answers = function is not None and not function.silent.is_set()
            peer = "" if number == run.function else function.address if function is not None and answers else None
            objects += self._located(part, peer)
        for slot, part in in_parts.items():
            objects += self._located(part, self._in_parts.holders(slot))
        for part in run.missing:
            objects += self._located(part, None)
        for part in (*run.missing, *(part for _, part in run.held if everything)):
            found = ((key, self._not_durable(key)) for key in self._catalogue.keys(part))
            extra.update((key, value) for key, value in found if value is not None)
        order = {**order_of(question), "objects": objects, "extra": [wire.key_values(key) for key in extra]}
        return wire.pack(order), [sendable(key, value) for key, value in extra.items()]

    def _located(self, part: KeySet, peer: Any) -> list[list[Any]]:
        return [[wire.key_values(key), self._catalogue.size(key), peer] for key in self._catalogue.keys(part)]


def _involved(run: Run) -> set[int]:
    """The functions that an attempt waits for: the one that runs it, and those that it fetches from."""
    return {run.function, *(number for number, _ in run.held)} - {-1}

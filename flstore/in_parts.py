"""Requests about what is held in parts: each function works on its part, and only what comes of that is sent."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flstore import workloads
from flstore.catalogue import Catalogue
from flstore.engine.state import OnTheWay, State
from flstore.engine.stripes import FULL
from flstore.engine.table import NOWHERE
from flstore.engine.view import View
from flstore.engine.wants import Slot
from flstore.errors import CapacityError, FunctionLostError, UpdateNotFoundError
from flstore.functions import wire
from flstore.parts import contains, cut_buffer, part_bytes
from flstore.results import Question
from flstore.types import Cut, Key, KeySet, Kind, Part
from flstore.workloads.base import Additive, Scope, Staged, Workload

if TYPE_CHECKING:
    from flstore.functions.pool import FunctionPool

MOST_PARTS = 1024
"""A function that has no room for so small a part has none at all."""
NoteAbsent = Callable[[Question, int, list[Key], int], None]


def slot_of(keys: KeySet) -> Slot:
    """The slot of keys of one round."""
    round = keys.rounds if isinstance(keys.rounds, int) else int(keys.rounds[0])
    return keys.job, keys.kind, round


def most_bytes(state: State) -> int:
    """The largest object that the functions can hold, in parts if need be; 0 without a function."""
    capacities = [f.capacity_bytes for f in state.functions.values()]
    largest = max(capacities, default=0)
    return max(largest, int(min(capacities, default=0) * len(capacities) * FULL))


def order_of(workload: Workload, scope: Scope) -> dict[str, Any]:
    """What to run, as plain values."""
    return {
        "workload": workloads.by_path(type(workload)),
        "params": {f.name: getattr(workload, f.name) for f in dataclasses.fields(workload)},  # type: ignore[arg-type]
        "scope": {"job": scope.job, "round": scope.round, "client": scope.client, "rounds": scope.rounds},
    }


def located(catalogue: Catalogue, part: KeySet, peer: Any) -> list[list[Any]]:
    """Objects as an order names them, and where they are: "" on the function itself, None in the persistent store."""
    sizes, since = View(catalogue.state).size(part).tolist(), catalogue.state.since(part).tolist()
    known = zip(catalogue.keys(part), sizes, since, strict=True)
    return [[wire.key_values(key), size, peer, born] for key, size, born in known]


@dataclass(frozen=True, slots=True)
class Plan:
    """Which function works on each part of what a request reads."""

    step: str
    cut: Cut
    functions: tuple[int, ...]


class InParts:
    """Answers requests part by part, where workload and data allow it.

    Parameters
    ----------
    pool : FunctionPool
        The functions.
    catalogue : Catalogue
        What exists and where it is.
    not_durable : callable
        The bytes of an object that the persistent store may not have yet, or None.
    """

    def __init__(self, pool: FunctionPool, catalogue: Catalogue, not_durable: Callable[[Key], Any]) -> None:
        self._pool = pool
        self._catalogue = catalogue
        self._state = catalogue.state
        self._not_durable = not_durable

    def plan(self, question: Question) -> Plan | None:
        """How to answer part by part; None where the request needs whole objects, or nothing it reads is in parts."""
        if not self._state.striped or not isinstance(question.workload, Additive | Staged):
            return None
        if any(key.kind is Kind.METADATA for key in question.keys) or not _in_parts(question):
            return None
        step, cut = ("partial", Cut.RANGES) if isinstance(question.workload, Additive) else ("stage", Cut.TENSORS)
        with self._catalogue.lock:
            found = [slot for slot in self._slots(question) if slot in self._state.striped and self._cut(slot) is cut]
            if not found or (cut is Cut.TENSORS and len(question.keys) > 1):
                return None
            functions = self._state.striped[min(found, key=lambda slot: slot[1] is not Kind.UPDATE)]
            stand_ins = [f for f, s in self._state.functions.items() if not s.leaving and self._answers(f)]
        if not stand_ins:
            return None
        chosen = (f if self._answers(f) else stand_ins[i % len(stand_ins)] for i, f in enumerate(functions))
        return Plan(step, cut, tuple(chosen))

    def spread(self, question: Question) -> Plan | None:
        """How to answer where no function has room for what it would have to fetch: each a share, as it has room."""
        if not isinstance(question.workload, Additive) or any(key.kind is Kind.METADATA for key in question.keys):
            return None
        if not _in_parts(question):
            return None
        with self._catalogue.lock:
            functions = tuple(f for f, s in self._state.functions.items() if not s.leaving and self._answers(f))
        return Plan("partial", Cut.RANGES, functions) if functions else None

    def holders(self, slot: Slot) -> list[list[Any]]:
        """Where the parts of a slot are: (address, part) of each."""
        cut, functions = self._cut(slot), self._state.striped[slot]
        return [[self._address(f), [i, len(functions), str(cut)]] for i, f in enumerate(functions)]

    async def answer(
        self, question: Question, plan: Plan, waited_s: float, awaited: OnTheWay, note_absent: NoteAbsent
    ) -> Any:
        """Work on every part, then on what came of them.

        Raises
        ------
        FunctionLostError
            A function went away; a new plan has another in its place.
        NotStagedError
            The model cannot be run in these parts.
        """
        record = question.record
        record.fetch_s, record.queue_s, record.compute_s, record.memory_bytes = waited_s, 0.0, 0.0, 0
        record.bytes_moved, record.operations = awaited.size_bytes, awaited.objects
        if plan.step == "stage":
            return await self._stage_by_stage(question, plan, note_absent)
        parts = [Part(i, len(plan.functions)) for i in range(len(plan.functions))]
        found = await _all([self._partials(question, plan, part, note_absent) for part in parts])
        replies = [reply for of_part in found for reply in of_part]
        record.fetch_s += max(reply["fetch_s"] for reply in replies)
        record.queue_s = max(reply["queue_s"] for reply in replies)
        record.compute_s = max(reply["compute_s"] for reply in replies)
        record.bytes_moved += sum(reply["bytes_moved"] + len(reply["result"]) for reply in replies)
        record.operations += sum(reply["operations"] for reply in replies)
        record.memory_bytes = sum(reply["memory_bytes"] for reply in replies)
        began = self._pool.loop.time()
        packed = await self._pool.loop.run_in_executor(None, _finish, question, [reply["result"] for reply in replies])
        record.compute_s += self._pool.loop.time() - began
        return wire.unpack_result(question.workload.result_type, packed)

    async def _partials(self, question: Question, plan: Plan, part: Part, note_absent: NoteAbsent) -> list[Any]:
        """The partial result of a part or, where the function has no room for what it must fetch, of smaller parts."""
        try:
            return [await self._work(question, plan, part, None, note_absent)]
        except CapacityError:
            if part.of >= MOST_PARTS:
                raise
        halves = [Part(2 * part.number + i, 2 * part.of) for i in (0, 1)]
        return [r for half in halves for r in await self._partials(question, plan, half, note_absent)]

    async def _stage_by_stage(self, question: Question, plan: Plan, note_absent: NoteAbsent) -> Any:
        record = question.record
        values: Any = None
        for i in range(len(plan.functions)):
            part = Part(i, len(plan.functions), plan.cut)
            reply = await self._work(question, plan, part, values, note_absent)
            record.fetch_s += reply["fetch_s"]
            record.queue_s += reply["queue_s"]
            record.compute_s += reply["compute_s"]
            record.bytes_moved += reply["bytes_moved"]
            record.operations += reply["operations"]
            record.memory_bytes = max(record.memory_bytes, reply["memory_bytes"])
            values = reply["result"]
            if i < len(plan.functions) - 1:
                record.bytes_moved += 2 * len(values)  # to here, and on to the next function
        return wire.unpack_result(question.workload.result_type, values)

    async def _work(self, question: Question, plan: Plan, part: Part, values: Any, note_absent: NoteAbsent) -> Any:
        """One part of a request on its function; once more, with all that is not durable, when it misses something."""
        worker = plan.functions[part.number * len(plan.functions) // part.of]
        for everything in (False, True):
            with self._catalogue.lock:
                objects, to_send = self._objects(question, worker, part, everything)
                generation = self._state.generation
            extra = [await self._pool.loop.run_in_executor(None, cut_buffer, b, part) for b in to_send.values()]
            order = {
                **order_of(question.workload, question.scope),
                "step": plan.step, "part": [part.number, part.of, str(part.cut)],
                "objects": objects, "extra": [wire.key_values(key) for key in to_send],
            }  # fmt: skip
            sent = [] if values is None else [send_buffer(values)]
            function = self._pool.functions.get(worker)
            if function is None:
                raise FunctionLostError(f"cache function {worker} is not alive")
            if function.name not in question.record.functions:
                question.record.functions.append(function.name)
            try:
                reply = await self._pool.call(
                    function.number, "run", request=wire.pack(order), extra=[send_buffer(b) for b in extra], values=sent
                )
            except UpdateNotFoundError:
                if everything:
                    raise
                continue
            absent = [wire.key_of(key) for key in wire.unpack(reply["absent"])]
            note_absent(question, function.number, absent, generation)
            return reply
        raise AssertionError("unreachable")

    def _objects(
        self, question: Question, worker: int, part: Part, everything: bool
    ) -> tuple[list[list[Any]], dict[Key, Any]]:
        """Where a function finds its part of each object, and the objects of which it must be sent its part."""
        objects: list[list[Any]] = []
        to_send: dict[Key, Any] = {}
        for key in question.keys:
            (keys,) = self._catalogue.key_sets([key])
            slot, where = slot_of(keys), int(self._state.where(keys)[0])
            striped = self._state.striped.get(slot)
            exact = False
            if where != NOWHERE and striped is not None:
                number = part.number * len(striped) // part.of
                held = Part(number, len(striped), self._cut(slot))
                exact, where = held == part, striped[number] if contains(held, part) else NOWHERE
            # An empty address says that the very part must be there, and is reported when it is not.
            peer = None if where == NOWHERE else "" if exact and where == worker else self._address(where)
            since = int(self._state.since(keys)[0])
            objects.append([wire.key_values(key), part_bytes(self._catalogue.size(key), part), peer, since])
            if where == NOWHERE or everything:
                value = self._not_durable(key)
                if value is not None:
                    to_send[key] = value
        return objects, to_send

    def _slots(self, question: Question) -> list[Slot]:
        sets = self._catalogue.key_sets(question.keys)
        return [(s.job, s.kind, round) for s in sets for round, _ in s.by_round()]

    def _cut(self, slot: Slot) -> Cut:
        table = self._state.table(slot)
        assert table is not None
        return table.cut

    def _answers(self, number: int) -> bool:
        function = self._pool.functions.get(number)
        return function is not None and not function.silent.is_set()

    def _address(self, number: int) -> str | None:
        return self._pool.functions[number].address if self._answers(number) else None


def _in_parts(question: Question) -> bool:
    return not isinstance(question.workload, Additive) or question.workload.in_ranges


def send_buffer(buffer: Any) -> Any:
    """A buffer as it travels without a copy."""
    from flstore.functions.function import send_buffer

    return send_buffer(buffer)


async def _all(work: list[Coroutine[Any, Any, Any]]) -> list[Any]:
    """The results of all; when one fails, the others are given up."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


def _finish(question: Question, partials: list[Any]) -> bytes:
    """The answer from the partial results, packed as a function would; errors become those of a function."""
    workload = question.workload
    assert isinstance(workload, Additive)
    try:
        total = workload.combine([wire.unpack(partial) for partial in partials])
        return wire.pack_result(workload.finish(question.scope, total))
    except Exception as error:
        raise wire.error_of(wire.error_values(error)) from error

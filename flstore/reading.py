"""How a reader reaches the functions of a writer, and what it knows of what exists."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np

from flstore.catalogue import Catalogue
from flstore.connection import Connection
from flstore.errors import FunctionLostError, StoreClosedError, UpdateNotFoundError
from flstore.healing import Copy, Healing
from flstore.moves import Moves
from flstore.plans import plan, requested
from flstore.results import Question
from flstore.serving import Serving
from flstore.status import FunctionStatus
from flstore.types import Key, Kind, Requested, Run

if TYPE_CHECKING:
    from flstore.functions.reach import ReaderPool
    from flstore.persistence import ObjectStore

_POLL_S = 0.02
_NOT_DURABLE = "; what the writer took in a moment ago can be asked for once it is durable: after its flush()"


class _NoHealing(Healing):
    """A reader mends nothing: there is one writer."""

    def __init__(self) -> None:
        pass

    async def copy(self, key: Key) -> Copy | None:
        """Never a copy."""
        return None


_NO_HEALING = _NoHealing()


class _ReaderServing(Serving):
    """Requests on the functions, planned by what these hold; answered in this process when all of them go away."""

    def __init__(self, pool: ReaderPool, catalogue: Catalogue, alone: Callable[[Question], None]) -> None:
        def nothing(_: Any) -> None:
            return None

        moves = Moves(pool, catalogue, nothing, _NO_HEALING, nothing)
        super().__init__(pool, catalogue, moves, nothing, _NO_HEALING, nothing)
        self._alone = alone
        self._weighed: dict[int, tuple[Sequence[Key], Mapping[int, np.ndarray]]] = {}

    def serve(self, question: Question, sizes: Mapping[int, np.ndarray]) -> None:
        """Start a request, given what each function holds of it."""
        record, keys = question.record, question.keys
        self._weighed[record.request] = keys, sizes
        question.future.add_done_callback(lambda _: self._weighed.pop(record.request, None))
        event = requested(self._catalogue, record.request, question.workload, question.scope, keys)
        run = self._reroute(event, set())
        record.hits, record.misses = run.counts.hits, run.counts.misses
        held = {i for size in sizes.values() for i in np.flatnonzero(size >= 0).tolist()}
        question.hit_keys = {keys[i] for i in held}
        self.start(question, event, run)

    def _reroute(self, event: Requested, full: set[int]) -> Run:
        keys, sizes = self._weighed.get(event.request, ((), {}))
        there = [n for n in self._pool.functions.keys() - self._pool.silent() if n not in full]
        return plan(self._catalogue, event, keys, sizes, sorted(there))

    async def _try_functions(self, question: Question, event: Requested, run: Run) -> Any:
        try:
            return await super()._try_functions(question, event, run)
        except FunctionLostError:
            self._alone(question)
            return (await asyncio.wrap_future(question.future)).value
        except UpdateNotFoundError as error:
            raise UpdateNotFoundError(f"{error}{_NOT_DURABLE}") from None


class Link:
    """A reader's connection to the functions of one writer.

    Parameters
    ----------
    connection : Connection
        How they are reached.
    catalogue : Catalogue
        The reader's.
    alone : callable
        Answers a question without them.

    Raises
    ------
    ClusterError
        They cannot be reached.
    """

    def __init__(self, connection: Connection, catalogue: Catalogue, alone: Callable[[Question], None]) -> None:
        from flstore.functions.reach import ReaderPool

        self.namespace = connection.namespace
        self._alone = alone
        self._open: WeakSet[Question] = WeakSet()  # a callback that took them out would be a cycle
        self._gone = self._greeted = False
        self._greeting_s = connection.ping_deadline_s / 2
        self._pool = ReaderPool(connection.address, connection.tls, connection.namespace, connection.ping_deadline_s)
        try:
            self._pool.start()
            self._serving = _ReaderServing(self._pool, catalogue, alone)
            self._pool.submit(self._pool.weigh([]))  # so that the writer soon knows that somebody reads
        except BaseException:
            self._pool.close()
            raise

    @property
    def works(self) -> bool:
        """Whether there are functions to ask."""
        return self._pool.reachable and bool(self._pool.functions)

    def serve(self, question: Question, asked: Any) -> None:
        """Answer a question, and let the writer hear of it."""
        self._open.add(question)
        if self._gone:
            self._alone(question)
        else:
            self._pool.submit(self._weigh_and_serve(question, asked))

    async def _weigh_and_serve(self, question: Question, asked: Any) -> None:
        try:
            sizes, _ = await self._pool.weigh(question.keys, asked)
            if sizes:
                self._serving.serve(question, sizes)
            else:
                self._alone(question)
        except BaseException as error:
            question.fail(error)

    def news(self) -> dict[str, Any] | None:
        """The writer's latest news, None when no function answers."""
        sizes, news = self._pool.wait(self._pool.weigh([]))
        if not self._greeted:
            # Until the writer knows that somebody reads, it tells its news with its pings only, which come too late.
            until = time.monotonic() + self._greeting_s
            while sizes and not news.get("heard") and time.monotonic() < until:
                time.sleep(_POLL_S)
                sizes, news = self._pool.wait(self._pool.weigh([]))
            self._greeted = True
        return news if sizes else None

    def holdings(self) -> dict[Key, int]:
        """Everything that the functions hold."""
        found: dict[Key, int] = self._pool.wait(self._pool.holdings())
        return found

    def fetch(self, key: Key) -> Any:
        """The bytes of an object, from a function that holds it; None when none does."""
        return self._pool.wait(self._pool.fetch(key))

    def statuses(self) -> tuple[tuple[FunctionStatus, ...], set[Key]]:
        """The functions, and all that they hold."""
        by_function: dict[int, dict[Key, int]] = self._pool.wait(self._pool.inventories())
        statuses = []
        for number, function in sorted(self._pool.functions.items()):
            held = by_function.get(number, {})
            count = Counter(key.kind for key in held)
            statuses.append(
                FunctionStatus(
                    function.name, number in by_function, function.capacity_bytes, sum(held.values()),
                    count[Kind.UPDATE], count[Kind.AGGREGATE], count[Kind.METADATA],
                    tuple(sorted({key.round for key in held if key.kind is Kind.UPDATE})),
                )
            )  # fmt: skip
        return tuple(statuses), {key for held in by_function.values() for key in held}

    def let_go(self) -> None:
        """Disconnect in the background; what is still asked is answered without these functions."""
        self._gone = True
        for question in list(self._open):
            self._alone(question)
        threading.Thread(target=self._pool.close, name="flstore-reader-close", daemon=True).start()

    def close(self) -> None:
        """Fail what is still asked, and disconnect."""
        self._gone = True
        self._serving.abandon()
        for question in list(self._open):
            question.fail(StoreClosedError("the store was closed before the request was answered"))
        self._pool.close()


class Sight:
    """What a reader has seen of what exists, and what it cannot see yet. Guarded by the reader.

    Parameters
    ----------
    catalogue : Catalogue
        Where what exists is noted.
    objects : ObjectStore
        The persistent store.
    """

    def __init__(self, catalogue: Catalogue, objects: ObjectStore) -> None:
        self._catalogue = catalogue
        self._objects = objects
        self._seen: tuple[str, int] | None = None
        self._hidden: dict[tuple[Kind, int], set[str | None]] = {}
        self._many: set[int] = set()

    def take_in(self, link: Link, news: Mapping[str, Any]) -> bool:
        """Look at what the news are about; False when nothing has changed since the last look."""
        version = news.get("version", 0)
        settled = not (self._hidden or self._many)
        if self._seen == (link.namespace, version) and settled:
            return False
        touched = {r for v, r in news.get("touched", ()) if self._seen and v > self._seen[1]}
        told = [v for v, _ in news.get("touched", ())]
        gapless = (
            self._seen is not None
            and self._seen[0] == link.namespace
            and (version == self._seen[1] or (told and min(told) <= self._seen[1] + 1))
        )
        before, self._seen = self._seen, (link.namespace, version)
        if gapless:
            self._list(touched | {r for _, r in self._hidden} | self._many)
        else:
            self._catalogue.read(self._objects)
        self._note_waiting(link, news)
        return before != self._seen

    def _note_waiting(self, link: Link, news: Mapping[str, Any]) -> None:
        """Note what exists and may not be stored: seen where a function holds it, hidden where none does."""
        self._hidden.clear()
        self._many = set(news.get("many", ()))
        job = self._catalogue.job
        waiting = [Key(job, Kind(kind), round, client) for kind, round, client in news.get("waiting", ())]
        unknown = [key for key in waiting if not self._catalogue.has(key)]
        if not unknown:
            return
        held = link.holdings()
        arrived: dict[tuple[Kind, int], dict[str | None, int]] = {}
        for key in unknown:
            if key in held:
                arrived.setdefault((key.kind, key.round), {})[key.client] = held[key]
            else:
                self._hidden.setdefault((key.kind, key.round), set()).add(key.client)
        with self._catalogue.lock:
            for (kind, round), sizes in arrived.items():
                event = self._catalogue.ingested(kind, round, sizes)
                self._catalogue.state.register(event.keys, event.sizes)

    def _list(self, rounds: Iterable[int]) -> None:
        self._catalogue.read(self._objects, sorted(rounds))

    def list_new(self, asked: Iterable[int]) -> None:
        """List the rounds that are asked for, and those that are new."""
        there = set(self._objects.rounds(self._catalogue.job))
        known = set(self._catalogue.rounds()) | set(self._catalogue.rounds_with_metadata())
        self._list(there & ((there - known) | set(asked)))

    def check_whole(self, keys: Sequence[Key], client: str | None) -> None:
        """Raise UpdateNotFoundError when a request would leave out what the writer has and nobody else can read."""
        for kind, round in {(key.kind, key.round) for key in keys}:
            hidden = self._hidden.get((kind, round), set())
            if round in self._many or (hidden if client is None else client in hidden):
                raise UpdateNotFoundError(
                    f"{len(hidden) or 'many'} objects ({kind.name.lower()}) of round {round} were taken in but are "
                    f"neither durable yet nor held by a cache function: ask again in a moment, or after the writer's "
                    f"flush()"
                )

    def in_words(self) -> str:
        """What to add to a message that something does not exist."""
        rounds = sorted({r for _, r in self._hidden} | self._many)
        return (
            f"; objects of rounds {rounds} are not durable yet: ask again after the writer's flush()" if rounds else ""
        )

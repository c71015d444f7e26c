"""The Request Tracker (section 4.3): which request went to which function, how far it is, and what it took."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd


ROWS = 1024
"""Requests that one block of columns has room for."""
LIVE = 512
"""Open records that are kept."""
STATUSES = ("running", "done", "failed")
_MEASURED = (
    "hits", "late_hits", "misses", "bytes_moved", "derived", "operations", "memory_bytes", "queue_s", "fetch_s",
    "compute_s", "latency_s",
)  # fmt: skip
_TYPES = ("<i4", "<i4", "<i4", "<i8", "?", "<i4", "<i8", "<f8", "<f8", "<f8", "<f8")
ENDED = np.dtype([*zip(_MEASURED, _TYPES, strict=True), ("error", "<u4")])
"""Of requests that are closed: what they took."""
_NO_ROUND = -(2**31)


@dataclass(slots=True)
class RequestRecord:
    """What happened to one request.

    Attributes
    ----------
    request : int
        Its number, counted from 1.
    system, job, workload, policy_class : str
        Who answered what, and the class of Table 1.
    round, client : int and str, or None
        What it was about.
    status : str
        ``running``, ``done`` or ``failed``.
    hits, late_hits, misses : int
        Objects that were in memory, on their way, or in the persistent store only, before the request.
    functions : list of str
        The functions that it was sent to, in order; the last one answered. ``engine``: answered in the process of the
        store, from its copy of recent metadata, of which all that it read counts as hits.
    bytes_moved : int
        Bytes that had to be fetched from the store or from another function for this request. With data that is held in
        parts also what crossed between its steps: partial results, and what came out of one stage for the next.
    derived : bool
        What the answer needs of the data had been computed before it was asked for, or for another request.
    operations : int
        Fetches that moved these bytes: one a GET, or one an object from another function. What crossed between the
        steps of a request is not counted.
    memory_bytes : int
        Memory of the functions that computed at the same time, which is what a function is billed by; 0 where a
        machine computed.
    queue_s, fetch_s, compute_s, latency_s : float
        Waiting for a thread, waiting for data, computing, and the whole as the caller saw it; seconds, measured.
    error : str
        What went wrong, empty when nothing did.
    """

    request: int
    system: str
    job: str
    workload: str
    policy_class: str
    round: int | None = None
    client: str | None = None
    status: str = "running"
    hits: int = 0
    late_hits: int = 0
    misses: int = 0
    functions: list[str] = field(default_factory=list)
    bytes_moved: int = 0
    derived: bool = False
    operations: int = 0
    memory_bytes: int = 0
    queue_s: float = 0.0
    fetch_s: float = 0.0
    compute_s: float = 0.0
    latency_s: float = 0.0
    error: str = ""

    @property
    def hit_ratio(self) -> float:
        """Hits over all objects asked for; late hits are not hits. NaN for none."""
        total = self.hits + self.late_hits + self.misses
        return self.hits / total if total else float("nan")


class Tracker:
    """Keeps what became of every request; safe to use from several threads.

    A request is a row of packed columns: :data:`BEGUN` from its opening on, :data:`ENDED` once it is closed. The
    records of the last `live` requests that are open are kept as well, so that a table shows them as they are at the
    moment.

    Parameters
    ----------
    system : str
        Whose requests these are.
    live : int
        How many open records are kept. An older one shows what was known when the next was opened, until it is closed.
    """

    def __init__(self, system: str, live: int = LIVE) -> None:
        self._system, self._most = system, live
        self._count = 0
        self._begun: list[_Begun] = []
        self._ended: dict[int, NDArray[Any]] = {}
        self._live: dict[int, RequestRecord] = {}
        self._whats, self._clients = _Codes(), _Codes()
        self._places, self._errors = _Codes(()), _Codes("")
        self._far: dict[int, int] = {}  # rounds that four bytes do not hold
        self._lock = threading.Lock()

    def open(self, job: str, workload: str, policy_class: str, round: int | None, client: str | None) -> RequestRecord:
        """Start the record of a new request. Whoever asked for it changes it, and closes it at the end."""
        with self._lock:
            at, row = divmod(self._count, ROWS)
            if not row:
                self._begun.append(_Begun())
            if round is None or -_NO_ROUND > round > _NO_ROUND:
                near = _NO_ROUND if round is None else round
            else:
                near, self._far[self._count] = 0, round
            begun = self._begun[at]
            begun.what[row] = self._whats.of((job, workload, policy_class))
            begun.round[row] = near
            begun.client[row] = -1 if client is None else self._clients.of(client)
            self._count += 1
            record = RequestRecord(self._count, self._system, job, workload, policy_class, round, client)
            self._live[self._count] = record
            if len(self._live) > self._most:
                oldest = next(iter(self._live))
                self._pack(self._live.pop(oldest))
            return record

    def close(self, record: RequestRecord) -> None:
        """Note how a request ended; what is changed in its record afterwards stays with the record."""
        with self._lock:
            self._live.pop(record.request, None)
            self._pack(record)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[RequestRecord]:
        with self._lock:
            found = [self._record(number) for number in range(1, self._count + 1)]
        return iter(found)

    def frame(self) -> pd.DataFrame:
        """One row a request, one column an attribute of :class:`RequestRecord`."""
        import pandas as pd

        begun, ended, far = self._columns(_Begun.__slots__, (*_MEASURED, "error"))
        jobs, workloads, classes = self._whats.columns(begun["what"], 3)
        rounds = begun["round"].astype(np.int64)
        rounds[list(far)] = list(far.values())
        columns: dict[str, Any] = {
            "request": np.arange(1, len(rounds) + 1), "system": _repeated([self._system], np.zeros_like(rounds)),
            "job": jobs, "workload": workloads, "policy_class": classes,
            "round": pd.arrays.IntegerArray(rounds, begun["round"] == _NO_ROUND),
            "client": self._clients.column(begun["client"], None), "status": _repeated(STATUSES, begun["status"]),
            "functions": _repeated([" ".join(f) for f in self._places], begun["functions"]),
            "error": self._errors.column(ended.pop("error")),
            **{name: v.astype(np.int64) if v.dtype.kind == "i" else v for name, v in ended.items()},
        }  # fmt: skip
        return pd.DataFrame({f.name: columns[f.name] for f in fields(RequestRecord)}).set_index("request")

    def by_class(self) -> dict[str, dict[str, float]]:
        """Of each class of Table 1: requests, hits, late_hits, misses, and median_latency_s of those that are done."""
        begun, ended, _ = self._columns(("what", "status"), ("hits", "late_hits", "misses", "latency_s"))
        classes = [str(policy_class) for _, _, policy_class in self._whats]
        numbers = np.array([classes.index(c) for c in classes], dtype=np.intp)[begun["what"]]
        found = {}
        for name in sorted(set(classes)):
            among = numbers == classes.index(name)
            done = ended["latency_s"][among & (begun["status"] == STATUSES.index("done"))]
            sums = {kind: int(ended[kind][among].sum()) for kind in ("hits", "late_hits", "misses")}
            median = float(np.median(done)) if done.size else float("nan")
            found[name] = {"requests": int(among.sum()), **sums, "median_latency_s": median}
        return found

    def _columns(
        self, begun: Iterable[str], ended: Iterable[str]
    ) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]], dict[int, int]]:
        """Copies of columns as they are at the moment, and the rounds that they have no room for."""
        with self._lock:
            for record in self._live.values():
                self._pack(record)
            blank = np.zeros(ROWS, dtype=ENDED)
            blocks = [self._ended.get(at, blank) for at in range(len(self._begun))] or [blank]
            first = {name: [getattr(block, name) for block in self._begun] or [np.zeros(0, int)] for name in begun}
            return (
                {name: np.concatenate(columns)[: self._count] for name, columns in first.items()},
                {name: np.concatenate([block[name] for block in blocks])[: self._count] for name in ended},
                dict(self._far),
            )

    def _pack(self, record: RequestRecord) -> None:
        at, row = divmod(record.request - 1, ROWS)
        begun = self._begun[at]
        if record.functions:
            begun.functions[row] = self._places.of(tuple(record.functions))
        begun.status[row] = STATUSES.index(record.status)
        values = tuple(getattr(record, name) for name in _MEASURED)
        if at in self._ended or any(values) or record.error:
            if at not in self._ended:
                self._ended[at] = np.zeros(ROWS, dtype=ENDED)
            self._ended[at][row] = (*values, self._errors.of(record.error))

    def _record(self, number: int) -> RequestRecord:
        if number in self._live:
            return replace(self._live[number], functions=list(self._live[number].functions))
        at, row = divmod(number - 1, ROWS)
        begun = self._begun[at]
        job, workload, policy_class = self._whats[begun.what.item(row)]
        near, client = begun.round.item(row), begun.client.item(row)
        record = RequestRecord(
            number, self._system, job, workload, policy_class,
            self._far.get(number - 1, None if near == _NO_ROUND else near),
            None if client < 0 else self._clients[client], STATUSES[begun.status.item(row)],
            functions=list(self._places[begun.functions.item(row)]),
        )  # fmt: skip
        if at in self._ended:
            *values, error = self._ended[at][row].item()
            for name, value in zip(_MEASURED, values, strict=True):
                setattr(record, name, value)
            record.error = self._errors[error]
        return record


class _Begun:
    """Requests that were opened, by their numbers. All but round and status are numbers of names kept once."""

    __slots__ = ("client", "functions", "round", "status", "what")

    def __init__(self) -> None:
        self.status = np.zeros(ROWS, dtype=np.int8)
        self.what = np.zeros(ROWS, dtype=np.uint16)
        self.round = np.zeros(ROWS, dtype=np.int32)
        self.client = np.zeros(ROWS, dtype=np.int32)
        self.functions = np.zeros(ROWS, dtype=np.uint32)


class _Codes:
    """Small numbers for values that come again and again."""

    def __init__(self, *values: Any) -> None:
        self._values: list[Any] = list(values)
        self._codes: dict[Any, int] = {value: code for code, value in enumerate(values)}

    def of(self, value: Any) -> int:
        code = self._codes.get(value)
        if code is None:
            code = self._codes[value] = len(self._values)
            self._values.append(value)
        return code

    def __getitem__(self, code: int) -> Any:
        return self._values[code]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def column(self, codes: NDArray[Any], *missing: Any) -> NDArray[Any]:
        """The value of each code; -1 is the one that is `missing`."""
        return _repeated([*self._values, *missing], codes)

    def columns(self, codes: NDArray[Any], width: int) -> list[NDArray[Any]]:
        """Of values that are tuples the column of each place."""
        values = list(self._values)
        return [_repeated([value[i] for value in values], codes) for i in range(width)]


def _repeated(values: Iterable[Any], codes: NDArray[Any]) -> NDArray[Any]:
    """An array of objects, one for each code."""
    found: NDArray[Any] = np.array([*values, None], dtype=object)[:-1][codes]
    return found

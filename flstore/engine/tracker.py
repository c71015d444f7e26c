"""The Request Tracker (section 4.3): which request went to which function, how far it is, and what it took."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


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
    """Keeps the record of every request; safe to use from several threads."""

    def __init__(self, system: str) -> None:
        self._system = system
        self._records: dict[int, RequestRecord] = {}
        self._lock = threading.Lock()

    def open(self, job: str, workload: str, policy_class: str, round: int | None, client: str | None) -> RequestRecord:
        """Start the record of a new request."""
        with self._lock:
            record = RequestRecord(len(self._records) + 1, self._system, job, workload, policy_class, round, client)
            self._records[record.request] = record
            return record

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[RequestRecord]:
        return iter(list(self._records.values()))

    def frame(self) -> pd.DataFrame:
        """One row a request, one column an attribute of :class:`RequestRecord`."""
        import pandas as pd

        records = list(self)
        columns: dict[str, list[Any]] = {f.name: [getattr(r, f.name) for r in records] for f in fields(RequestRecord)}
        columns["functions"] = [" ".join(functions) for functions in columns["functions"]]
        return pd.DataFrame(columns).astype({"round": "Int64"}).set_index("request")

"""A live view of a store in a notebook: looked at beside training and requests, and never often enough to slow them."""

from __future__ import annotations

import atexit
import contextlib
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from flstore.errors import InvalidParameterError, OptionalDependencyError
from flstore.status import Status
from flstore.types import FunctionJoined, FunctionLost

if TYPE_CHECKING:
    from flstore.store import FLStore

MOST_SHARE = 0.01
"""Of a processor that looking may take: after a look that took long the next one comes later."""
NEWS = 6
"""Losses and recoveries that are shown."""


@dataclass(frozen=True)
class Glance:
    """What a monitor saw at one moment.

    Attributes
    ----------
    status : Status
        What the store held, and how its requests fared.
    in_flight, waiting : int
        Requests that were open; of those, none, and in line before they start.
    per_s : float
        Requests a second since the look before.
    recent_hit_ratio : float
        Of the objects asked for since the look before; NaN for none.
    lost, joined : int
        Functions that were lost, and that came (back), since the monitor was opened.
    silent : frozenset of str
        Names of functions that did not answer.
    news : tuple of str
        The latest losses and recoveries, the oldest first.
    at : str
        Time of day.
    live : bool
        Whether another look follows.
    """

    status: Status
    in_flight: int
    waiting: int
    per_s: float
    recent_hit_ratio: float
    lost: int
    joined: int
    silent: frozenset[str]
    news: tuple[str, ...]
    at: str
    live: bool


class Monitor:
    """A live view of a store: cache map, requests in flight, hit ratio, memory, losses and recoveries.

    :meth:`flstore.FLStore.monitor` opens one below the cell that asks for it. While it is open, a thread looks at the
    store now and then and shows what it saw, unless nothing has changed. When it is closed, the last view takes its
    place as plain HTML, which is what a saved notebook shows. It closes by :meth:`close`, at the end of a ``with``
    block, with its store, and when the interpreter ends. Outside a notebook nothing is drawn; ``print(monitor)`` states
    the same facts.

    Parameters
    ----------
    store : FLStore
        What to look at.
    interval_s : float, default 1.0
        Seconds between two looks at least; more where a look takes long, so that all looks together take at most a
        hundredth of a processor.

    Raises
    ------
    InvalidParameterError
        The interval is not positive.
    OptionalDependencyError
        ipywidgets is not installed.
    """

    def __init__(self, store: FLStore, interval_s: float = 1.0) -> None:
        if isinstance(interval_s, bool) or not isinstance(interval_s, int | float) or not interval_s > 0:
            raise InvalidParameterError(f"interval_s must be a positive number of seconds, got {interval_s!r}")
        self._display = _Output()
        self._store, self._interval_s = store, float(interval_s)
        self._guard = threading.Lock()  # a look at a time: they compare with the one before
        self._over = threading.Event()
        self._names: dict[int, str] = {}
        self._news: deque[str] = deque(maxlen=NEWS)
        self._read, self._lost, self._joined = len(store.log), 0, 0
        self._before: tuple[float, int, int, int] | None = None
        self._seen: Any = None
        self._last = self._look(live=True)
        self._display.open(self._last)
        self._thread = threading.Thread(target=self._run, name="flstore-monitor", daemon=True)
        atexit.register(self.close)
        self._thread.start()

    @property
    def closed(self) -> bool:
        """Whether it looks no more."""
        return self._over.is_set()

    @property
    def glance(self) -> Glance:
        """What was seen last."""
        return self._last

    def close(self) -> None:
        """Look once more, leave that in the notebook as plain HTML, and stop. Closing twice is closing once."""
        with self._guard:
            if self._over.is_set():
                return
            self._over.set()
        atexit.unregister(self.close)
        if threading.current_thread() is not self._thread:
            self._thread.join()
        with contextlib.suppress(Exception):  # a notebook that cannot be drawn on must not keep a store from closing
            self._last = self._look(live=False)
            self._display.close(self._last)

    def _run(self) -> None:
        wait_s = self._interval_s
        while not self._over.wait(wait_s):
            began = time.thread_time()
            with contextlib.suppress(Exception), self._guard:  # what fails now may work at the next look
                if not self._over.is_set() and self._changed():
                    self._last = self._look(live=True)
                    self._display.update(self._last)
            wait_s = max(self._interval_s, (time.thread_time() - began) / MOST_SHARE)

    # --- looking ----------------------------------------------------------------------------------------------------

    def _changed(self) -> bool:
        store = self._store
        seen = (
            len(store.log), len(store._tracker), store._gate.inside, store._gate.waiting, store._writer.pending_bytes,
            store._pool.silent(), store.closed,
        )  # fmt: skip
        changed = seen != self._seen or self._last.per_s > 0
        self._seen = seen
        return changed

    def _look(self, live: bool) -> Glance:
        store = self._store
        self._hear()
        status, now = store.status(), time.monotonic()
        hits = sum(c.hits for c in status.classes)
        objects = hits + sum(c.late_hits + c.misses for c in status.classes)
        requests = sum(c.requests for c in status.classes)
        then, requests_then, hits_then, objects_then = self._before or (now, requests, hits, objects)
        self._before = (now, requests, hits, objects)
        asked = objects - objects_then
        return Glance(
            status, store._gate.inside, store._gate.waiting,
            per_s=(requests - requests_then) / (now - then) if now > then else 0.0,
            recent_hit_ratio=(hits - hits_then) / asked if asked > 0 else float("nan"),
            lost=self._lost, joined=self._joined,
            silent=frozenset(self._names[number] for number in store._pool.silent() if number in self._names),
            news=tuple(self._news), at=time.strftime("%H:%M:%S"), live=live,
        )  # fmt: skip

    def _hear(self) -> None:
        """Note who came and went since the last look."""
        self._names.update({number: f.name for number, f in list(self._store._pool.functions.items())})
        entries = self._store.log.entries
        kinds = entries.kinds(self._read)
        for at, kind in enumerate(kinds, self._read):
            if kind in ("lost", "joined") and isinstance(event := entries[at].event, FunctionLost | FunctionJoined):
                name = self._names.get(event.function, f"function {event.function}")
                gone = isinstance(event, FunctionLost)
                self._lost, self._joined = self._lost + gone, self._joined + (not gone)
                self._news.append(f"{time.strftime('%H:%M:%S')} {name} {'was lost' if gone else 'joined'}")
        self._read += len(kinds)

    # --- how it shows -----------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        from flstore.display.monitor import text

        return text(self._last)

    def _ipython_display_(self) -> None:
        self._display.again(self._last)


class _Output:
    """The place below a cell where a monitor is drawn: a widget while it is open, plain HTML afterwards."""

    def __init__(self) -> None:
        try:
            import ipywidgets
            from IPython import get_ipython
        except ImportError:
            raise OptionalDependencyError.of("ipywidgets", "notebook", "store.monitor()") from None
        self._shell = get_ipython()
        self._in_notebook = getattr(self._shell, "kernel", None) is not None
        self._widget: Any = ipywidgets.HTML() if self._in_notebook else None
        self._handle: Any = None
        self._cell: int | None = None

    def open(self, glance: Glance) -> None:
        """Draw below the cell that is running."""
        if self._in_notebook:
            from IPython.display import display

            self.update(glance)
            self._cell = self._shell.execution_count
            self._handle = display(self._widget, display_id=True)

    def update(self, glance: Glance) -> None:
        """Draw what was seen in place of what was drawn."""
        from flstore.display.monitor import html

        if self._in_notebook:
            self._widget.value = html(glance)

    def close(self, glance: Glance) -> None:
        """Leave plain HTML, which a saved notebook keeps."""
        from flstore.display.monitor import html

        if self._in_notebook:
            self._handle.update(_Shown(html(glance)))
            self._widget.close()

    def again(self, glance: Glance) -> None:
        """Draw what was seen last below another cell; the one that opened the monitor shows it already."""
        from flstore.display.monitor import html

        if self._in_notebook and self._shell.execution_count != self._cell:
            from IPython.display import display

            display(_Shown(html(glance)))


@dataclass(frozen=True)
class _Shown:
    """HTML and nothing else."""

    html: str

    def _repr_html_(self) -> str:
        return self.html

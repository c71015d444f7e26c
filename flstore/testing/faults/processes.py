"""What can happen to the process of a cache function."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil

from flstore.errors import FunctionLostError, InvalidParameterError, UnknownNameError

if TYPE_CHECKING:
    from flstore import FLStore

JOIN_WITHIN_S = 60.0
_GONE_WITHIN_S = 10.0
_POLL_S = 0.01


def functions(store: FLStore) -> dict[str, int]:
    """Process ids of the functions that are alive, by name, sorted.

    Parameters
    ----------
    store : FLStore
        A store that runs.

    Raises
    ------
    InvalidParameterError
        They are threads of this process (a ``memory://`` root), which cannot be struck alone.
    """
    found = {f.name: f.pid for f in list(store._pool.functions.values())}
    if os.getpid() in found.values():
        raise InvalidParameterError(
            f"the functions of a store on {store.root} are threads of this process; use a folder as root to strike them"
        )
    return dict(sorted(found.items()))


def kill(store: FLStore, name: str) -> None:
    """End a function's process by SIGKILL, and wait until it is gone. Dask starts another in its place, empty.

    Parameters
    ----------
    store : FLStore
        A store that runs.
    name : str
        Of the function, as :func:`functions` lists it.

    Raises
    ------
    UnknownNameError
        No function of this name is alive; the message lists those that are.
    """
    process = _process(store, name)
    process.kill()
    process.wait(_GONE_WITHIN_S)


def restart(store: FLStore, name: str, timeout_s: float = JOIN_WITHIN_S) -> int:
    """Kill a function and wait until another joined under its name, empty; returns the new process id.

    Parameters
    ----------
    store : FLStore
        A store that runs.
    name : str
        Of the function, as :func:`functions` lists it.
    timeout_s : float
        How long to wait for the other one.

    Raises
    ------
    UnknownNameError
        As :func:`kill`.
    FunctionLostError
        It did not come back in time.
    """
    before = _process(store, name).pid
    kill(store, name)
    return await_function(store, name, before, timeout_s)


@contextmanager
def hang(store: FLStore, name: str) -> Iterator[None]:
    """Stop a function's process (SIGSTOP): its connections stay, and nothing answers. At the end it goes on.

    Parameters
    ----------
    store : FLStore
        A store that runs.
    name : str
        Of the function, as :func:`functions` lists it.

    Raises
    ------
    UnknownNameError
        As :func:`kill`.

    Examples
    --------
    >>> with hang(store, "function-0"):  # doctest: +SKIP
    ...     store.request("clustering", round=3)  # served by another function
    """
    process = _process(store, name)
    try:
        process.suspend()
        _wait_until_stopped(process)
        yield
    finally:
        _resume(process)


@contextmanager
def slow(store: FLStore, name: str, share: float = 0.1, period_s: float = 0.05) -> Iterator[None]:
    """Let a function's process run for `share` of every period only, as on an overloaded machine.

    Not together with :func:`hang` on the same function, which it would wake.

    Parameters
    ----------
    store : FLStore
        A store that runs.
    name : str
        Of the function, as :func:`functions` lists it.
    share : float
        Of each period in which it runs, between 0 and 1.
    period_s : float
        Seconds.

    Raises
    ------
    InvalidParameterError
        `share` is outside (0, 1), or the period is not positive.
    UnknownNameError
        As :func:`kill`.
    """
    if not 0 < share < 1 or not period_s > 0:
        raise InvalidParameterError(f"share={share} must lie in (0, 1) and period_s={period_s} be above 0")
    process, over = _process(store, name), threading.Event()

    def brake() -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            while not over.is_set():
                process.suspend()
                over.wait(period_s * (1 - share))
                process.resume()
                over.wait(period_s * share)

    thread = threading.Thread(target=brake, name=f"flstore-slow-{name}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        _resume(process)


def sever(store: FLStore, name: str) -> int:
    """Shut every TCP connection between this process and a function; returns how many.

    Both sides see them end, as when a router restarts, and both may connect anew at once. The scheduler of a local
    store is in this process and takes the function for lost, and a Dask worker that loses its scheduler ends itself;
    whether another takes its place is up to the cluster. Connections between functions stay.

    Parameters
    ----------
    store : FLStore
        A store that runs.
    name : str
        Of the function, as :func:`functions` lists it.

    Raises
    ------
    UnknownNameError
        As :func:`kill`.
    """
    theirs = {c.laddr for c in _process(store, name).net_connections("tcp") if c.status == psutil.CONN_ESTABLISHED}
    cut = 0
    for connection in psutil.Process().net_connections("tcp"):
        if connection.status == psutil.CONN_ESTABLISHED and connection.raddr in theirs:
            # A copy of the descriptor: the original stays with the one who opened it, and is closed by it.
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.fd)) as end:
                end.shutdown(socket.SHUT_RDWR)
                cut += 1
    return cut


def _process(store: FLStore, name: str) -> psutil.Process:
    alive = functions(store)
    if name not in alive:
        raise UnknownNameError.of("living cache function", name, alive)
    try:
        return psutil.Process(alive[name])
    except psutil.NoSuchProcess as exc:
        raise FunctionLostError(f"the process {alive[name]} of {name!r} has just ended") from exc


def await_function(store: FLStore, name: str, before: int | None = None, timeout_s: float = JOIN_WITHIN_S) -> int:
    """Wait until a function is alive, in another process than `before`; returns its process id.

    Parameters
    ----------
    store : FLStore
        A store that runs.
    name : str
        Of the function, as :func:`functions` lists it.
    before : int, optional
        The process id that it had.
    timeout_s : float
        How long to wait.

    Raises
    ------
    FunctionLostError
        It did not join in time.
    """
    end = time.monotonic() + timeout_s
    while (now := functions(store).get(name)) in (None, before):
        if time.monotonic() > end:
            raise FunctionLostError(f"{name!r} did not join within {timeout_s} s; alive: {list(functions(store))}")
        time.sleep(_POLL_S)
    assert now is not None
    return now


def _wait_until_stopped(process: psutil.Process) -> None:
    end = time.monotonic() + _GONE_WITHIN_S
    while process.status() != psutil.STATUS_STOPPED and time.monotonic() < end:
        time.sleep(_POLL_S)


def _resume(process: psutil.Process) -> None:
    # psutil compares start times, so a later process of the same number is left alone.
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGCONT)

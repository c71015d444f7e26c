"""What a function does with a process that is its own: it answers small requests all day, and moves large objects."""

from __future__ import annotations

import ctypes
import gc
import signal
import threading


def collect_seldom() -> None:
    """Look for garbage less often, and not among modules."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def ignore_interrupts() -> None:
    """Outlive Ctrl-C and a notebook's *Interrupt*: they reach all processes and are meant for the caller."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def give_back() -> None:
    """Return to the system what the allocator kept of memory that is not used any more, where that is possible."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of the GNU C library
    if trim is not None:
        trim(0)

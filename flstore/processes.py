"""Which process this is, in words that another process can check later: is it gone?"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Process:
    """A process as others may know it.

    Attributes
    ----------
    host : str
        The machine's name, for messages.
    pid : int
        Its number there.
    birth : str
        What no other process shares: this start of the machine, the space that its number counts in, the tick at which
        it began. Never a time of day, which jumps. Empty where the system does not tell.
    """

    host: str
    pid: int
    birth: str

    @classmethod
    def this(cls) -> Process:
        """The process that asks."""
        pid = os.getpid()
        return cls(socket.gethostname(), pid, _birth(pid))

    @property
    def is_gone(self) -> bool:
        """Whether it has certainly ended. False for one of another machine or container, of which nothing is known."""
        if not self.birth or self.birth.rpartition(" ")[0] != _place():
            return False
        found = _birth(self.pid)
        if found:
            return found != self.birth
        # Some systems show no processes of other users, but say that they are there.
        with suppress(PermissionError):
            try:
                os.kill(self.pid, 0)
            except ProcessLookupError:
                return True
        return False

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def _place() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _birth(pid: int) -> str:
    try:
        # The name of the program, in parentheses, may hold spaces; the 20th field after it is the tick of the start.
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return f"{_place()} {'ended' if stat[0] == 'Z' else stat[19]}"
    except OSError:
        if Path("/proc/self/stat").exists():
            return ""
    try:
        return f"{_place()} {psutil.Process(pid).create_time():.2f}"
    except psutil.Error:
        return ""

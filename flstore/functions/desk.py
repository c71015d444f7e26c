"""What a cache function does for readers: it says what it holds, and carries word between them and the writer."""

from __future__ import annotations

import os
from collections import deque
from typing import Any

import numpy as np

from flstore.errors import WriterExistsError
from flstore.functions import wire
from flstore.functions.lease import Lease
from flstore.functions.memory import FunctionMemory

MOST_ASKED = 256
"""Requests of readers that wait for the writer's next ping; older ones are forgotten."""
ORDERS = ("put", "put_part", "load", "load_part", "copy", "drop", "derive")
"""Messages that change what a function holds: for the writer alone."""

# A worker process outlives the stores that use it, and serves several: what it knows of their writers is its own.
_highest: dict[str, int] = {}


class Desk:
    """Part of a cache function: keep-alive pings, and the answers for readers."""

    memory: FunctionMemory
    incarnation: str
    _lease: Lease | None = None

    def open_desk(self, lineage: str, epoch: int) -> None:
        """Begin, in the term of a writer: orders of earlier ones are refused from now on."""
        self.lineage = lineage
        _highest[lineage] = max(epoch, _highest.get(lineage, 0))
        self._news = b""
        self._asked: deque[Any] = deque(maxlen=MOST_ASKED)
        self._readers = 0

    def refuse_lower(self, epoch: int) -> None:
        """Raise when a later writer than that of `epoch` is known here."""
        highest = _highest.get(self.lineage, 0)
        if epoch < highest:
            raise WriterExistsError(
                f"the order is of a writer whose term is over (epoch {epoch}); the writer of epoch {highest} has taken "
                f"over. Use FLStore.attach(root) to go on asking"
            )

    async def _ping(self, news: bytes | None = None, drain: bool = False) -> dict[str, Any]:
        """Say how it goes. The writer brings its news for readers, and takes what these have asked."""
        if self._lease is not None:
            self._lease.renew()
        if news is not None:
            self._news = news
        asked, readers = [], self._readers
        if drain:
            asked, self._readers = list(self._asked), 0
            self._asked.clear()
        memory = self.memory
        return {
            "incarnation": self.incarnation, "pid": os.getpid(), "capacity_bytes": memory.capacity_bytes,
            "used_bytes": memory.used_bytes, "scratch_bytes": memory.scratch_bytes, "objects": len(memory.entries),
            "asked": wire.pack(asked), "readers": readers,
        }  # fmt: skip

    async def _weigh(self, keys: Any, asked: Any = None) -> dict[str, Any]:
        """Which of these are here: bytes of each, -1 for those that are not. `asked` is passed on to the writer."""
        self._readers += 1
        if asked is not None:
            self._asked.append(wire.unpack(asked))
        found = [self.memory.entries.get(wire.key_of(values)) for values in wire.unpack(keys)]
        whole = (entry if entry is not None and entry.part is None else None for entry in found)
        sizes = np.array([-1 if entry is None else entry.size_bytes for entry in whole], dtype=np.int64)
        return {"sizes": wire.pack(sizes), "news": self._news}

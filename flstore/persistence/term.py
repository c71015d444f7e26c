"""A writer's term: who may write a job, and since when. One after the other, each with a higher epoch."""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from flstore.errors import WriterExistsError
from flstore.processes import Process
from flstore.tensors import Buffer


@dataclass(frozen=True, slots=True)
class Term:
    """One writer's term on a root and job.

    Attributes
    ----------
    lineage : str
        Made with the first term on this root and job, kept by all that follow; a root made anew starts another one.
    epoch : int
        Higher than that of every term before it, from 1 on.
    token : str
        Of this term alone.
    host, pid, birth : str, int, str
        The writer, see :class:`flstore.processes.Process`.
    since : str
        When it began by the writer's clock; shown, never compared.
    beat : int
        Grows while the writer lives (leases).
    released : bool
        Whether the writer gave it back (leases).
    """

    lineage: str
    epoch: int
    token: str
    host: str
    pid: int
    birth: str
    since: str
    beat: int = 0
    released: bool = False

    @classmethod
    def after(cls, last: Term | None) -> Term:
        """The term of this process that follows `last`."""
        me = Process.this()
        lineage, epoch = (uuid.uuid4().hex, 0) if last is None else (last.lineage, last.epoch)
        since = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(lineage, epoch + 1, uuid.uuid4().hex, me.host, me.pid, me.birth, since)

    @property
    def writer(self) -> Process:
        """The process of this term."""
        return Process(self.host, self.pid, self.birth)

    def beating(self) -> Term:
        """The same term, a beat later."""
        return replace(self, beat=self.beat + 1)

    def ended(self) -> Term:
        """The same term, given back."""
        return replace(self, released=True)

    def dump(self) -> bytes:
        """As JSON."""
        return json.dumps(asdict(self), indent=1).encode()

    @classmethod
    def load(cls, data: Buffer) -> Term | None:
        """What :meth:`dump` wrote, None for anything else."""
        try:
            values = json.loads(bytes(data))
            term = cls(**values)
        except (ValueError, TypeError):
            return None
        return term if isinstance(term.epoch, int) and isinstance(term.lineage, str) else None


class Claim(Protocol):
    """The right to write a root and job, held by this process."""

    @property
    def term(self) -> Term:
        """The term that began with it."""
        ...

    def check(self) -> None:
        """Raise WriterExistsError when another writer has taken over."""
        ...

    def release(self) -> None:
        """Give it back; the next writer need not wait."""
        ...


def refusal(root: str, job: str, holder: Term | None) -> WriterExistsError:
    """The error for a second writer."""
    who = "another process" if holder is None else f"{holder.writer} (since {holder.since})"
    return WriterExistsError(
        f"job {job!r} below {root} is being written by {who}: ask it with FLStore.attach({root!r}), write under "
        f"another job=..., or take over with takeover=True if that writer should stop"
    )


def replaced(root: str, job: str, holder: Term | None) -> WriterExistsError:
    """The error for a writer that another one took over from."""
    who = "another process" if holder is None else f"{holder.writer} (since {holder.since})"
    return WriterExistsError(
        f"{who} has taken over job {job!r} below {root}, so this store takes nothing more in; what it took in before "
        f"is still written by flush() and close(). Use FLStore.attach({root!r}) to go on asking"
    )

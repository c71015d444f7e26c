"""Which operations of a ``faulty://`` file system go wrong: a plan that several processes share."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import fsspec

from flstore.errors import InvalidParameterError

KINDS = ("fail", "stall", "tear", "unanswered")
OPERATIONS = ("write", "read", "list", "look", "remove")
PROTOCOL = "faulty"
_POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong with a kind of operation.

    Parameters
    ----------
    kind : {'fail', 'stall', 'tear', 'unanswered'}
        ``fail``: nothing happens, and an OSError. ``stall``: it takes `delay_s` longer. ``tear``: a write leaves half
        of the bytes under the final name, and an OSError; a read returns half of the bytes, and no error.
        ``unanswered``: it is done, and an OSError all the same.
    operation : {'write', 'read', 'list', 'look', 'remove'}
        What it strikes; ``look`` is a question about one file.
    times : int, optional
        How often it strikes, over all processes; without it, until it is lifted.
    probability : float, default 1
        The share of the matching operations that it strikes.
    seed : int
        Which of them: an equal seed chooses equally, by the number of the operation.
    delay_s : float, optional
        Of a stall, seconds; without it, until the fault is lifted.
    match : str, default '*'
        A pattern for the whole path, as in ``fnmatch``: ``"*client=*"`` is updates only.

    Raises
    ------
    InvalidParameterError
        A value out of range.
    """

    kind: str
    operation: str
    times: int | None = None
    probability: float = 1.0
    seed: int = 0
    delay_s: float | None = None
    match: str = "*"

    def __post_init__(self) -> None:
        for name, value, known in (("kind", self.kind, KINDS), ("operation", self.operation, OPERATIONS)):
            if value not in known:
                raise InvalidParameterError(f"the {name} of a fault is one of {', '.join(known)}, not {value!r}")
        if self.kind == "tear" and self.operation not in ("write", "read"):
            raise InvalidParameterError(f"only a write or a read can tear, not the operation {self.operation!r}")
        if self.times is not None and self.times < 1:
            raise InvalidParameterError(f"times={self.times} is out of range; a fault strikes at least once")
        if not 0 < self.probability <= 1:
            raise InvalidParameterError(f"probability={self.probability} is outside (0, 1]")
        if self.delay_s is not None and not self.delay_s >= 0:
            raise InvalidParameterError(f"delay_s={self.delay_s} is negative")


@dataclass(frozen=True, slots=True)
class Strike:
    """One operation that a fault struck, in the process `pid`."""

    kind: str
    operation: str
    path: str
    pid: int


@dataclass(frozen=True)
class FaultPlan:
    """The faults that are staged, shared by all processes that use the same `folder`.

    Making one registers ``faulty://`` with fsspec in this process. A cache function makes one when it receives the
    storage options, so ``FLStore.local(root=plan.url(...), storage_options=plan.storage_options)`` is all it takes.

    Parameters
    ----------
    folder : str
        For the plan's own files; made when it is missing. Not the root of the store.

    Examples
    --------
    A disk that is slow for a while, and a network that loses every tenth answer::

        with plan.stage(Fault("stall", "read", delay_s=0.2)):
            store.request("clustering", round=3)
        plan.add(Fault("unanswered", "write", probability=0.1, seed=7))
    """

    folder: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", os.path.abspath(self.folder))
        fsspec.register_implementation(PROTOCOL, "flstore.testing.faulty_fs.FaultyFileSystem", clobber=True)
        for folder in (self._faults, self._calls, self._strikes):
            folder.mkdir(parents=True, exist_ok=True)

    def __reduce__(self) -> tuple[Any, ...]:
        # Through the constructor, which registers the protocol where the plan arrives.
        return FaultPlan, (self.folder,)

    @property
    def storage_options(self) -> dict[str, Any]:
        """For :class:`flstore.FLStore` and :class:`flstore.persistence.ObjectStore`."""
        return {"plan": self}

    def url(self, root: str | os.PathLike[str]) -> str:
        """The URL of a folder that this plan disturbs: ``faulty:///...``."""
        return f"{PROTOCOL}://{os.path.abspath(root)}"

    def add(self, fault: Fault) -> int:
        """Stage a fault until it is lifted; returns its number. Of several that match, the oldest strikes."""
        number = _take_number(self._calls, Path.mkdir)
        self._write(dataclasses.asdict(fault), self._faults / str(number), os.replace)
        return number

    def lift(self, number: int | None = None) -> None:
        """End a fault, by default all of them; operations that stall go on."""
        for staged in self._staged() if number is None else [number]:
            (self._faults / str(staged)).unlink(missing_ok=True)

    @contextmanager
    def stage(self, fault: Fault) -> Iterator[int]:
        """Stage a fault, and lift it at the end whatever happens."""
        number = self.add(fault)
        try:
            yield number
        finally:
            self.lift(number)

    def strikes(self) -> list[Strike]:
        """What was struck so far, in all processes, in order."""
        found = sorted(self._strikes.iterdir(), key=lambda path: int(path.name))
        return [Strike(**json.loads(path.read_text())) for path in found]

    def disturb(self, operation: str, path: str) -> Fault | None:
        """Decide about one operation; returns the fault that strikes it. A stall is over when this returns."""
        for number in self._staged():
            try:
                fault = Fault(**json.loads((self._faults / str(number)).read_text()))
            except FileNotFoundError:
                continue  # just lifted
            if fault.operation != operation or not fnmatchcase(path, fault.match):
                continue
            if _struck(fault, _take_number(self._calls / str(number), Path.touch)):
                break
        else:
            return None
        strike = dataclasses.asdict(Strike(fault.kind, operation, path, os.getpid()))
        _take_number(self._strikes, lambda place, exist_ok: self._write(strike, place, os.link))
        end = None if fault.delay_s is None else time.monotonic() + fault.delay_s
        if fault.kind == "stall":
            while (self._faults / str(number)).exists() and (end is None or time.monotonic() < end):
                time.sleep(_POLL_S)
        return fault

    # No locks: a process that is stopped while it holds one would stop all others. A number belongs to the one who
    # creates the file of that name.

    @property
    def _faults(self) -> Path:
        return Path(self.folder, "faults")

    @property
    def _calls(self) -> Path:
        return Path(self.folder, "calls")

    @property
    def _strikes(self) -> Path:
        return Path(self.folder, "strikes")

    def _staged(self) -> list[int]:
        return sorted(int(name) for name in os.listdir(self._faults))

    def _write(self, values: dict[str, Any], place: Path, put: Callable[[Path, Path], None]) -> None:
        # Whole or not at all: processes are killed while they do this.
        temporary = Path(self.folder, f"{uuid.uuid4().hex}.tmp")
        temporary.write_text(json.dumps(values))
        try:
            put(temporary, place)
        finally:
            temporary.unlink(missing_ok=True)


def _take_number(folder: Path, create: Callable[..., None]) -> int:
    """Create the next free of 0, 1, ... in a folder; each number is given once, to one process."""
    number = len(os.listdir(folder))
    while True:
        try:
            create(folder / str(number), exist_ok=False)
            return number
        except FileExistsError:
            number += 1


def _struck(fault: Fault, call: int) -> bool:
    """Whether a fault strikes the matching operation of this number, from 0 on."""

    def chosen(number: int) -> bool:
        return fault.probability == 1 or random.Random(f"{fault.seed}/{number + 1}").random() < fault.probability

    return chosen(call) and (fault.times is None or sum(map(chosen, range(call))) < fault.times)

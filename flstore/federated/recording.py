"""A run that lies in a root: what it was, and how it is used again."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Any

from flstore.display.progress import progress_bar
from flstore.errors import CorruptObjectError, InvalidParameterError, UpdateNotFoundError
from flstore.federated.rounds import Round, RoundData
from flstore.persistence import ObjectStore
from flstore.persistence.claim import place
from flstore.persistence.layout import RUN
from flstore.persistence.notes import read_note
from flstore.persistence.values import read
from flstore.types import Key, Kind

if TYPE_CHECKING:
    import pandas as pd

    from flstore.store import FLStore
    from flstore.system import System

FORMAT = 1
_PACKAGES = ("flstore", "numpy", "torch", "torchvision", "flwr", "scikit-learn")
_COLUMNS = ("accuracy", "loss", "train_loss", "seconds")


@dataclass(frozen=True, repr=False, eq=False)
class Recording:
    """A run of federated training that lies in a root; shows itself in a notebook.

    Made by :func:`flstore.federated.record`, opened again by :meth:`open`.

    Attributes
    ----------
    root, job : str
        Where it is.
    arguments : dict
        With which it was recorded: the model, the number of rounds, the seed and all else that decides what comes out.
    versions : dict
        Of the packages that made it, and the kind of processor.
    history : tuple of Round
        Position 0 is the model that training started from; the last is the last complete round.
    storage_options : dict
        For fsspec; never shown.
    """

    root: str
    job: str
    arguments: dict[str, Any]
    versions: dict[str, str]
    history: tuple[Round, ...]
    storage_options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, root: str, storage_options: Mapping[str, Any] | None = None) -> Recording:
        """What was recorded below a root, complete or not.

        Raises
        ------
        UpdateNotFoundError
            Nothing was.
        CorruptObjectError
            Its ``run.json`` cannot be read.
        """
        objects = ObjectStore(root, storage_options)
        found = cls.find(objects)
        if found is None:
            raise UpdateNotFoundError(
                f"there is no recording below {objects.root}: it has no {RUN}; record(root, ...) makes one"
            )
        return found

    @classmethod
    def find(cls, objects: ObjectStore) -> Recording | None:
        """The recording below a root that is open already; None when there is none."""
        note = read_note(objects, RUN)
        if note is None:
            return None
        try:
            if note["format"] != FORMAT:
                raise ValueError(f"it has format {note['format']!r}, this version reads {FORMAT}")
            history = tuple(Round(**entry) for entry in note["rounds"])
            spec = objects.spec
            return cls(spec["root"], note["job"], note["arguments"], note["versions"], history, spec["storage_options"])
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptObjectError(
                f"{RUN} below {objects.root} does not describe a recording ({type(error).__name__}: {error}); record "
                "into another root, or delete this one"
            ) from error

    def note(self) -> dict[str, Any]:
        """What ``run.json`` says."""
        rounds = [vars(entry) for entry in self.history]
        head = {"format": FORMAT, "job": self.job, "arguments": self.arguments, "versions": self.versions}
        return {**head, "rounds": rounds}

    @property
    def model(self) -> str:
        """Name of the network."""
        return str(self.arguments["model"])

    @property
    def rounds(self) -> list[int]:
        """The complete rounds, ascending."""
        return list(range(1, len(self.history)))

    @property
    def complete(self) -> bool:
        """Whether every round is there."""
        return len(self.history) == int(self.arguments["rounds"]) + 1

    @property
    def clients(self) -> list[str]:
        """Every client that took part, sorted."""
        return sorted({client for entry in self.history for client in entry.clients})

    @property
    def accuracy(self) -> tuple[float, ...]:
        """Of the global model on the held-out images, before training and after each round."""
        return tuple(entry.accuracy for entry in self.history)

    @property
    def size_bytes(self) -> int:
        """Bytes of all updates and aggregates."""
        return sum(entry.size_bytes for entry in self.history)

    def frame(self) -> pd.DataFrame:
        """One row a round, with the columns accuracy, loss, train_loss, seconds, clients (how many) and size_bytes."""
        import pandas as pd

        rows = [
            {**{name: getattr(e, name) for name in _COLUMNS}, "clients": len(e.clients), "size_bytes": e.size_bytes}
            for e in self.history
        ]
        columns = [*_COLUMNS, "clients", "size_bytes"]
        frame = pd.DataFrame(rows, columns=columns, index=pd.RangeIndex(len(rows), name="round"))
        return frame.astype(dict.fromkeys(_COLUMNS, "f8"))

    def store(self, functions: int = 2, **options: Any) -> FLStore:
        """Open a store over the recording: everything is there, nothing is in memory yet.

        Parameters
        ----------
        functions : int
            Cache functions.
        **options
            As for ``FLStore.local``, but for `root`, `job` and `storage_options`.

        Raises
        ------
        InvalidParameterError
            The recording is not complete, or ``retention`` is given, which would delete from it.
        """
        from flstore.store import FLStore

        self._check_complete()
        if options.get("retention") is not None:
            raise InvalidParameterError(
                f"retention={options['retention']} would delete rounds of the recording below {self._shown}; replay() "
                "it into a store with another root"
            )
        options["storage_options"] = dict(self.storage_options) or None
        return FLStore.local(functions=functions, root=self.root, job=self.job, **options)

    def replay(self, store: System, rounds: Iterable[int] | None = None, progress: bool = True) -> None:
        """Ingest the recording into another store, as training did: round by round, the updates before the aggregate.

        Parameters
        ----------
        store : FLStore or a baseline
            An open store. Flush it to wait until everything is stored.
        rounds : iterable of int, optional
            Only these, in this order; default all. An experiment that asks between two rounds gives one at a time.
        progress : bool
            Show a progress bar in a terminal or notebook.

        Raises
        ------
        InvalidParameterError
            The recording is not complete, or lies in the very root and job of `store`.
        UpdateNotFoundError
            A round that was not recorded. Nothing was ingested.
        """
        self._check_complete()
        objects = ObjectStore(self.root, self.storage_options)
        if place(store._objects, store.job) == place(objects, self.job):
            raise InvalidParameterError(
                f"this store is open on the recording itself ({objects.root}, job {self.job!r}): it has every round "
                "already; replay into a store with another root or job"
            )
        chosen = self.rounds if rounds is None else list(rounds)
        if missing := sorted(set(chosen) - set(self.rounds)):
            raise UpdateNotFoundError(
                f"round {missing[0]} was not recorded below {objects.root}; there are rounds 1 to {self.rounds[-1]}"
            )
        before = None
        what = f"replay {self.model}"
        for number in progress_bar(chosen, total=len(chosen), what=what, unit="round", show=progress):
            if before != number - 1:
                self._ingest_aggregate(objects, store, number - 1)
            self._ingest_updates(objects, store, number)
            self._ingest_aggregate(objects, store, number)
            before = number

    def read(self, round: int, clients: int | None = None) -> RoundData:
        """One round, read from the root; round 0 has the model that training started from, and nothing else.

        Parameters
        ----------
        round : int
            From 0 to the last complete one.
        clients : int, optional
            Only the updates and the metadata of the first so many clients, in their order; default all.

        Raises
        ------
        UpdateNotFoundError
            The round was not recorded.
        """
        if not 0 <= round < len(self.history):
            raise UpdateNotFoundError(
                f"round {round} was not recorded below {self._shown}; there are rounds 0 to {len(self.history) - 1}"
            )
        objects = ObjectStore(self.root, self.storage_options)
        chosen = self.history[round].clients[:clients]
        updates = {client: read(objects, Key(self.job, Kind.UPDATE, round, client))[0] for client in chosen}
        rows, _ = objects.get_metadata(self.job, round)
        if clients is not None:
            rows = {client: row for client, row in rows.items() if client in updates}
        key = Key(self.job, Kind.AGGREGATE, round)
        # A round in which nobody answered has no aggregate.
        aggregate = read(objects, key)[0] if objects.exists(key) else None
        return RoundData(round, updates, aggregate, rows)

    def _ingest_updates(self, objects: ObjectStore, store: System, number: int) -> None:
        keys = {client: Key(self.job, Kind.UPDATE, number, client) for client in self.history[number].clients}
        rows, _ = objects.get_metadata(self.job, number)
        updates = {client: read(objects, key)[0] for client, key in keys.items()}
        if updates or rows:
            store.ingest(number, updates, metadata=rows or None)

    def _ingest_aggregate(self, objects: ObjectStore, store: System, number: int) -> None:
        key = Key(self.job, Kind.AGGREGATE, number)
        if objects.exists(key):  # a round in which nobody answered has none
            store.ingest(number, {}, aggregate=read(objects, key)[0])

    def _check_complete(self) -> None:
        if not self.complete:
            raise InvalidParameterError(
                f"only {len(self.rounds)} of {self.arguments['rounds']} rounds are recorded below {self._shown}; "
                "record() with the same arguments goes on from there"
            )

    @property
    def _shown(self) -> str:
        """The root without secrets."""
        return ObjectStore(self.root, self.storage_options).root

    def __repr__(self) -> str:
        from flstore.display.recording import text

        return text(self)

    def _repr_html_(self) -> str:
        from flstore.display.recording import html

        return html(self)


def versions_here() -> dict[str, str]:
    """Versions of what decides how a run comes out, as far as it is installed."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def warn_of_versions(found: Recording) -> None:
    """Warn when what goes on with a recording is of other versions than what began it."""
    here = versions_here()
    names = [name for name in {**found.versions, **here} if found.versions.get(name) != here.get(name)]
    if names:
        shown = ", ".join(f"{name} {found.versions.get(name)} (now {here.get(name)})" for name in names)
        warnings.warn(
            f"the recording below {found._shown} was begun with {shown}: what comes may differ in its last digits from "
            "what an uninterrupted run had come to",
            RuntimeWarning,
            stacklevel=4,
        )

"""Every stored copy of a client's data, of some rounds or of a whole job, removed for good."""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flstore.display.progress import progress_bar
from flstore.errors import CorruptObjectError, InvalidParameterError
from flstore.persistence import layout
from flstore.persistence.threads import concurrently
from flstore.types import Key, Kind

if TYPE_CHECKING:
    from flstore.persistence.objects import ObjectStore

_THREADS = 8


@dataclass(frozen=True)
class Removed:
    """What was removed from a job.

    Attributes
    ----------
    job : str
        The job.
    updates, aggregates, metadata_rows : int
        Objects by kind.
    temporaries : int
        Files that killed writers had left unfinished.
    size_bytes : int
        Bytes of all of them.
    rounds : tuple of int
        Rounds in which something was removed, ascending.
    clients : tuple of str
        Clients whose updates or metadata were removed, sorted.
    memory_copies : int
        Copies that cache functions held and were told to drop (0 for a removal from the persistent store alone).
    """

    job: str
    updates: int = 0
    aggregates: int = 0
    metadata_rows: int = 0
    temporaries: int = 0
    size_bytes: int = 0
    rounds: tuple[int, ...] = ()
    clients: tuple[str, ...] = ()
    memory_copies: int = 0

    def __repr__(self) -> str:
        from flstore.display.removal import text

        return text(self)

    def _repr_html_(self) -> str:
        from flstore.display.removal import html

        return html(self)


@dataclass(frozen=True)
class _Share:
    """What was removed from one round, and whether its metadata could not be read."""

    round: int
    keys: tuple[Key, ...]
    rows: tuple[str, ...]
    temporaries: int
    size_bytes: int
    damaged: bool = False


def remove(
    objects: ObjectStore,
    job: str,
    *,
    client: str | None = None,
    rounds: Iterable[int] | None = None,
    keep_aggregates: Collection[int] = (),
    progress: bool = True,
) -> Removed:
    """Remove every stored copy of a client's data, of some rounds, or of a whole job.

    What is not there is passed over, so a call that failed may be repeated. Nothing may write to the job meanwhile, and
    stores that are open on it have to be opened again, because they still hold copies in memory: with an open store,
    use its ``delete`` instead.

    What a client contributed to an aggregate stays in it, as does what the metadata of others and of the server say. A
    bucket that keeps versions keeps the old ones.

    Parameters
    ----------
    objects : ObjectStore
        The persistent store.
    job : str
        The job.
    client : str, optional
        Remove the updates and metadata of this client, in all rounds.
    rounds : iterable of int, optional
        Remove these rounds: updates, aggregates and metadata. Without `client` and `rounds`, all of the job.
    keep_aggregates : collection of int, optional
        Rounds among these whose aggregates stay.
    progress : bool, default True
        Show a progress bar in a terminal or notebook.

    Raises
    ------
    InvalidParameterError
        Both a client and rounds, or a number that is no round. Nothing was removed.
    CorruptObjectError
        The metadata of some rounds is damaged, so the rows of a client cannot be taken out of it. All else was removed.
    StoreError
        Some of it may be removed and some not. May be repeated.

    Examples
    --------
    >>> from flstore.persistence import ObjectStore
    >>> objects = ObjectStore("memory://removal")
    >>> objects.put_metadata("demo", 1, {"7": {"loss": 0.5}, "8": {"loss": 0.25}})
    >>> remove(objects, "demo", client="7").metadata_rows, list(objects.get_metadata("demo", 1)[0])
    (1, ['8'])
    """
    chosen = wanted(job, client, rounds)
    there = [r for r in objects.rounds(job) if chosen is None or r in chosen]
    shares = concurrently(lambda r: _remove_round(objects, job, r, client, r in keep_aggregates), there, _THREADS)
    bar = progress_bar(shares, total=len(there), what="remove", unit="round", show=progress)
    removed = list(bar)
    if damaged := [share.round for share in removed if share.damaged]:
        raise CorruptObjectError(
            f"client {client!r} was removed from job {job!r} below {objects.root}, but for its metadata in rounds "
            f"{', '.join(map(str, damaged))}, which is damaged: ObjectStore.delete_metadata(job, round) deletes it"
        )
    return _sum(job, removed)


def wanted(job: str, client: str | None, rounds: Iterable[int] | None) -> set[int] | None:
    """The rounds that :func:`remove` looks at, None for all; raises for what it would refuse."""
    layout.job_path(job)
    if client is not None:
        layout.encode_id("client", client)
        if rounds is not None:
            raise InvalidParameterError(f"remove either client={client!r} or rounds={rounds!r}, in two calls for both")
    if rounds is None:
        return None
    if not isinstance(rounds, Iterable) or isinstance(rounds, str):
        raise InvalidParameterError(f"rounds is a list of rounds, not {rounds!r}; write rounds=[{rounds}]")
    chosen = list(rounds)
    for r in chosen:
        layout.round_path(job, r)
    return {operator.index(r) for r in chosen}


def _remove_round(objects: ObjectStore, job: str, round: int, client: str | None, keep_aggregate: bool) -> _Share:
    if client is None:
        clients, aggregate, _ = objects.contents(job, round)
        keys = [Key(job, Kind.UPDATE, round, each) for each in clients]
        keys += [] if aggregate is None or keep_aggregate else [Key(job, Kind.AGGREGATE, round)]
    else:
        keys = [Key(job, Kind.UPDATE, round, client)]
    deleted = objects.delete(keys)
    torn = objects.delete_temporaries(job, round, client)
    size = sum(deleted.values()) + sum(torn.values())
    try:
        rows, freed = objects.delete_metadata(job, round, None if client is None else [client])
    except CorruptObjectError:
        return _Share(round, tuple(deleted), (), len(torn), size, damaged=True)
    return _Share(round, tuple(deleted), tuple(rows), len(torn), size + freed)


def _sum(job: str, shares: list[_Share]) -> Removed:
    keys = [key for share in shares for key in share.keys]
    updates = [str(key.client) for key in keys if key.kind is Kind.UPDATE]
    rows = [client for share in shares for client in share.rows]
    return Removed(
        job,
        updates=len(updates),
        aggregates=len(keys) - len(updates),
        metadata_rows=len(rows),
        temporaries=sum(share.temporaries for share in shares),
        size_bytes=sum(share.size_bytes for share in shares),
        rounds=tuple(share.round for share in shares if share.size_bytes),
        clients=tuple(sorted({*updates, *rows})),
    )

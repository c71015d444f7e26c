"""Is everything in a root as it was written? Reads each object and compares it with its checksum and its name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flstore.codec import decode
from flstore.display.progress import progress_bar
from flstore.errors import CorruptObjectError, InvalidParameterError, StoreError, UpdateNotFoundError
from flstore.persistence import layout
from flstore.persistence.objects import ObjectStore
from flstore.persistence.threads import concurrently
from flstore.types import Key, Kind

if TYPE_CHECKING:
    import pandas as pd

_MOST_NAMED = 5


@dataclass(frozen=True)
class Damage:
    """One object that is not what was written.

    Attributes
    ----------
    key : Key
        What its path says it is; for a metadata document without a client.
    path : str
        Where it is, below the root.
    reason : str
        What is wrong with it.
    """

    key: Key
    path: str
    reason: str


@dataclass(frozen=True, repr=False)
class Verification:
    """What a verification found.

    Attributes
    ----------
    root : str
        What was verified, without secrets.
    job : str or None
        The one job that was verified, None for all.
    objects : int
        Objects read: updates, aggregates and metadata documents.
    size_bytes : int
        Bytes of them.
    damaged : list of Damage
        Those that are not what was written, in the order of their paths.
    stray : list of str
        Files that are not of this layout. They are never read.
    temporaries : list of str
        Unfinished files, of writers at work or killed (``ObjectStore.clean_temporaries`` removes the latter).
    healed : list of Damage
        Those that were mended with a copy from memory (by ``FLStore.verify``); the reason says from where.
    """

    root: str
    job: str | None
    objects: int
    size_bytes: int
    damaged: list[Damage]
    stray: list[str]
    temporaries: list[str]
    healed: list[Damage] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged; strays and temporaries harm nothing."""
        return not self.damaged

    def frame(self) -> pd.DataFrame:
        """One row a finding: finding (damaged, healed, stray, temporary), path, reason, job, kind, round, client."""
        import pandas as pd

        rows = [
            (finding, d.path, d.reason, d.key.job, d.key.kind.name.lower(), d.key.round, d.key.client)
            for finding, found in (("damaged", self.damaged), ("healed", self.healed))
            for d in found
        ]
        rest = [("stray", path) for path in self.stray] + [("temporary", path) for path in self.temporaries]
        rows += [(finding, path, "", None, None, None, None) for finding, path in rest]  # type: ignore[misc]
        frame = pd.DataFrame(rows, columns=["finding", "path", "reason", "job", "kind", "round", "client"])
        return frame.astype({"round": "Int64"})

    def raise_if_damaged(self) -> None:
        """Raise CorruptObjectError, naming the first damaged objects and what is wrong with them."""
        if self.ok:
            return
        shown = "; ".join(f"{d.path}: {d.reason}" for d in self.damaged[:_MOST_NAMED])
        more = len(self.damaged) - _MOST_NAMED
        rest = f"; and {more:,} more, see .frame()" if more > 0 else ""
        raise CorruptObjectError(
            f"{len(self.damaged):,} of {self.objects:,} objects below {self.root} are damaged: {shown}{rest}"
        )

    def __repr__(self) -> str:
        from flstore.display.verification import text

        return text(self)

    def _repr_html_(self) -> str:
        from flstore.display.verification import html

        return html(self)


def verify(
    root: str | os.PathLike[str],
    storage_options: Mapping[str, Any] | None = None,
    *,
    job: str | None = None,
    progress: bool = True,
    concurrency: int = 4,
) -> Verification:
    """Read every object of a root, and report those that are not what was written. Changes nothing.

    Objects that are written or removed meanwhile may or may not be in the report; none of them is taken for damaged.

    Parameters
    ----------
    root, storage_options
        See :class:`flstore.persistence.ObjectStore`.
    job : str, optional
        One job; default all.
    progress : bool, default True
        Show a progress bar in a terminal or notebook.
    concurrency : int, default 4
        Objects read at the same time, which is how many are in memory.

    Raises
    ------
    UpdateNotFoundError
        There is nothing of `job`; the message names the jobs that exist.
    StoreError
        The root cannot be read. One object that cannot be read is damage.

    Examples
    --------
    >>> ObjectStore("memory://verified").put_metadata("demo", 3, {"7": {"loss": 0.5}})
    >>> found = verify("memory://verified")
    >>> found.ok, found.objects
    (True, 1)
    """
    if concurrency < 1:
        raise InvalidParameterError(f"concurrency must be at least 1, got {concurrency}")
    objects = ObjectStore(root, storage_options)
    files = _files(objects, job)
    keys = {path: key for path in files if (key := layout.parse_path(path)) is not None}
    results = concurrently(lambda path: _damage(objects, path, keys[path]), keys, concurrency)
    bar = progress_bar(results, total=len(keys), what="verify", unit="object", show=progress)
    damaged = [damage for damage in bar if damage is not None]
    others = [path for path in files if path not in keys and path != layout.RUN and not layout.is_of_writer(path)]
    return Verification(
        objects.root,
        job,
        objects=len(keys),
        size_bytes=sum(files[path] for path in keys),
        damaged=damaged,
        stray=[path for path in others if not layout.is_temporary(path)],
        temporaries=[path for path in others if layout.is_temporary(path)],
    )


def _files(objects: ObjectStore, job: str | None) -> dict[str, int]:
    """Bytes of all files of a job, or of the root, in the order of their paths."""
    below = "" if job is None else layout.job_path(job)
    files = objects.files(below)
    if job is not None and not files:
        known = objects.jobs()
        raise UpdateNotFoundError(
            f"there is nothing of job {job!r} below {objects.root}; jobs: {', '.join(known[:20]) or 'none'}"
        )
    return dict(sorted(files.items()))


def _damage(objects: ObjectStore, path: str, key: Key) -> Damage | None:
    try:
        if key.kind is Kind.METADATA:
            objects.get_metadata(key.job, key.round)
        else:
            decode(objects.get(key), key=key)
    except UpdateNotFoundError:
        return None
    except CorruptObjectError as exc:
        return Damage(key, path, str(exc))
    except StoreError as exc:
        objects.jobs()  # raises when it is the root that cannot be read, and not this object alone
        return Damage(key, path, str(exc))
    return None

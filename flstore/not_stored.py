"""What was handed over and is not in the persistent store: lost on the way in, or waiting for a store that fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from flstore.types import Key, Kind

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("round", "client", "kind", "reason", "kept")


def frame(
    job: str, feeders: Iterable[Any], failed: Iterable[tuple[int, str | None, str, BaseException]],
    has: Callable[[Key], bool],
) -> pd.DataFrame:  # fmt: skip
    """One row an object, by round.

    Parameters
    ----------
    job : str
        The job.
    feeders : iterable of Feeder
        What observers handed over: what they hold is tried again, what they lost is gone, unless it came since.
    failed : iterable of (round, client, kind, error)
        Writes that failed; they are in memory, and the next flush tries them again.
    has : callable
        Whether an object was taken in.
    """
    import pandas as pd

    rows: list[tuple[int, str | None, str, str, bool]] = [
        (lost.round, lost.client, lost.kind, lost.reason, kept)
        for feeder in feeders
        for kept, found in ((False, feeder.lost), (True, feeder.held))
        for lost in found
        if not (lost.kind in _KINDS and has(Key(job, _KINDS[lost.kind], lost.round, lost.client)))
    ]
    rows += [(r, client, kind, f"{type(error).__name__}: {error}", True) for r, client, kind, error in failed]
    rows.sort(key=lambda row: row[0])
    return pd.DataFrame(rows, columns=list(COLUMNS)).drop_duplicates(ignore_index=True)


_KINDS = {"update": Kind.UPDATE, "aggregate": Kind.AGGREGATE}

"""What a trace must be. Errors name the column, the row and the way out."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flstore.errors import InvalidParameterError

NEEDED = ("round", "client")
OPTIONAL = ("job", "workload", "request", "size_bytes", "arrival_s", "after")


def check(frame: pd.DataFrame, what: str) -> None:
    """Raise unless `frame` can be a trace: its columns exist and hold what they should.

    Raises
    ------
    InvalidParameterError
        It is no DataFrame, lacks a column, or a value is empty, negative or of another type.
    """
    if not isinstance(frame, pd.DataFrame):
        raise InvalidParameterError(
            f"{what} must be a DataFrame with columns round and client, got {type(frame).__name__}"
        )
    for column in (*NEEDED, *OPTIONAL):
        if column in frame:
            _filled(frame, column, what)
        elif column in NEEDED:
            raise InvalidParameterError(
                f"{what} has no column {column!r}; it has: {', '.join(map(str, frame.columns)) or 'none'}. "
                f"Rename what holds it: frame.rename(columns={{...: {column!r}}})"
            )
    if len(frame):
        _integers(frame, "round", what, least=0, must="hold integers from 0 on")
        if "after" in frame:
            _integers(frame, "after", what, least=0, must="hold integers from 0 on")
        if "size_bytes" in frame:
            _integers(frame, "size_bytes", what, least=1, must="hold positive integers")
        if "arrival_s" in frame:
            _arrivals(frame, what)


def check_participation(frame: pd.DataFrame) -> None:
    """Raise unless every (job, round, client) comes once, and the rounds of a job ascend.

    Raises
    ------
    InvalidParameterError
        Names the row, and what to call on the frame.
    """
    keys = [c for c in ("job", "round", "client") if c in frame]
    rounds, clients = frame["round"].to_numpy(), frame["client"].to_numpy()
    if "job" in frame:
        back = frame.groupby("job", sort=False, observed=True)["round"].diff().to_numpy() < 0
    else:
        back = np.concatenate([[False], rounds[1:] < rounds[:-1]]) if len(frame) else np.zeros(0, dtype=np.bool_)
    if back.any():
        at = int(np.flatnonzero(back)[0])
        raise InvalidParameterError(
            f"row {at} of participation goes back to round {rounds[at]}; rounds must ascend: sort it with "
            f"participation.sort_values({[k for k in keys if k != 'client']}, kind='stable')"
        )
    if "job" not in frame and clients.dtype.kind in "iu" and _ascending(rounds, clients):
        return  # quick to see, and as traces are made
    again = np.flatnonzero(frame.duplicated(keys).to_numpy())
    if len(again):
        row = frame.iloc[int(again[0])]
        raise InvalidParameterError(
            f"row {int(again[0])} of participation names client {row['client']} in round {row['round']} a second time; "
            f"each takes part once: participation.drop_duplicates({keys})"
        )


def _ascending(rounds: NDArray[np.int64], clients: NDArray[np.int64]) -> bool:
    return bool(((rounds[1:] > rounds[:-1]) | (clients[1:] > clients[:-1])).all())


def _filled(frame: pd.DataFrame, column: str, what: str) -> None:
    values = frame[column]
    if values.dtype.kind not in "iub" and values.isna().any():
        row = int(np.flatnonzero(values.isna().to_numpy())[0])
        raise InvalidParameterError(
            f"column {column!r} of {what} has empty values, the first in row {row}; leave such rows out: "
            f"frame.dropna(subset=[{column!r}])"
        )


def _integers(frame: pd.DataFrame, column: str, what: str, least: int, must: str) -> None:
    values = frame[column]
    if not pd.api.types.is_integer_dtype(values):
        raise InvalidParameterError(
            f"column {column!r} of {what} must {must}, got {values.dtype} (the first is {values.iloc[0]!r})"
        )
    wrong = values.to_numpy() < least
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise InvalidParameterError(f"column {column!r} of {what} must {must}, got {values.iloc[row]} in row {row}")


def _arrivals(frame: pd.DataFrame, what: str) -> None:
    """Seconds from any beginning, not descending."""
    values = frame["arrival_s"]
    if not pd.api.types.is_numeric_dtype(values) or not np.isfinite(values.to_numpy(np.float64)).all():
        raise InvalidParameterError(
            f"column 'arrival_s' of {what} must hold seconds as finite numbers, got {values.dtype}; of time-stamps: "
            "(times - times.min()).dt.total_seconds()"
        )
    seconds = values.to_numpy(np.float64)
    back = np.flatnonzero(seconds[1:] < seconds[:-1])
    if len(back):
        at = int(back[0]) + 1
        raise InvalidParameterError(
            f"row {at} of {what} arrives at {seconds[at]} s, before the row above it ({seconds[at - 1]} s): sort it "
            "with frame.sort_values('arrival_s', kind='stable')"
        )

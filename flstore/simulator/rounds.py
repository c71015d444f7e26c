"""A participation as rounds: who took part, each client once, and how large what they sent was."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from flstore.errors import InvalidParameterError
from flstore.types import IntArray


class Round(NamedTuple):
    """Who took part in a round."""

    job: int
    round: int
    clients: IntArray
    sizes: IntArray
    arrival_s: float


def integers(frame: pd.DataFrame, column: str) -> IntArray:
    """A column as int64, without a copy where it is that."""
    return np.asarray(frame[column].to_numpy(), dtype=np.int64)


def constant(value: int, count: int) -> IntArray:
    """One value so many times, without the memory for it."""
    values: IntArray = np.broadcast_to(np.int64(value), count)
    return values


def sizes_of(part: pd.DataFrame, requests: pd.DataFrame) -> IntArray:
    """Sizes of the participation, of the requests where it says none, else 1."""
    if "size_bytes" in part:
        return integers(part, "size_bytes")
    if "size_bytes" not in requests:
        return constant(1, len(part))
    names = [c for c in ("job", "round", "client") if c in part and c in requests]
    known = requests.drop_duplicates(names)[[*names, "size_bytes"]]
    merged = part[names].merge(known, on=names, how="left")["size_bytes"]
    return merged.fillna(requests["size_bytes"].mean() if len(requests) else 1).to_numpy(np.int64)


def rounds_of(
    part: pd.DataFrame, job: IntArray, round: IntArray, client: IntArray, sizes: IntArray
) -> dict[tuple[int, int], Round]:
    """The rounds in order, each client once; slices of the columns where these stand in order."""
    arrival = part["arrival_s"].to_numpy(np.float64) if "arrival_s" in part else None
    if len(part) == 0:
        return {}
    change = np.ones(len(part), dtype=np.bool_)
    change[1:] = (round[1:] != round[:-1]) | (job[1:] != job[:-1] if job.strides != (0,) else False)
    orderly = change[1:] | (client[1:] > client[:-1])
    starts = np.flatnonzero(change)
    jobs, numbers = job[starts], round[starts]
    later = (jobs[1:] > jobs[:-1]) | ((jobs[1:] == jobs[:-1]) & (numbers[1:] > numbers[:-1]))
    if not (later.all() and orderly.all()):
        frame = pd.DataFrame({"job": job, "round": round, "client": client})
        kept = np.flatnonzero(~frame.duplicated().to_numpy())
        kept = kept[np.lexsort((round[kept], job[kept]))]
        job, round, client, sizes = job[kept], round[kept], client[kept], sizes[kept]
        arrival = arrival[kept] if arrival is not None else None
        starts = np.flatnonzero(np.concatenate([[True], (np.diff(round) != 0) | (np.diff(job) != 0)]))
    ends = [*starts[1:].tolist(), len(round)]
    found = [
        Round(j, r, client[a:b], sizes[a:b], float(arrival[a:b].min()) if arrival is not None else 0.0)
        for j, r, a, b in zip(job[starts].tolist(), round[starts].tolist(), starts.tolist(), ends, strict=True)
    ]
    return {(one.job, one.round): one for one in found}


def check_known(
    requests: pd.DataFrame, rounds: dict[tuple[int, int], Round], job: IntArray, round: IntArray, client: IntArray
) -> None:
    """Raise when an access names an object outside the participation."""
    span = int(max([client.max(initial=0), *(r.clients.max(initial=0) for r in rounds.values())])) + 1
    number = {key: i for i, key in enumerate(rounds)}
    change = np.ones(len(round), dtype=np.bool_)
    change[1:] = (round[1:] != round[:-1]) | (job[1:] != job[:-1])
    first = np.flatnonzero(change)
    of_run = np.array([number.get(key, -1) for key in zip(job[first].tolist(), round[first].tolist(), strict=True)])
    asked = np.repeat(of_run, np.diff([*first, len(round)])) * span + client if len(first) else client
    there = [i * span + r.clients for i, r in enumerate(rounds.values())]
    absent = np.flatnonzero(~np.isin(asked, np.concatenate(there) if there else client[:0]))
    if len(absent):
        at = int(absent[0])
        row = requests.iloc[at]
        raise InvalidParameterError(
            f"row {at} asks for client {row['client']} in round {row['round']}, who does not take part in it: leave "
            "such rows out, or give a participation that has them"
        )

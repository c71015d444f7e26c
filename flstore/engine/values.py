"""Events and actions as plain values, and back: what a log file holds, and what a digest is of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from flstore.types import (
    Action,
    Deleted,
    Demand,
    Drop,
    Event,
    Feedback,
    FunctionJoined,
    FunctionLeaving,
    FunctionLost,
    Ingested,
    KeySet,
    Kind,
    Load,
    Loaded,
    LoadFailed,
    PolicyClass,
    Prepare,
    Refused,
    Requested,
    Run,
)

Plain: TypeAlias = Callable[[tuple[Any, ...]], list[Any]]
"""From a tuple of key sets, or of pairs of a function and a key set, to plain values."""


def plain_keys(keys: tuple[Any, ...]) -> list[Any]:
    """Key sets, or pairs of a function and a key set, as plain values."""
    return [k.canonical() if isinstance(k, KeySet) else [k[0], k[1].canonical()] for k in keys]


def event_values(event: Event, plain: Plain = plain_keys) -> list[Any]:
    """Plain values of an event."""
    match event:
        case Ingested(keys, sizes):
            return ["ingested", keys.canonical(), sizes.tolist()]
        case Requested(request, job, workload, policy_class, round, client, keys):
            return ["requested", request, job, workload, str(policy_class), round, client, plain(keys)]
        case Loaded(function, keys, generation):
            return ["loaded", function, keys.canonical(), generation]
        case LoadFailed(function, keys, reason, generation):
            return ["load_failed", function, keys.canonical(), reason, generation]
        case FunctionJoined(function, capacity, incarnation, holds):
            return ["joined", function, capacity, incarnation, [[k.canonical(), s.tolist()] for k, s in holds]]
        case FunctionLost(function, incarnation):
            return ["lost", function, incarnation]
        case FunctionLeaving(function):
            return ["leaving", function]
        case Demand(keys, copies):
            return ["demand", keys.canonical(), copies]
        case Deleted(key_sets):
            return ["deleted", [k.canonical() for k in key_sets]]
        case Feedback(request, useful):
            return ["feedback", request, useful]
    raise TypeError(f"not an event: {event!r}")


def event_of(values: list[Any]) -> Event:
    """The event of plain values."""
    name, *rest = values
    match name:
        case "ingested":
            return Ingested(_key_set(rest[0]), np.asarray(rest[1], dtype=np.int64))
        case "requested":
            request, job, workload, policy_class, round, client, keys = rest
            parts = tuple(_key_set(k) for k in keys)
            return Requested(request, job, workload, PolicyClass(policy_class), round, client, parts)
        case "loaded":
            return Loaded(rest[0], _key_set(rest[1]), rest[2])
        case "load_failed":
            return LoadFailed(rest[0], _key_set(rest[1]), rest[2], rest[3])
        case "joined":
            holds = tuple((_key_set(k), np.asarray(s, dtype=np.int64)) for k, s in rest[3])
            return FunctionJoined(rest[0], rest[1], rest[2], holds)
        case "lost":
            return FunctionLost(*rest)
        case "leaving":
            return FunctionLeaving(*rest)
        case "demand":
            return Demand(_key_set(rest[0]), rest[1])
        case "deleted":
            return Deleted(tuple(_key_set(k) for k in rest[0]))
        case "feedback":
            return Feedback(*rest)
    raise ValueError(f"unknown event {name!r}")


def _key_set(values: list[Any]) -> KeySet:
    job, kind, rounds, clients = values

    def vector(axis: Any) -> Any:
        return np.asarray(axis, dtype=np.int64) if isinstance(axis, list | tuple) else axis

    return KeySet(job, Kind(kind), vector(rounds), vector(clients))


def action_values(action: Action, plain: Plain = plain_keys) -> list[Any]:
    """Plain values of an action."""
    match action:
        case Load(function, keys, source, size, generation, priority, part):
            of_part = [] if part is None else [[part.number, part.of, str(part.cut)]]
            return ["load", function, keys.canonical(), str(source), size, generation, priority, *of_part]
        case Drop(function, keys, generation):
            return ["drop", function, keys.canonical(), generation]
        case Run(request, function, held, missing, _):
            return ["run", request, function, plain(held), plain(missing)]
        case Refused(keys, reason):
            return ["refused", keys.canonical(), reason]
        case Prepare(function, keys, what):
            return ["prepare", function, keys.canonical(), what]
    raise TypeError(f"not an action: {action!r}")

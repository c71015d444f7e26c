"""What a deployment is, as far as the records of requests do not say; and what each system is billed for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Literal

from flstore.cost.sheets import GIB
from flstore.errors import InvalidParameterError, UnknownNameError


@dataclass(frozen=True, slots=True)
class Billing:
    """How a system computes, fetches and is billed.

    Attributes
    ----------
    name : str
        The system, as in the column ``system`` of ``store.requests``.
    computes_on : {"function", "instance", "own-machine"}
        Billed by GB-second and request, by the hour while it works, or not at all.
    caches_in : {"functions", "nodes", "nothing"}
        What is kept alive between requests, and costs while nobody asks.
    link : str
        The link that its data crosses, unless another is given.
    connections : int
        Fetches at the same time.
    batched : bool
        All fetches of a request are asked for in one message, and wait for the first byte once.
    """

    name: str
    computes_on: Literal["function", "instance", "own-machine"]
    caches_in: Literal["functions", "nodes", "nothing"]
    link: str
    connections: int
    batched: bool = False


SYSTEMS: Mapping[str, Billing] = MappingProxyType(
    {
        billing.name: billing
        for billing in (
            Billing("FLStore", "function", "functions", "s3-same-region", 8),
            Billing("ObjStore-Agg", "instance", "nothing", "s3-same-region", 8),
            Billing("ObjStore-Agg per-layer", "instance", "nothing", "s3-same-region", 1),
            Billing("Cache-Agg", "instance", "nodes", "elasticache", 1, batched=True),
            Billing("LocalFiles", "own-machine", "nothing", "local-files", 1),
        )
    }
)
"""Each system's way of being billed. Per layer, objects are fetched one after the other, as the authors' artifact does;
Cache-Agg asks for all in one message (MGET) over one connection."""


def billing_of(system: str) -> Billing:
    """How a system is billed; ``UnknownNameError`` lists the known ones."""
    if system not in SYSTEMS:
        raise UnknownNameError.of("system", system, SYSTEMS)
    return SYSTEMS[system]


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A deployment.

    Parameters
    ----------
    stored_bytes : float
        What the runs have left: in the persistent store and, of Cache-Agg, in the memory of its nodes as well.
    functions : int
        Cache functions that are kept alive.
    function_memory_bytes : float
        Memory of a function, for requests whose record does not say it.
    instance : str
        Price of the machine that an aggregator runs on.
    instance_always_on : bool
        Bill this machine between requests, too. The paper bills it while a request runs.
    node : str or None
        Price of the nodes of the cache cluster; None for the type that makes it cheapest.
    node_reserved : float
        Share of a node's memory that is not for data. ElastiCache reserves a quarter by default
        (https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/redis-memory-management.html).
    node_copies : int
        Copies of all data in the cluster: 1, and one more for each replica.
    invocation_s : float
        From the caller to a function and back, warm; counted in the latency of FLStore, not billed.
    compute_factor : mapping of str to float
        By system, what measured compute seconds are multiplied with, when its processors are others than those on
        which they were measured; default 1.

    Raises
    ------
    InvalidParameterError
        Something is negative or not finite, or a cluster has no copy or no room.
    """

    stored_bytes: float = 0.0
    functions: int = 1
    function_memory_bytes: float = 4.0 * GIB
    instance: str = "sagemaker.ml.m5.4xlarge"
    instance_always_on: bool = False
    node: str | None = None
    node_reserved: float = 0.25
    node_copies: int = 1
    invocation_s: float = 0.0
    compute_factor: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        numbers = {f.name: getattr(self, f.name) for f in fields(self) if f.type in ("int", "float")}
        for system, factor in self.compute_factor.items():
            numbers[f"compute_factor of {billing_of(system).name}"] = factor
        for name, value in numbers.items():
            if not (isinstance(value, int | float) and math.isfinite(value) and value >= 0):
                raise InvalidParameterError(f"{name} must be a number of at least 0, got {value!r}")
        if self.node_copies < 1:
            raise InvalidParameterError(f"node_copies must be at least 1, got {self.node_copies}")
        if self.node_reserved >= 1:
            raise InvalidParameterError(f"node_reserved must be below 1, got {self.node_reserved}")

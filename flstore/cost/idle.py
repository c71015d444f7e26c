"""What costs while nobody asks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from flstore.cost._yaml import Source
from flstore.cost.scale import Billing, Scale, billing_of
from flstore.cost.sheets import GIB, Price, Prices, load_prices
from flstore.errors import InvalidParameterError

if TYPE_CHECKING:
    import pandas as pd

HOURS_PER_MONTH = 720
"""A month of thirty days: the paper counts 43,200 minutes."""


def idle(system: str, *, hours: float, prices: Prices | Source = None, scale: Scale | None = None) -> pd.DataFrame:
    """What a system costs while nobody asks: functions and machines kept alive, nodes of a cluster, stored objects.

    Parameters
    ----------
    system : str
        One of :data:`flstore.cost.SYSTEMS`.
    hours : float
        How long.
    prices : Prices or path, optional
        The sheet; default that of this package.
    scale : Scale, optional
        How much of everything there is.

    Returns
    -------
    DataFrame
        Indexed by component: ``quantity``, ``unit`` (what it counts), ``modelled_usd_per_hour``, ``modelled_usd`` for
        all `hours`, and ``basis``.

    Raises
    ------
    UnknownNameError
        There is no such system or price; lists the known ones.
    InvalidParameterError
        `hours` is negative, or no node type has room.

    Examples
    --------
    Two functions, kept alive for a month by one ping a minute, and nothing stored:

    >>> round(float(idle("FLStore", hours=720, scale=Scale(functions=2))["modelled_usd"].sum()), 2)
    1.46
    """
    import pandas as pd

    if not (math.isfinite(hours) and hours >= 0):
        raise InvalidParameterError(f"hours must be a finite number of at least 0, got {hours!r}")
    sheet = prices if isinstance(prices, Prices) else load_prices(prices)
    rows = _components(billing_of(system), sheet, scale or Scale())
    frame = pd.DataFrame(rows, columns=["component", "quantity", "unit", "modelled_usd_per_hour"])
    return frame.assign(modelled_usd=frame["modelled_usd_per_hour"] * hours, basis="modelled").set_index("component")


def keep_alive_usd_per_hour(functions: float, prices: Prices) -> float:
    """Pings that keep functions, and what they hold, in memory (section 4.5).

    Parameters
    ----------
    functions : float
        How many.
    prices : Prices
        A price sheet.
    """
    ping = prices.gb_seconds_per_ping * prices["lambda.duration"].usd + prices["lambda.request"].usd
    return functions * prices.pings_per_hour * ping


def cluster(stored_bytes: float, prices: Prices, scale: Scale | None = None) -> tuple[Price, int]:
    """The node type of a cache cluster that holds so much, and how many of them, with their copies.

    Parameters
    ----------
    stored_bytes : float
        All data, once.
    prices : Prices
        Where the node types are.
    scale : Scale, optional
        The type (default: whichever makes the cluster cheapest), what is reserved, and copies.

    Raises
    ------
    UnknownNameError
        There is no such node type; lists the prices.
    InvalidParameterError
        The sheet has no node type with its memory.

    Examples
    --------
    >>> node, count = cluster(758 * GIB, load_prices(), Scale(node="elasticache.cache.r6g.16xlarge"))
    >>> node.memory_gib, count
    (419.09, 3)
    """
    scale = scale or Scale()
    types = [prices[scale.node]] if scale.node is not None else prices.nodes()
    sized = [(node, node.memory_gib) for node in types if node.memory_gib]
    if not sized:
        raise InvalidParameterError(f"{prices.sheet} has no node type with its memory (elasticache.*, memory_gib)")
    counts = [
        (node, scale.node_copies * math.ceil(stored_bytes / (gib * GIB * (1 - scale.node_reserved))))
        for node, gib in sized
    ]
    return min(counts, key=lambda pair: (pair[0].usd * pair[1], pair[1]))


def _components(billing: Billing, prices: Prices, scale: Scale) -> list[tuple[str, float, str, float]]:
    rows: list[tuple[str, float, str, float]] = []
    if billing.caches_in == "functions":
        alive = keep_alive_usd_per_hour(scale.functions, prices)
        rows.append(("functions kept alive", scale.functions, "functions", alive))
    elif billing.caches_in == "nodes":
        node, count = cluster(scale.stored_bytes, prices, scale)
        rows.append(("cache cluster", count, node.name, count * node.usd))
    if billing.computes_on == "instance":
        machines = int(scale.instance_always_on)
        rows.append(("aggregator between requests", machines, scale.instance, machines * prices[scale.instance].usd))
    if billing.computes_on != "own-machine":
        gib = scale.stored_bytes / GIB
        rows.append(("persistent store", gib, "GiB", gib * prices["s3.storage"].usd / HOURS_PER_MONTH))
    return rows

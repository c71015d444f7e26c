"""From records of requests to modelled seconds and dollars.

Nothing that is modelled bears the name of something measured: every column that is computed here begins with
``modelled_``, and ``basis`` says it once more. The compute seconds are those that were measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flstore.cost._yaml import Source
from flstore.cost.scale import Billing, Scale, billing_of
from flstore.cost.sheets import GIB, Link, Links, Prices, load_links, load_prices
from flstore.errors import InvalidParameterError

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

MEASURED = ("queue_s", "fetch_s", "compute_s", "latency_s")
"""Columns of records that are left out of what is modelled from them."""
PARTS = ("modelled_compute_usd", "modelled_invocation_usd", "modelled_get_usd", "modelled_transfer_usd")
"""What a request costs is the sum of these."""
LEAST_FUNCTION_BYTES = 128 << 20
"""Lambda has no smaller functions (https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html)."""


def price(
    requests: pd.DataFrame,
    *,
    system: str | None = None,
    link: str | Link | None = None,
    prices: Prices | Source = None,
    links: Links | Source = None,
    scale: Scale | None = None,
) -> pd.DataFrame:
    """Model what each request takes and costs in the cloud.

    A fetch of ``operations`` objects over the ``connections`` of the system takes ``ceil(operations / connections)``
    first-byte latencies (one, where a system asks for all at once), and its bytes at the bandwidth of these
    connections. A function is billed by the GB-seconds from its start to its answer (Lambda), an aggregator's machine
    by the same seconds of its hourly price. What is billed between requests is the matter of :func:`flstore.cost.idle`.

    Parameters
    ----------
    requests : DataFrame
        ``store.requests`` of any system, or a table with its columns ``bytes_moved``, ``operations``, ``compute_s`` and
        (optional: ``memory_bytes``, ``system``); other columns are kept.
    system : str, optional
        One of :data:`flstore.cost.SYSTEMS`; default by the column ``system``.
    link : str or Link, optional
        What the bytes cross; default the one of each system.
    prices, links : Prices or Links, or path, optional
        The sheets; default those of this package.
    scale : Scale, optional
        What the records do not say.

    Returns
    -------
    DataFrame
        The rows and columns of `requests` without the measured seconds, and ``link``, ``modelled_fetch_s``,
        ``modelled_compute_s`` (measured seconds times the system's factor), ``modelled_latency_s``, the parts of the
        cost (:data:`PARTS`), their sum ``modelled_cost_usd``, and ``basis``, which is ``modelled``.

    Raises
    ------
    UnknownNameError
        There is no such system, link or price; lists the known ones.
    InvalidParameterError
        A column is missing, or holds something negative or not finite; names the row.

    Examples
    --------
    >>> import pandas as pd
    >>> asked = pd.DataFrame({"bytes_moved": [720e6], "operations": [8], "compute_s": [1.0]})
    >>> priced = price(asked, system="ObjStore-Agg")
    >>> float(priced["modelled_latency_s"][0])
    2.1
    >>> round(float(priced["modelled_cost_usd"][0]), 6)  # 2.1 s of 0.922 USD an hour, and eight GETs
    0.000541
    """
    sheet = prices if isinstance(prices, Prices) else load_prices(prices)
    known = links if isinstance(links, Links) else load_links(links)
    scale = scale or Scale()
    systems = _systems(requests, system)
    columns: dict[str, NDArray[Any]] = {}
    for name in dict.fromkeys(systems.tolist()):
        rows = systems == name
        billing = billing_of(name)
        chosen = link if isinstance(link, Link) else known[link or billing.link]
        for column, values in _model(_numbers(requests, rows), billing, chosen, sheet, scale).items():
            columns.setdefault(column, np.zeros(len(requests)))[rows] = values
        columns.setdefault("link", np.full(len(requests), "", dtype=object))[rows] = chosen.name
    empty: list[str] = ["link", "modelled_fetch_s", "modelled_compute_s", "modelled_latency_s", *PARTS]
    found = {name: columns.get(name, np.zeros(0)) for name in [*empty, "modelled_cost_usd"]}
    kept = requests.drop(columns=[c for c in MEASURED if c in requests])
    return kept.assign(system=systems, **found, basis="modelled")


def _model(given: dict[str, Floats], billing: Billing, link: Link, prices: Prices, scale: Scale) -> dict[str, Floats]:
    fetch_s = _fetch_s(given["bytes_moved"], given["operations"], billing, link)
    compute_s = given["compute_s"] * scale.compute_factor.get(billing.name, 1.0)
    billed_s = fetch_s + compute_s
    invocations = np.zeros(len(billed_s))
    latency_s = billed_s
    if billing.computes_on == "function":
        memory_bytes = np.where(given["memory_bytes"] > 0, given["memory_bytes"], scale.function_memory_bytes)
        gib = np.maximum(memory_bytes, LEAST_FUNCTION_BYTES) / GIB
        compute_usd = billed_s * gib * prices["lambda.duration"].usd
        invocations = invocations + prices["lambda.request"].usd
        latency_s = billed_s + scale.invocation_s
    else:
        machine = scale.instance if billing.computes_on == "instance" else "own-machine"
        compute_usd = billed_s / 3600 * prices[machine].usd
    parts = {
        "modelled_compute_usd": compute_usd,
        "modelled_invocation_usd": invocations,
        "modelled_get_usd": given["operations"] * prices.usd(link.get),
        "modelled_transfer_usd": given["bytes_moved"] / GIB * prices.usd(link.transfer),
    }
    return {
        "modelled_fetch_s": fetch_s,
        "modelled_compute_s": compute_s,
        "modelled_latency_s": latency_s,
        **parts,
        "modelled_cost_usd": np.sum(list(parts.values()), axis=0),
    }


def _fetch_s(bytes_moved: Floats, operations: Floats, billing: Billing, link: Link) -> Floats:
    # Bytes without an operation are those of a record that did not count them: at least one fetch brought them.
    fetches = np.where(bytes_moved > 0, np.maximum(operations, 1.0), operations)
    open_at_once = np.clip(fetches, 1.0, billing.connections)
    rate = np.minimum(open_at_once * link.connection_bytes_s, link.bandwidth_bytes_s)
    waits = np.minimum(fetches, 1.0) if billing.batched else np.ceil(fetches / billing.connections)
    seconds: Floats = waits * link.latency_s + bytes_moved / rate
    return seconds


def _systems(requests: pd.DataFrame, system: str | None) -> NDArray[np.object_]:
    if system is not None:
        return np.full(len(requests), billing_of(system).name, dtype=object)
    if "system" not in requests:
        raise InvalidParameterError(
            "the requests have no column 'system': say which system they are of, as in price(..., system='FLStore')"
        )
    return requests["system"].to_numpy(dtype=object)


def _numbers(requests: pd.DataFrame, rows: NDArray[np.bool_]) -> dict[str, Floats]:
    """The columns that cost is made of, checked."""
    found: dict[str, Floats] = {}
    for column in ("bytes_moved", "operations", "compute_s", "memory_bytes"):
        if column not in requests:
            if column != "memory_bytes":
                raise InvalidParameterError(
                    f"the requests have no column {column!r}; they have: {', '.join(map(str, requests.columns))}"
                )
            found[column] = np.zeros(int(rows.sum()))
            continue
        values = requests[column].to_numpy(dtype=np.float64, na_value=np.nan)[rows]
        wrong = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
        if len(wrong):
            label = requests.index[rows][wrong[0]]
            raise InvalidParameterError(
                f"{column} of request {label} is {values[wrong[0]]}; it must be a finite number of at least 0"
            )
        found[column] = values
    return found

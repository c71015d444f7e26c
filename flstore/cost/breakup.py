"""Appendix B of the paper: what a run's requests take and cost in all, and which part of it is communication."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flstore.cost._yaml import Source, read
from flstore.cost.idle import idle
from flstore.cost.paper import PER_LAYER, deployment, priced_cells
from flstore.cost.sheets import Prices, load_prices

if TYPE_CHECKING:
    import pandas as pd

WAYS: tuple[tuple[str, str | None], ...] = (
    ("FLStore", None),
    ("ObjStore-Agg", "s3-same-region"),
    ("ObjStore-Agg", "paper-minio-hdd"),
    (PER_LAYER, "paper-minio-hdd"),
    ("Cache-Agg", "elasticache"),
)
"""Systems and what their data crosses. As the authors' artifact, per layer, on disks like theirs; and strong ones."""


def breakup(
    requests_per_model: int | None = None,
    ways: Sequence[tuple[str, str | None]] = WAYS,
    prices: Prices | Source = None,
    links: Source = None,
    assumptions: Source = None,
) -> pd.DataFrame:
    """Total seconds and dollars by system and model, broken up into communication, computation and the time between.

    Parameters
    ----------
    requests_per_model : int, optional
        Spread evenly over the ten workloads; default the paper's 3000.
    ways : sequence of (str, str or None)
        Systems, each with a link; None for the system's own.
    prices, links, assumptions : optional
        The sheets, and a file in the form of ``flstore/cost/paper.yaml``; default those of this package.

    Returns
    -------
    DataFrame
        One row a system, link and model: ``requests``, ``modelled_communication_s``, ``modelled_computation_s``,
        ``modelled_communication_usd`` (fees of fetches, and the machine or function while it waits for them),
        ``modelled_computation_usd``, ``modelled_between_usd`` (what is billed while nobody asks, of all hours),
        ``modelled_requests_usd`` (without it), and by how much FLStore is below, as the mean and the largest of the
        ten workloads: ``modelled_{latency,cost,bill}_{mean,largest}_reduction``, where a bill is the cost of a request
        with its share of the time between; and ``basis``.

    Examples
    --------
    >>> rows = breakup().query("system == 'ObjStore-Agg per-layer'").set_index("model")
    >>> total = rows["modelled_communication_s"] + rows["modelled_computation_s"]
    >>> (rows["modelled_communication_s"] / total).round(3).tolist()
    [0.995, 0.99, 0.998, 0.977]
    """
    import pandas as pd

    content, _ = read(assumptions, "paper")
    sheet = prices if isinstance(prices, Prices) else load_prices(prices)
    asked = content["setting"]["requests_per_model"] if requests_per_model is None else requests_per_model
    ours, rows = _cells(content, "FLStore", None, sheet, links, asked), []
    for system, link in ways:
        theirs = _cells(content, system, link, sheet, links, asked)
        for model, mine in theirs.groupby("model", sort=False):
            rows.append(_totals(mine, asked) | _reductions(ours[ours["model"] == model], mine))
    return pd.DataFrame(rows).assign(basis="modelled")


def _cells(content: Any, system: str, link: str | None, sheet: Prices, links: Source, asked: int) -> pd.DataFrame:
    """Requests of each model and workload, with what is billed between requests: in all, and a request's share."""
    priced = priced_cells(content, system, link, sheet, links, {})
    between = {
        model: float(
            idle(system, hours=content["setting"]["hours"], prices=sheet, scale=deployment(content, model, {}))[
                "modelled_usd"
            ].sum()
        )
        for model in content["models"]
    }
    between_usd = priced["model"].map(between)
    return priced.assign(
        modelled_between_usd=between_usd, modelled_bill_usd=priced["modelled_cost_usd"] + between_usd / asked
    )


def _totals(mine: pd.DataFrame, asked: int) -> dict[str, Any]:
    times = asked / len(mine)
    waiting = mine["modelled_fetch_s"] / (mine["modelled_fetch_s"] + mine["modelled_compute_s"])
    fees = mine["modelled_get_usd"] + mine["modelled_transfer_usd"]
    communication_usd = times * float((fees + mine["modelled_compute_usd"] * waiting).sum())
    total_usd = times * float(mine["modelled_cost_usd"].sum())
    return {
        **{name: mine[name].iloc[0] for name in ("system", "link", "model")}, "requests": asked,
        "modelled_communication_s": times * float(mine["modelled_fetch_s"].sum()),
        "modelled_computation_s": times * float(mine["modelled_compute_s"].sum()),
        "modelled_communication_usd": communication_usd, "modelled_computation_usd": total_usd - communication_usd,
        "modelled_between_usd": float(mine["modelled_between_usd"].iloc[0]), "modelled_requests_usd": total_usd,
    }  # fmt: skip


def _reductions(ours: pd.DataFrame, theirs: pd.DataFrame) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, column in (("latency", "latency_s"), ("cost", "cost_usd"), ("bill", "bill_usd")):
        less = 1 - ours[f"modelled_{column}"].to_numpy() / theirs[f"modelled_{column}"].to_numpy()
        found |= {f"modelled_{name}_mean_reduction": float(less.mean())}
        found |= {f"modelled_{name}_largest_reduction": float(less.max())}
    return found

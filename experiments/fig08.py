"""Figure 8: what a request costs, from FLStore and from an aggregator with an object store, modelled.

The requests are those of experiment ``fig07``: their bytes and fetches were counted and their seconds of computing
measured. Links and prices are named sheets. The paper's forty cells are put through the same sheets in ``appb``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from flstore.cost import price
from flstore.cost._yaml import read
from flstore.cost.paper import PER_LAYER
from flstore.errors import InvalidParameterError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KEYS = ["model", "repetition", "round", "workload"]
PAPER_REDUCTION = 0.8823
"""Of the mean cost, section 5.2."""


def measured(outdir: str | Path) -> pd.DataFrame:
    """What experiment ``fig07`` left beside `outdir`.

    Raises
    ------
    InvalidParameterError
        It has not run at this scale.
    """
    path = Path(outdir).parent / "fig07" / "data.csv"
    if not path.exists():
        raise InvalidParameterError(f"{path} is missing: run experiment fig07 at this scale first")
    return pd.read_csv(path)


def measure(requests: pd.DataFrame, link: str, artifact_link: str) -> pd.DataFrame:
    """Price the requests: FLStore's, ObjStore-Agg's over `link`, and ObjStore-Agg's as the authors' artifact stores.

    The artifact keeps one object a layer and fetches one after the other: the same bytes in as many fetches as the
    model has tensors, over `artifact_link`.

    Returns
    -------
    DataFrame
        One row a request and system: system, link, model, repetition, round, workload, modelled_latency_s and
        modelled_cost_usd.
    """
    content, _ = read(None, "paper")
    tensors = {model: size["tensors"] for model, size in content["models"].items()}
    theirs = requests[requests["system"] == "ObjStore-Agg"]
    layered = theirs["operations"] * theirs["model"].map(tensors).where(theirs["workload"] != "hyperparameters", 1)
    layers = theirs.assign(operations=layered, system=PER_LAYER)  # metadata has no layers
    parts = [
        price(requests[requests["system"] == "FLStore"]),
        price(theirs, link=link),
        price(layers, link=artifact_link),
    ]
    columns = ["system", "link", *KEYS, "modelled_latency_s", "modelled_cost_usd"]
    return pd.concat(parts, ignore_index=True)[columns]


def reductions(data: pd.DataFrame, baseline: str) -> pd.Series:
    """By how much each request of FLStore is cheaper than the baseline's, as a share."""
    usd = data.pivot(index=KEYS, columns="system", values="modelled_cost_usd")
    return 1 - usd["FLStore"] / usd[baseline]


def table(data: pd.DataFrame) -> pd.DataFrame:
    """Mean cost in microdollars by model and workload, and the reduction in percent against both baselines."""
    usd = data.pivot_table(index=["model", "workload"], columns="system", values="modelled_cost_usd")
    less = {f"below {name}, %": 100 * (1 - usd["FLStore"] / usd[name]) for name in usd if name != "FLStore"}
    return (1e6 * usd).add_suffix(", uUSD").assign(**less)


def figure(data: pd.DataFrame) -> Figure:
    """Cost by workload and system, a panel a model, on a logarithmic axis; one dot a request.

    The dashed line is what the paper's mean reduction, 88.23 %, leaves of the artifact's mean cost.
    """
    import seaborn as sns
    from style import COLOURS, grid, legend

    models = list(dict.fromkeys(data["model"]))
    order = ["FLStore", "ObjStore-Agg", PER_LAYER]
    colours = {**{name: COLOURS[name] for name in order[:2]}, PER_LAYER: "#D55E00"}
    drawn, panels = grid(len(models), (5.6, 3.8))
    for axes, model in zip(panels, models, strict=True):
        part = data[data["model"] == model]
        common = {"x": "workload", "y": "modelled_cost_usd", "hue": "system", "hue_order": order, "palette": colours}
        sns.stripplot(part, **common, dodge=True, size=5, alpha=0.8, ax=axes, legend=False)
        left = (1 - PAPER_REDUCTION) * part[part["system"] == PER_LAYER]["modelled_cost_usd"].mean()
        name = f"paper: {100 * PAPER_REDUCTION:g} % below\nthe artifact's mean"
        paper = axes.axhline(left, color="black", linestyle="--", linewidth=1, label=name)
        axes.set(title=model, xlabel="", ylabel="modelled cost of a request, USD", yscale="log")
        axes.tick_params(axis="x", rotation=30)
        for label in axes.get_xticklabels():
            label.set_horizontalalignment("right")
    legend(panels[-1], colours, paper)
    drawn.suptitle("Cost of a request (modelled: measured computing, counted bytes, named links and prices)")
    return drawn

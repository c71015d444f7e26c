"""Figure 2: what share of a round's cost is not training; modelled from what experiment ``fig01`` measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from flstore.cost import load_prices
from flstore.errors import InvalidParameterError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def measured(outdir: str | Path) -> pd.DataFrame:
    """What experiment ``fig01`` left beside `outdir`.

    Raises
    ------
    InvalidParameterError
        It has not run at this scale.
    """
    path = Path(outdir).parent / "fig01" / "data.csv"
    if not path.exists():
        raise InvalidParameterError(f"{path} is missing: run experiment fig01 at this scale first")
    return pd.read_csv(path)


def measure(times: pd.DataFrame, trained: int, machine: str) -> pd.DataFrame:
    """Price a round: the aggregator's seconds and fetches, and the seconds of `trained` clients on a `machine` each.

    The paper does not say what it bills training with; here every client that trains is one such machine.

    Returns
    -------
    DataFrame
        The rows of `times` with modelled_training_usd and modelled_cost_share.
    """
    usd_per_s = load_prices()[machine].usd / 3600
    training = trained * times["modelled_training_s"] * usd_per_s
    share = times["modelled_cost_usd"] / (times["modelled_cost_usd"] + training)
    return times.assign(trained=trained, modelled_training_usd=training, modelled_cost_share=share)


def table(data: pd.DataFrame) -> pd.DataFrame:
    """Dollars of a round and the share that is not training, by application, for both ways of storing."""
    columns = ["modelled_cost_usd", "modelled_training_usd", "modelled_cost_share"]
    return data.set_index(["way", "application"])[columns]


def figure(data: pd.DataFrame) -> Figure:
    """Share of non-training by application and way of storing, with the paper's values."""
    from style import share_bars

    printed = dict.fromkeys(("debugging", "inference", "contribution"), 0.90)
    setting = f"{int(data['clients'].iloc[0])} clients a round, {int(data['trained'].iloc[0])} of which train"
    return share_bars(
        data, "modelled_cost_share", printed, 0.97, "cost", f"{setting}; diamonds: the paper's 'over 90 %'"
    )

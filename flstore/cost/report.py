"""Priced requests by system, with what is billed while nobody asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flstore.cost._yaml import Source
from flstore.cost.idle import idle
from flstore.cost.scale import SYSTEMS, Scale
from flstore.cost.sheets import Prices, load_prices
from flstore.display.table import Tabular
from flstore.errors import InvalidParameterError, OptionalDependencyError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False, eq=False)
class Summary(Tabular):
    """Cost by system; shows itself in a notebook.

    Attributes
    ----------
    hours : float
        The time in which the requests were asked.
    basis : str
        ``modelled``: no figure here was measured.
    """

    hours: float
    basis: str
    _frame: pd.DataFrame

    def frame(self) -> pd.DataFrame:
        """One row a system: requests, mean latency, and USD of the requests, of the idle time, and of both."""
        return self._frame

    def reductions(self, of: str = "FLStore") -> pd.DataFrame:
        """How much less a system costs than each other one, as shares of the other's cost.

        Parameters
        ----------
        of : str
            The system.

        Returns
        -------
        DataFrame
            Indexed by the other system: ``modelled_of_requests`` and ``modelled_with_idle``.

        Raises
        ------
        InvalidParameterError
            The summary has no such system.
        """
        if of not in self._frame.index:
            raise InvalidParameterError(f"there are no requests of {of!r}, only of: {', '.join(self._frame.index)}")
        ours, others = self._frame.loc[of], self._frame.drop(index=of)
        pairs = {"of_requests": "modelled_requests_usd", "with_idle": "modelled_total_usd"}
        return others.assign(
            **{f"modelled_{name}": 1 - ours[column] / others[column] for name, column in pairs.items()}
        )[[f"modelled_{name}" for name in pairs]]


def summary(
    priced: pd.DataFrame,
    *,
    hours: float,
    prices: Prices | Source = None,
    scale: Scale | Mapping[str, Scale] | None = None,
    systems: Sequence[str] = (),
) -> Summary:
    """Add up what :func:`flstore.cost.price` found, by system, and what is billed while nobody asks.

    Parameters
    ----------
    priced : DataFrame
        Priced requests of one or several systems.
    hours : float
        The time in which they were asked: idle cost is counted for all of it.
    prices : Prices or path, optional
        The sheet; default that of this package.
    scale : Scale or mapping of str to Scale, optional
        The deployment, or one for each system.
    systems : sequence of str
        Systems to list although nobody asked them anything.

    Raises
    ------
    UnknownNameError
        There is no such system; lists the known ones.
    InvalidParameterError
        `priced` is not what ``price`` returns.

    Examples
    --------
    >>> import pandas as pd
    >>> from flstore.cost import price
    >>> asked = pd.DataFrame({"bytes_moved": [0.0], "operations": [0], "compute_s": [1.0]})
    >>> found = summary(price(asked, system="FLStore"), hours=1)
    >>> round(float(found.frame()["modelled_requests_usd"]["FLStore"]), 7)  # 4 GB-seconds and a request
    6.69e-05
    """
    import pandas as pd

    if "modelled_cost_usd" not in priced:
        raise InvalidParameterError("these requests have no price yet: give the result of flstore.cost.price(...)")
    sheet = prices if isinstance(prices, Prices) else load_prices(prices)
    rows = {}
    for name in dict.fromkeys([*priced["system"].unique(), *systems]):
        mine = priced[priced["system"] == name]
        chosen = scale.get(name) if isinstance(scale, Mapping) else scale
        rows[name] = _row(mine, idle(name, hours=hours, prices=sheet, scale=chosen))
    frame = pd.DataFrame.from_dict(rows, orient="index").rename_axis("system").assign(basis="modelled")
    return Summary(hours, "modelled", frame)


def _row(mine: pd.DataFrame, between: pd.DataFrame) -> dict[str, Any]:
    requests_usd, idle_usd = float(mine["modelled_cost_usd"].sum()), float(between["modelled_usd"].sum())
    asked = len(mine)
    return {
        "requests": asked,
        "modelled_latency_s": float(mine["modelled_latency_s"].mean()) if asked else float("nan"),
        "modelled_usd_per_request": requests_usd / asked if asked else float("nan"),
        "modelled_requests_usd": requests_usd,
        "modelled_idle_usd": idle_usd,
        "modelled_total_usd": requests_usd + idle_usd,
    }


def figure(priced: pd.DataFrame) -> Figure:
    """Latency and cost of priced requests by system, both modelled, on logarithmic axes.

    Parameters
    ----------
    priced : DataFrame
        What :func:`flstore.cost.price` returned.

    Raises
    ------
    OptionalDependencyError
        seaborn is not installed.
    """
    try:
        import matplotlib.pyplot as plt
        import seaborn as sns
    except ImportError as exc:
        raise OptionalDependencyError.of("seaborn", "notebook", "A figure of costs") from exc
    order = [name for name in SYSTEMS if name in set(priced["system"])]
    drawn, axes = plt.subplots(1, 2, figsize=(10, 1.2 + 0.6 * len(order)), layout="constrained", sharey=True)
    panels = {"modelled_latency_s": "modelled latency of a request, s", "modelled_cost_usd": "modelled cost of it, USD"}
    for ax, (column, label) in zip(axes, panels.items(), strict=True):
        sns.boxplot(priced, x=column, y="system", order=order, hue="system", hue_order=order, legend=False, ax=ax)
        ax.set(xlabel=label, ylabel="")
        if (priced[column] > 0).any():
            ax.set_xscale("log")
    return drawn

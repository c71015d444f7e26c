"""Appendix B: total time and cost of a run's requests, broken up into communication and computation; modelled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from flstore.cost.breakup import breakup
from flstore.cost.paper import PER_LAYER

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ARTIFACT = (PER_LAYER, "paper-minio-hdd")
"""The paper's baseline, as its artifact stores and fetches: an object a layer, one after the other, on such disks."""
STRONG = ("ObjStore-Agg", "s3-same-region")
"""The strong one: an object an update, eight at a time, from S3."""
PRINTED_SHARE = {"efficientnet_v2_s": 0.7696, "resnet18": 0.8746, "mobilenet_v3_small": 0.8580, "swin_v2_t": 0.5332}
"""Share of communication in ObjStore-Agg's latency, section 5.3.1."""


def measure(requests_per_model: int) -> pd.DataFrame:
    """What :func:`flstore.cost.breakup.breakup` finds, for the paper's ten workloads, four models and 50 hours."""
    return breakup(requests_per_model)


def rows_of(data: pd.DataFrame, way: tuple[str, str]) -> pd.DataFrame:
    """The rows of one system over one link, by model."""
    system, link = way
    return data[(data["system"] == system) & (data["link"] == link)].set_index("model")


def table(data: pd.DataFrame) -> pd.DataFrame:
    """Hours and dollars in all by system, link and model, and the share of communication in the time."""
    seconds = data["modelled_communication_s"] + data["modelled_computation_s"]
    columns = {
        "hours": seconds / 3600,
        "share of communication": data["modelled_communication_s"] / seconds,
        "USD of requests": data["modelled_requests_usd"],
        "USD between requests": data["modelled_between_usd"],
    }
    return data[["system", "link", "model"]].assign(**columns).set_index(["system", "link", "model"])


def figure(data: pd.DataFrame) -> Figure:
    """Hours (left) and dollars (right) by model and system, on logarithmic axes; bars in the colour of the system.

    The black diamonds are what the paper's shares make of the hours: where the bar of communication would end.
    """
    import matplotlib.pyplot as plt
    from style import COLOURS, PAPER

    ways = list(dict.fromkeys(zip(data["system"], data["link"], strict=True)))
    models = list(dict.fromkeys(data["model"]))
    drawn, panels = plt.subplots(1, 3, figsize=(14, 4.2), layout="constrained")
    width = 0.8 / len(ways)
    for number, way in enumerate(ways):
        part = rows_of(data, way).loc[models]
        at = [x + (number - (len(ways) - 1) / 2) * width for x in range(len(models))]
        look = {"width": width, "color": COLOURS[way[0].removesuffix(" per-layer")], "edgecolor": "white"}
        look |= {"hatch": "//" if way == ARTIFACT else ".." if way == ("ObjStore-Agg", ARTIFACT[1]) else ""}
        seconds = part["modelled_communication_s"] + part["modelled_computation_s"]
        panels[0].bar(at, seconds / 3600, label=way[0] if way[0] == "FLStore" else f"{way[0]}, {way[1]}", **look)
        panels[1].bar(at, part["modelled_communication_s"] / seconds, **look)
        panels[2].bar(at, part["modelled_requests_usd"] + part["modelled_between_usd"], **look)
        if way == ARTIFACT:
            panels[1].plot(at, [PRINTED_SHARE[m] for m in models], **PAPER)
    panels[0].set(yscale="log", ylabel="hours of all requests", title="time")
    panels[1].set(ylabel="share of communication", title="what of it is communication")
    panels[1].legend(loc="lower right", frameon=True)
    panels[2].set(yscale="log", ylabel="USD", title="cost, the time between requests included")
    for axes in panels:
        axes.set_xticks(range(len(models)), models, rotation=20, ha="right")
    drawn.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    drawn.suptitle(f"Total time and cost of {int(data['requests'].iloc[0])} requests a model (modelled)")
    return drawn

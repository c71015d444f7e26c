"""One look for every figure: one palette that colour-blind readers can tell apart, one way to save."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito (2008); a system keeps its colour in every figure.
COLOURS = {
    "FLStore": "#0072B2",
    "ObjStore-Agg": "#E69F00",
    "Cache-Agg": "#CC79A7",
    "LocalFiles": "#999999",
    "tailored": "#0072B2",
    "lru": "#D55E00",
    "fifo": "#E69F00",
    "lfu": "#CC79A7",
    "belady": "#009E73",
}
PAPER: dict[str, Any] = {"marker": "D", "color": "#000000", "label": "paper", "linestyle": "none"}


def use() -> None:
    """Set the look for the figures that follow."""
    import matplotlib as mpl
    import seaborn as sns

    sns.set_theme(context="notebook", style="whitegrid", palette=list(COLOURS.values())[:4])
    mpl.rcParams.update(
        {
            "figure.dpi": 110,
            "savefig.dpi": 200,
            "savefig.bbox": "tight",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
            "svg.fonttype": "none",
            # Equal data gives an equal file.
            "svg.hashsalt": "flstore",
        }
    )


def save(figure: Figure, outdir: str | Path) -> None:
    """Write ``figure.png`` and ``figure.svg`` into `outdir`, which is made when missing."""
    folder = Path(outdir)
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "figure.png", metadata={"Software": None})
    figure.savefig(folder / "figure.svg", metadata={"Date": None})
    shrink(folder / "figure.png")


def shrink(path: Path) -> None:
    """Reduce a bitmap to 256 colours, which a figure has hardly more of: a third of the bytes."""
    from PIL import Image

    with Image.open(path) as picture:
        dpi, few = picture.info.get("dpi"), picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    few.save(path, optimize=True, **({"dpi": dpi} if dpi else {}))


def share_bars(
    data: pd.DataFrame, column: str, printed: dict[str, float], largest: float, of: str, setting: str
) -> Figure:
    """A bar for each application and way, `printed` values as diamonds, the largest printed one as a line."""
    import matplotlib.pyplot as plt
    import seaborn as sns

    order = list(dict.fromkeys(data["application"]))
    colours = {"as the artifact": COLOURS["ObjStore-Agg"], "strong": COLOURS["LocalFiles"]}
    drawn, axes = plt.subplots(figsize=(9, 4.2), layout="constrained")
    sns.barplot(data, x="application", y=column, hue="way", palette=colours, ax=axes)
    axes.axhline(largest, color="black", linestyle="--", linewidth=1, label="paper, largest")
    if printed:
        axes.plot([order.index(name) for name in printed], list(printed.values()), **PAPER)
    axes.set(xlabel="", ylabel=f"share of {of} that is not training", ylim=(0, 1.05))
    axes.set_xticks(range(len(order)), order, rotation=25, ha="right")
    axes.set_title(f"Non-training share of the {of} of a round (modelled)\n{setting}")
    axes.legend(title="aggregator with an object store", loc="center left", bbox_to_anchor=(1.0, 0.5))
    return drawn


def grid(panels: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels, two in a line, that share their vertical axis; `size` in inches is a panel's."""
    import matplotlib.pyplot as plt

    across, down = min(panels, 2), -(-panels // 2)
    shape = (size[0] * across + 2.0, size[1] * down)
    drawn, axes = plt.subplots(down, across, figsize=shape, sharey=True, squeeze=False, layout="constrained")
    for unused in axes.flat[panels:]:
        unused.remove()
    return drawn, list(axes.flat[:panels])


def legend(axes: Axes, colours: dict[str, str], *lines: Any) -> None:
    """A legend to the right of a panel: a dot for each colour, then `lines` as they are labelled."""
    from matplotlib.lines import Line2D

    dots = [Line2D([], [], marker="o", linestyle="none", color=colour, label=name) for name, colour in colours.items()]
    axes.legend(handles=[*dots, *lines], title=None, loc="center left", bbox_to_anchor=(1.0, 0.5))

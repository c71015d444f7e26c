"""One look for every figure: one palette that colour-blind readers can tell apart, one way to save."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
PAPER = {"marker": "D", "color": "#000000", "label": "paper", "linestyle": "none"}


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

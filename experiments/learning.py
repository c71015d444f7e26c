"""Learning curves of the four networks: held-out accuracy by round, in a real federated training of each."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REACHED = 0.8
"""Accuracy that each network is to pass."""


def measure(
    models: list[str], rounds: int | None, clients: int, per_round: int, max_batches: int | None, seed: int
) -> pd.DataFrame:
    """Train each network by its own settings.

    Parameters
    ----------
    rounds, max_batches : int, optional
        None: as many rounds as the settings of each network say, all batches.

    Returns
    -------
    DataFrame
        One row a model and round (0 before training): model, round, accuracy, loss, train_loss, seconds (wall time of
        the round), cpu_s (processor time of the model's whole run), and the settings.
    """
    from flstore.federated import SETTINGS, run

    parts = []
    for model in models:
        began = time.process_time()
        history = run(
            model,
            rounds,
            clients,
            per_round,
            seed=seed,
            max_batches=max_batches,
            settings=SETTINGS[model],
            progress=False,
        )
        print(history, flush=True)
        about = {**asdict(SETTINGS[model]), "rounds": len(history.accuracy) - 1}
        curve = history.frame().reset_index().assign(cpu_s=round(time.process_time() - began, 1), **about)
        curve.insert(0, "model", model)
        parts.append(curve)
    return pd.concat(parts, ignore_index=True)


def table(data: pd.DataFrame) -> pd.DataFrame:
    """What each network came to: its last and best accuracy, the first round above 0.8, and what that took."""
    rows = {}
    for model, curve in data.groupby("model", sort=False):
        above = curve.loc[curve["accuracy"] > REACHED, "round"]
        rows[model] = {
            "rounds": int(curve["round"].max()),
            "last accuracy": curve["accuracy"].iloc[-1],
            "best accuracy": curve["accuracy"].max(),
            f"first round above {REACHED}": above.min(),
            "wall time, s": curve["seconds"].sum(),
            "processor time, s": curve["cpu_s"].iloc[0],
            **curve[["optimizer", "lr", "epochs", "batch_size"]].iloc[0].to_dict(),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def figure(data: pd.DataFrame) -> Figure:
    """Held-out accuracy by round, a line a network."""
    import matplotlib.pyplot as plt
    import seaborn as sns
    from matplotlib.ticker import MaxNLocator

    drawn, axes = plt.subplots(figsize=(7.5, 4.2))
    palette = dict(zip(dict.fromkeys(data["model"]), sns.color_palette(), strict=False))
    sns.lineplot(data, x="round", y="accuracy", hue="model", style="model", markers=True, dashes=False, palette=palette)
    axes.axhline(REACHED, color="#000000", linewidth=1, linestyle="--")
    axes.set(ylim=(0, 1), xlabel="round", ylabel="accuracy on held-out digits", title="Four networks learn, federated")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(title=None, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return drawn

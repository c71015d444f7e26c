"""Figure 1: what share of a round's time is not training. A measured subset, scaled to the paper's setting: modelled.

Two hundred updates of EfficientNetV2-S are 16 GB a round. So some updates are asked about for real, by an aggregator in
this process, and some batches are trained; counts and seconds are then scaled to all clients, and fetches put through a
named link.
"""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from flstore.cost import price
from flstore.cost._yaml import read
from flstore.cost.paper import PER_LAYER
from flstore.federated.models import MODELS, build, state_arrays

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SEVERAL = (
    "malicious_filtering", "scheduling_performance", "contribution", "incentives", "debugging", "personalization",
)  # fmt: skip
"""The multi-task scenario of section 2.1: filtering, scheduling, reputation, incentives, debugging, personalization."""
ALONE = (*SEVERAL, "inference")
WAYS = {"as the artifact": (PER_LAYER, "paper-minio-hdd"), "strong": ("ObjStore-Agg", "s3-same-region")}
"""An object a layer, one after the other, on disks like the paper's; an object an update, eight at a time, from S3."""
TRAINING, ALL_SIX = "training", "all six"


def __getattr__(name: str) -> Any:
    """``fig01:resnet18`` and so on: what the aggregator makes its models with."""
    if name not in MODELS:
        raise AttributeError(name)
    return partial(build, name)


def measure(
    model: str,
    clients: int,
    subset: int,
    examples: int,
    images_per_client: int,
    epochs: int,
    batch: int,
    batches: int,
    seed: int,
) -> pd.DataFrame:
    """Time one application after the other on `subset` updates and some batches of training; scale both.

    A round of training takes what one client needs for its images, because clients train at the same time, each on
    processors like these. What an application computes is scaled by the objects that it reads, which is a lower bound
    where all pairs of updates are compared.

    Parameters
    ----------
    model : str
        One of the paper's four.
    clients, subset : int
        Of a round in the paper's setting, and how many of them are measured.
    examples : int
        Held-out images that models are evaluated on, at most 360.
    images_per_client, epochs : int
        What a client trains on in a round: 250 are CIFAR10's training images split over 200 clients.
    batch, batches, seed : int
        How much training is timed.

    Returns
    -------
    DataFrame
        One row an application and way of storing: application, way, link, subset, clients, measured_compute_s (of the
        subset), operations and bytes_moved (of all clients), modelled_compute_s, modelled_fetch_s, modelled_latency_s,
        modelled_cost_usd, modelled_training_s (of the round) and modelled_share (of non-training in the time of this
        application and training). ``all six`` adds up the multi-task scenario.
    """
    training_s = images_per_client * epochs * _seconds_an_image(model, batch, batches, seed)
    content, _ = read(None, "paper")
    scaled = _scaled(_asked(model, subset, examples, seed), clients, subset)
    parts = []
    for way, (system, link) in WAYS.items():
        tensors = content["models"][model]["tensors"] if system == PER_LAYER else 1
        fetches = scaled["operations"] * tensors
        priced = price(scaled.assign(operations=fetches), system=system, link=link).assign(way=way)
        six = priced[priced["application"].isin(SEVERAL)].sum(numeric_only=True).to_frame().T
        parts += [priced, six.assign(application=ALL_SIX, way=way, link=link)]
    data = pd.concat(parts, ignore_index=True).assign(subset=subset, clients=clients, modelled_training_s=training_s)
    share = data["modelled_latency_s"] / (data["modelled_latency_s"] + training_s)
    columns = [
        "application", "way", "link", "subset", "clients", "measured_compute_s", "operations", "bytes_moved",
        "modelled_compute_s", "modelled_fetch_s", "modelled_latency_s", "modelled_cost_usd", "modelled_training_s",
    ]  # fmt: skip
    return data[columns].assign(modelled_share=share)


def _seconds_an_image(model: str, batch: int, batches: int, seed: int) -> float:
    """Plain SGD on this machine, in float32, after one batch that does not count."""
    import torch

    from flstore.federated.data import digits

    network, data = build(model, seed=seed), digits()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    took = []
    for number in range(batches + 1):
        rows = np.arange(number * batch, (number + 1) * batch) % len(data.train_labels)
        began = time.perf_counter()
        optimizer.zero_grad()
        answers = network(torch.from_numpy(data.train_images[rows]))
        loss = torch.nn.functional.cross_entropy(answers, torch.from_numpy(data.train_labels[rows]))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        took.append(time.perf_counter() - began)
    return float(np.median(took[1:])) / batch


def _asked(model: str, subset: int, examples: int, seed: int) -> pd.DataFrame:
    """Every application once on `subset` updates of an aggregator, after one request that does not count."""
    from flstore.baselines import ObjStoreAgg
    from flstore.federated.data import digits

    state, rng = state_arrays(build(model, seed=seed)), np.random.default_rng(seed)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        held_out = Path(folder) / "held_out.npz"
        np.savez(held_out, x=digits().test_images[:examples], y=digits().test_labels[:examples])
        with ObjStoreAgg(f"{folder}/store") as system:
            system.task(model=f"{__name__}:{model}", data=str(held_out))
            system.ingest(0, {}, aggregate=state)
            system.ingest(1, {f"{i}": _noisy(state, rng) for i in range(subset)}, aggregate=state)
            system.flush()
            system.request("incentives", round=1)  # imports torch, prepares the model
            for application in ALONE:
                record = system.request(application, round=1).record
                rows.append(
                    {
                        "application": application, "measured_compute_s": record.compute_s,
                        "operations": record.operations, "bytes_moved": record.bytes_moved,
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


def _noisy(state: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """The state with a little noise of its own on all weights; batch statistics stay positive."""
    return {
        name: array + np.float32(1e-3) * np.abs(rng.standard_normal(array.shape, np.float32))
        if array.dtype.kind == "f"
        else array
        for name, array in state.items()
    }


def _scaled(asked: pd.DataFrame, clients: int, subset: int) -> pd.DataFrame:
    """As if all clients had been asked about: what reads every update reads that many more; inference reads one."""
    objects = asked["operations"].where(asked["operations"] < subset, asked["operations"] - subset + clients)
    factor = objects / asked["operations"]
    return asked.assign(
        operations=objects, bytes_moved=asked["bytes_moved"] * factor, compute_s=asked["measured_compute_s"] * factor
    )


def table(data: pd.DataFrame) -> pd.DataFrame:
    """Seconds of a round and the share that is not training, by application, for both ways of storing."""
    columns = ["modelled_fetch_s", "modelled_compute_s", "modelled_training_s", "modelled_share"]
    return data.set_index(["way", "application"])[columns]


def figure(data: pd.DataFrame) -> Figure:
    """Share of non-training by application and way of storing, with the paper's values."""
    from style import share_bars

    return share_bars(
        data, "modelled_share", {ALL_SIX: 0.86}, 0.98, "time",
        f"{int(data['clients'].iloc[0])} clients a round, scaled from {int(data['subset'].iloc[0])} that were measured",
    )  # fmt: skip

"""k-means over the updates of a round: from their Gram matrix, and by scikit-learn on the flattened updates."""

from __future__ import annotations

import time

import numpy as np

from benchmarks import rounds
from benchmarks.rows import Row, timed
from benchmarks.timing import Spread, interleaved
from flstore.workloads.clustering import Clustering

K = 3


def run(quick: bool = False) -> list[Row]:
    """Both start from the same three updates and must find the same partition.

    Raises
    ------
    RuntimeError
        The partitions differ.
    """
    from sklearn.cluster import KMeans

    name, state = rounds.model(quick)
    here = rounds.inputs(rounds.perturbed(state), state)
    found = here.updates(1)
    clients = list(found)
    own = Clustering(k=K, of="model", initial=clients[:K])
    spread = interleaved({"gram": lambda: own.compute(here)}, repetitions=3 if quick else 5)["gram"]
    labels = own.compute(here).labels

    data = np.stack([np.concatenate(update.runs("float32")) for update in found.values()])
    began = time.perf_counter()
    rival = KMeans(K, init=data[:K], n_init=1, algorithm="lloyd").fit(data)
    took = Spread.of([time.perf_counter() - began])
    if labels.tolist() != rival.labels_.tolist():
        raise RuntimeError(
            f"the partitions differ: {labels.tolist()} from the Gram matrix, {rival.labels_.tolist()} from scikit-learn"
        )
    size = f"{len(data)} x {data.shape[1] / 1e6:.1f} M"
    return [
        timed(
            f"kmeans {name}: clustering, k={K}", spread, peer="scikit-learn KMeans", against=took,
            note=f"the same partition of {size} from the same first centres",
        ),
        timed(f"kmeans {name}: scikit-learn KMeans", took, note=f"{rival.n_iter_} iterations; flattening not counted"),
    ]  # fmt: skip

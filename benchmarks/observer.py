"""What observing costs the training thread of a Flower server, against the rounds that it observes.

Ten clients of the app of this package train a real network on the digits, one batch each, which is the shortest round
there is; then the same strategy is observed. The observer's time is that of the strategy's methods as Flower calls
them, less that of the methods themselves.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from benchmarks import rounds
from benchmarks.rows import Row, timed
from benchmarks.timing import Spread
from flstore import FLStore

METHODS = ("configure_train", "aggregate_train", "configure_evaluate", "aggregate_evaluate")
MOST_SHARE, MOST_MS = 0.01, 25.0


def run(quick: bool = False) -> list[Row]:
    """The observer's time a round on the training thread, in itself and as a share of the round."""
    name, turns = ("mobilenet_v3_small", 2) if quick else ("efficientnet_v2_s", 4)
    with tempfile.TemporaryDirectory() as root, FLStore.local(functions=2, root=root, job=rounds.JOB) as store:
        own, observed, bare = _train(store, name, turns)
        store.flush()
        assert len(store.clients(turns)) == rounds.CLIENTS
        size = sum(array.nbytes for array in store.aggregate(turns).values())
    spread, title = Spread.of(own), f"observer {name}"
    note = f"{rounds.CLIENTS} updates of {size / 1e6:.0f} MB; the longest of {len(own)} rounds {max(own) * 1e3:.3g} ms"
    return [
        timed(
            f"{title}: on the training thread, a round", spread, peer="the round's wall time",
            against=Spread.of(observed), at_most=MOST_SHARE, note=note,
        ),
        Row(
            f"{title}: the longest of all rounds", max(own) * 1e3, "ms", goal=f"under {MOST_MS:g} ms",
            met=max(own) * 1e3 < MOST_MS, repetitions=len(own),
        ),
        timed(
            f"{title}: a round, observed", Spread.of(observed), peer="a round, not observed",
            against=Spread.of(bare), note="one batch a client; functions and the store's threads share the cores",
        ),
    ]  # fmt: skip


class _Clock:
    """Seconds by round in the methods of a strategy, as they are when this is made."""

    def __init__(self, strategy: Any) -> None:
        self.seconds: dict[int, float] = defaultdict(float)
        for method in METHODS:
            setattr(strategy, method, self._timed(getattr(strategy, method)))

    def _timed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(server_round: int, *args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return method(server_round, *args, **kwargs)
            finally:
                self.seconds[server_round] += time.perf_counter() - began

        return call


def _train(store: FLStore, name: str, turns: int) -> tuple[list[float], list[float], list[float]]:
    """Seconds of the observer, of the observed rounds and of one that is not, all without the first."""
    from flwr.app import ArrayRecord, ConfigRecord
    from flwr.serverapp.strategy import FedAvg

    from flstore.federated import LocalGrid, build, client_app
    from flstore.federated.data import CLASSES
    from flstore.federated.scopes import one_thread, quiet, replies_let_go

    nodes = {"min_train_nodes": rounds.CLIENTS, "min_available_nodes": rounds.CLIENTS}
    config = ConfigRecord({"model": name, "lr": 0.05, "batch-size": 16, "epochs": 1, "seed": 0, "alpha": 1.0})
    config["max-batches"] = 1
    initial = ArrayRecord(build(name, num_classes=CLASSES).state_dict())

    def walls(strategy: Any, turns: int) -> list[float]:
        ends = [time.perf_counter()]
        with LocalGrid(client_app(), rounds.CLIENTS) as grid, replies_let_go(strategy):
            strategy.start(
                grid, initial, turns, train_config=config,
                evaluate_fn=lambda round, arrays: ends.append(time.perf_counter()),
            )  # fmt: skip
        return [after - before for before, after in itertools.pairwise(ends[2:])]

    with quiet(), one_thread():
        bare = walls(FedAvg(fraction_evaluate=0.0, **nodes), 2)
        strategy = FedAvg(fraction_evaluate=0.0, **nodes)
        inner = _Clock(strategy)
        outer = _Clock(store.observe(strategy))
        observed = walls(strategy, turns)
    own = [outer.seconds[round] - inner.seconds[round] for round in range(2, turns + 1)]
    return own, observed, bare

"""A thousand faults over a running workload: what is lost, what is wrong, what fails.

    python -m flstore.testing.faults.run --faults 1000 --requests 2000 --seed 0     # about half an hour on two cores
    python -m flstore.testing.faults.run --faults 40 --requests 80                  # what CI does

The first half strikes a store with functions of its own, the second half one on a cluster that others run, on the same
root. Every answer is compared with the one computed from the original arrays. The exit status is 1 when an update was
lost, an answer was wrong, or a request failed that could have been answered.
"""

# Longer than 300 lines because the workload, the faults and the judgement of one run are read together.

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import random
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from flstore import FLStore, workloads
from flstore.codec import encode
from flstore.errors import CorruptObjectError, FLStoreError, UpdateNotFoundError
from flstore.persistence import ObjectStore
from flstore.persistence.values import read
from flstore.testing.clusters import DaskCluster, dask_cluster
from flstore.testing.fault_plan import Fault, FaultPlan
from flstore.testing.faults import chance, processes
from flstore.testing.faults.files import corrupt, lose, restored, tear
from flstore.testing.sample_job import SampleJob
from flstore.types import Key, Kind
from flstore.workloads.base import Inputs, Scope

CLIENTS = 5
VALUES = 2_000
FUNCTIONS = 3
DEADLINE_S = 0.5
OWN = {
    "kill": 4, "restart": 3, "hang": 5, "slow": 3, "partition": 2, "scale": 3, "write error": 3, "read error": 3,
    "stall": 2, "torn write": 1, "corrupt": 1, "tear": 1, "lose": 1,
}  # fmt: skip
FOREIGN = {**{k: v for k, v in OWN.items() if k not in ("restart", "scale")}, "scheduler": 2, "come and go": 3}
STORE_FAULTS = {"write error": ("fail", "write"), "read error": ("fail", "read"), "torn write": ("tear", "write")}
DAMAGE: dict[str, Callable[[str, Key], object]] = {"corrupt": corrupt, "tear": tear, "lose": lose}


@dataclass
class Outcome:
    """What a fault run found.

    Attributes
    ----------
    faults : Counter
        Faults by kind.
    requests, excused : int
        Requests made, and those that failed with the right error because the object was damaged on disk and held
        nowhere else.
    lost, wrong, failed : list of str
        Updates that are not what was ingested, answers that differ from the right one, requests that failed.
    """

    faults: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    excused: int = 0
    updates: int = 0
    seconds: float = 0.0
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Nothing lost, wrong or failed."""
        return not (self.lost or self.wrong or self.failed)

    def values(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**dataclasses.asdict(self), "faults": dict(self.faults), "clean": self.clean}

    def __str__(self) -> str:
        kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(self.faults.items()))
        counts = f"{sum(self.faults.values())} faults ({kinds}), {self.requests} requests, {self.updates} updates"
        found = f"{len(self.lost)} updates lost, {len(self.wrong)} wrong answers, {len(self.failed)} requests failed"
        lines = [f"{counts}, {self.seconds:.0f} s", f"{found}, {self.excused} failed rightly (data nowhere left)"]
        return "\n".join([*lines, *self.lost[:5], *self.wrong[:5], *self.failed[:5]])


class Truth:
    """The original arrays, and the answers that follow from them."""

    def __init__(self) -> None:
        self._job = SampleJob("default")
        self._answers: dict[Any, Any] = {}
        self._lock = threading.Lock()
        self.rounds: list[int] = []

    def make(self, round: int) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Updates, metadata and aggregate of a round: a pure function of its number."""

        def tensors(who: int) -> dict[str, Any]:
            rng = np.random.default_rng([round, who])
            return {"w": rng.normal(size=VALUES).astype("f4"), "seen": np.array(round)}

        updates = {f"c{i}": tensors(i) for i in range(CLIENTS)}
        rows = {f"c{i}": {"lr": 0.1 / (round + 1), "loss": float(i) / (round + 1)} for i in range(CLIENTS)}
        return updates, rows, tensors(10**6)

    def ingested(self, round: int) -> None:
        """From now on requests may be about this round."""
        updates, rows, aggregate = self.make(round)
        for client, row in rows.items():  # what an ingest adds
            row |= {
                "size_bytes": len(encode(Key("default", Kind.UPDATE, round, client), updates[client])),
                "nonfinite": 0,
            }
        with self._lock:
            self._job.add(round, updates, aggregate, rows)
            self.rounds.append(round)

    def draw(self, rng: random.Random) -> tuple[str, dict[str, Any]]:
        """A request: mostly about new rounds, sometimes about any."""
        with self._lock:
            rounds = list(self.rounds)
        round = rng.choice(rounds[-4:]) if rng.random() < 0.8 else rng.choice(rounds)
        name = rng.choice(["clustering", "cosine_similarity", "malicious_filtering", "lineage", "hyperparameters"])
        if name == "lineage":
            return name, {"client": f"c{rng.randrange(CLIENTS)}", "rounds": sorted({round, rng.choice(rounds)})}
        return name, {"round": round, **({"k": 2} if name == "clustering" else {})}

    def answer(self, name: str, asked: dict[str, Any]) -> Any:
        """What the workload says about the original arrays, in this process."""
        what = (name, tuple(sorted((k, str(v)) for k, v in asked.items())))
        with self._lock:
            if what not in self._answers:
                about = {k: v for k, v in asked.items() if k in ("round", "client")}
                rounds = tuple(asked["rounds"]) if "rounds" in asked else None
                scope = Scope("default", rounds=rounds, **about)
                workload = workloads.make(name, **{k: v for k, v in asked.items() if k == "k"})
                data = {key: self._job.read(key) for key in workload.needs(scope, self._job)}
                self._answers[what] = workload.compute(Inputs(scope, data))
            return self._answers[what]


class Run:
    """One store under faults."""

    def __init__(self, store: FLStore, plan: FaultPlan, truth: Truth, outcome: Outcome, seed: int, root: str) -> None:
        self.store, self.plan, self.truth, self.outcome = store, plan, truth, outcome
        self.root = root
        self.rng = random.Random(seed)
        self.damaged: Counter[tuple[int, str]] = Counter()
        self._over = threading.Event()
        self._done = threading.Condition()
        self._threads = [threading.Thread(target=self._ask, args=(seed * 100 + i,)) for i in range(4)]
        self._threads.append(threading.Thread(target=self._train))

    def strike(self, faults: int, requests: int, weights: dict[str, int], cluster: DaskCluster | None) -> None:
        """Apply so many faults, one or two at a time, while at least so many requests are made."""
        self.ingest(max(self.truth.rounds, default=0) + 1)
        for thread in self._threads:
            thread.start()
        begun = self.outcome.requests
        try:
            with ExitStack() as lasting:
                for number in range(faults):
                    kind = self.rng.choices(list(weights), list(weights.values()))[0]
                    self.outcome.faults[kind] += 1
                    if number % 2 == 0:  # every second one comes on top of the one before
                        lasting.close()
                    lasting.enter_context(self.fault(kind, cluster))
                    self._wait_for_requests(begun + requests * (number + 1) // faults)
            self._wait_for_requests(begun + requests)
        finally:
            self._over.set()
            for thread in self._threads:
                thread.join()

    def _wait_for_requests(self, count: int) -> None:
        with self._done:
            self._done.wait_for(lambda: self.outcome.requests >= count)

    # --- the workload -----------------------------------------------------------------------------------------------

    def ingest(self, round: int) -> None:
        updates, rows, aggregate = self.truth.make(round)
        while True:
            try:
                self.store.ingest(round, updates, metadata=rows)
                self.store.ingest(round, {}, aggregate=aggregate)
                break
            except FLStoreError:
                self._try_to_flush()  # an earlier write failed: said once, kept, and tried again
        self.truth.ingested(round)
        self.outcome.updates += CLIENTS

    def _try_to_flush(self) -> None:
        try:
            self.store.flush()
        except FLStoreError:
            time.sleep(0.05)

    def _train(self) -> None:
        round = max(self.truth.rounds) + 1
        while not self._over.wait(0.2):
            self.ingest(round)
            round += 1

    def _ask(self, seed: int) -> None:
        rng = random.Random(seed)
        while not self._over.is_set():
            name, asked = self.truth.draw(rng)
            before = set(self.damaged)
            try:
                value = self.store.request(name, **asked).value
                said = _difference(value, self.truth.answer(name, asked))
                if said:
                    self.outcome.wrong.append(f"{name} {asked}: {said}")
            except (CorruptObjectError, UpdateNotFoundError) as error:
                key = getattr(error, "key", None)
                where = (key.round, key.client) if isinstance(key, Key) else None
                if where in before | set(self.damaged):
                    self.outcome.excused += 1
                else:
                    self.outcome.failed.append(f"{name} {asked}: {error!r}")
            except Exception as error:  # each is a finding, none may end the run
                self.outcome.failed.append(f"{name} {asked}: {error!r}")
            with self._done:
                self.outcome.requests += 1
                self._done.notify_all()

    # --- the faults -------------------------------------------------------------------------------------------------

    def fault(self, kind: str, cluster: DaskCluster | None) -> AbstractContextManager[Any]:
        """One fault, which lasts for a block."""
        if kind in STORE_FAULTS:
            return self.plan.stage(Fault(*STORE_FAULTS[kind], times=3))  # one less than the attempts that are made
        if kind == "stall":
            return self.plan.stage(Fault("stall", self.rng.choice(["read", "write"]), times=5, delay_s=0.3))
        if kind in DAMAGE:
            return self._damage(kind)
        return self._struck(kind, cluster)

    @contextmanager
    def _damage(self, kind: str) -> Iterator[None]:
        round, client = self.rng.choice(self.truth.rounds), f"c{self.rng.randrange(CLIENTS)}"
        key = Key("default", Kind.UPDATE, round, client)
        path = Path(self.root)
        if not ObjectStore(self.root).exists(key):
            yield  # not durable yet
            return
        self.damaged[round, client] += 1
        with restored(str(path), key, DAMAGE[kind]):
            yield

    @contextmanager
    def _struck(self, kind: str, cluster: DaskCluster | None) -> Iterator[None]:
        with ExitStack() as over:
            with contextlib.suppress(FLStoreError, OSError, psutil.Error):  # it went away before it could be struck
                self._strike(kind, cluster, over)
            yield

    def _strike(self, kind: str, cluster: DaskCluster | None, over: ExitStack) -> None:
        """Begin a fault of processes; what is put on `over` ends it."""
        alive = list(processes.functions(self.store))
        name = self.rng.choice(alive) if alive else ""
        if kind == "scale":
            self.store.scale(self.rng.randint(2, FUNCTIONS + 1))
        elif kind == "scheduler" and cluster is not None:
            cluster.kill("scheduler")
        elif kind == "come and go" and cluster is not None:
            guest = f"guest-{self.outcome.faults[kind]}"
            cluster.add(guest)
            over.callback(cluster.remove, guest)
        elif not name:
            pass  # all of them are away at the moment
        elif kind in ("hang", "slow"):
            over.enter_context(chance.LASTING[kind](self.store, name))
        elif kind == "partition":
            processes.sever(self.store, name)
        elif kind == "restart" and cluster is None:
            processes.restart(self.store, name)
        else:
            processes.kill(self.store, name)


def _difference(found: Any, right: Any) -> str:
    for f in dataclasses.fields(right):
        mine, theirs = getattr(found, f.name), getattr(right, f.name)
        try:
            if isinstance(theirs, np.ndarray) and theirs.dtype.kind == "f":
                np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12)
            else:
                np.testing.assert_equal(mine, theirs)
        except AssertionError as error:
            return f"{f.name}: {' '.join(str(error).split())[:200]}"
    return ""


def fault_run(faults: int = 1000, requests: int = 2000, seed: int = 0, replicas: int = 1) -> Outcome:
    """Run it; see the module's own words.

    Parameters
    ----------
    faults, requests : int
        How many of either.
    seed : int
        Chooses the faults and the requests.
    replicas : int
        Copies in memory.
    """
    outcome, truth = Outcome(), Truth()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="flstore-faults-", ignore_cleanup_errors=True) as folder:
        root = str(Path(folder, "root"))
        plan = FaultPlan(str(Path(folder, "plan")))
        options: dict[str, Any] = {
            "root": plan.url(root), "storage_options": plan.storage_options, "memory": "1MiB", "replicas": replicas,
            "ping_deadline_s": DEADLINE_S,
        }  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of data that is healed, routed around, answered here: that is the point
            with FLStore.local(functions=FUNCTIONS, **options) as store:
                own = Run(store, plan, truth, outcome, seed, root)
                own.strike(faults // 2, requests // 2, OWN, None)
                _settle(store, plan)
            with (
                dask_cluster(workers=FUNCTIONS) as cluster,
                FLStore.connect(cluster.address, security=cluster.security, **options) as store,
            ):
                other = Run(store, plan, truth, outcome, seed + 1, root)
                other.strike(faults - faults // 2, requests - requests // 2, FOREIGN, cluster)
                _settle(store, plan)
        _check_updates(root, truth, outcome)
    outcome.seconds = time.monotonic() - began
    return outcome


def _settle(store: FLStore, plan: FaultPlan) -> None:
    """No more faults: everything that was acknowledged must become durable."""
    plan.lift()
    store.flush()


def _check_updates(root: str, truth: Truth, outcome: Outcome) -> None:
    """Everything that was ingested, read from the persistent store with nothing else alive."""
    objects = ObjectStore(root)
    for round in truth.rounds:
        updates, _, aggregate = truth.make(round)
        for client, tensors in [*updates.items(), (None, aggregate)]:
            key = Key("default", Kind.AGGREGATE if client is None else Kind.UPDATE, round, client)
            try:
                found, _ = read(objects, key)
                if not all(np.array_equal(found[name], tensor) for name, tensor in tensors.items()):
                    outcome.lost.append(f"{key} is another one")
            except FLStoreError as error:
                outcome.lost.append(repr(error))


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--faults", type=int, default=1000)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--output", type=Path, help="write what was found as JSON")
    given = parser.parse_args(arguments)
    outcome = fault_run(given.faults, given.requests, given.seed, given.replicas)
    print(outcome)
    if given.output is not None:
        values = {"seed": given.seed, "replicas": given.replicas, **outcome.values()}
        given.output.write_text(json.dumps(values, indent=2) + "\n")
    return 0 if outcome.clean else 1


if __name__ == "__main__":
    sys.exit(main())

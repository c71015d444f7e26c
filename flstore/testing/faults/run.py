"""A thousand faults over a running workload: what is lost, what is wrong, what fails.

    python -m flstore.testing.faults.run --faults 1000 --requests 2000 --seed 0     # ten to 25 minutes on two cores
    python -m flstore.testing.faults.run --faults 40 --requests 80                  # what CI does

The first half strikes a store with functions of its own, the second half one on a cluster that others run, on the same
root. Every answer is compared with the one computed from the original arrays. The exit status is 1 when an update was
lost, an answer was wrong, or a request failed that could have been answered.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import faulthandler
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
from pathlib import Path
from typing import Any

import psutil

from flstore import FLStore
from flstore.display.progress import progress_bar
from flstore.errors import CorruptObjectError, FLStoreError, RequestTimeoutError, UpdateNotFoundError
from flstore.persistence import ObjectStore
from flstore.testing.clusters import DaskCluster, dask_cluster
from flstore.testing.fault_plan import Fault, FaultPlan
from flstore.testing.faults import chance, processes
from flstore.testing.faults.files import corrupt, lose, restored, tear
from flstore.testing.faults.judgement import CLIENTS, Outcome, Truth, difference, lost_updates
from flstore.types import Key, Kind

FUNCTIONS = 3
DEADLINE_S = 0.5
ANSWER_S = 60.0
"""A request that takes longer has failed, and what the store waits for is printed."""
STUCK_S = 300.0
"""A fault that takes longer to begin or end ends the run, with the stacks of all threads."""
OWN = {
    "kill": 4, "restart": 3, "hang": 5, "slow": 3, "partition": 2, "scale": 3, "write error": 3, "read error": 3,
    "stall": 2, "torn write": 1, "corrupt": 1, "tear": 1, "lose": 1,
}  # fmt: skip
FOREIGN = {**{k: v for k, v in OWN.items() if k not in ("restart", "scale")}, "scheduler": 2, "come and go": 3}
STORE_FAULTS = {"write error": ("fail", "write"), "read error": ("fail", "read"), "torn write": ("tear", "write")}
DAMAGE: dict[str, Callable[[str, Key], object]] = {"corrupt": corrupt, "tear": tear, "lose": lose}


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
                for number in progress_bar(range(faults), total=faults, what="faults", unit="fault", show=True):
                    _watch_over()
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
                value = self.store.request(name, deadline_s=ANSWER_S, **asked).value
                said = difference(value, self.truth.answer(name, asked))
                if said:
                    self.outcome.wrong.append(f"{name} {asked}: {said}")
            except (CorruptObjectError, UpdateNotFoundError) as error:
                key = getattr(error, "key", None)
                where = (key.round, key.client) if isinstance(key, Key) else None
                if where in before | set(self.damaged):
                    self.outcome.excused += 1
                else:
                    self.outcome.failed.append(f"{name} {asked}: {error!r}")
            except RequestTimeoutError as error:
                self._print_waits()
                self.outcome.failed.append(f"{name} {asked}: {error!r}")
            except Exception as error:  # each is a finding, none may end the run
                self.outcome.failed.append(f"{name} {asked}: {error!r}")
            with self._done:
                self.outcome.requests += 1
                self._done.notify_all()

    def _print_waits(self) -> None:
        """What the store's event loop waits for: where a request that is never answered is stuck."""
        waits = Counter(" > ".join(_chain(task)) for task in asyncio.all_tasks(self.store._pool.loop))
        lines = "\n".join(f"{count:5} x {chain}" for chain, count in waits.most_common())
        print(f"{dict(self.outcome.faults)}\n{lines}", file=sys.stderr, flush=True)

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
        outcome.lost += lost_updates(root, truth)
    outcome.seconds = time.monotonic() - began
    return outcome


def _chain(task: asyncio.Task[Any]) -> Iterator[str]:
    """The functions in which a task waits, the innermost last."""
    waiting: Any = task.get_coro()
    while (frame := getattr(waiting, "cr_frame", None)) is not None:
        yield f"{frame.f_code.co_qualname}:{frame.f_lineno}"
        waiting = waiting.cr_await


def _settle(store: FLStore, plan: FaultPlan) -> None:
    """No more faults: everything that was acknowledged must become durable."""
    plan.lift()
    _watch_over()
    store.flush()


def _watch_over() -> None:
    """From now on this process has so much time for its next step; then it says where it is stuck, and ends."""
    faulthandler.dump_traceback_later(STUCK_S, exit=True, file=2)


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--faults", type=int, default=1000)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--output", type=Path, help="write what was found as JSON")
    given = parser.parse_args(arguments)
    try:
        outcome = fault_run(given.faults, given.requests, given.seed, given.replicas)
    finally:
        faulthandler.cancel_dump_traceback_later()
    print(outcome)
    if given.output is not None:
        values = {"seed": given.seed, "replicas": given.replicas, **outcome.values()}
        given.output.write_text(json.dumps(values, indent=2) + "\n")
    return 0 if outcome.clean else 1


if __name__ == "__main__":
    sys.exit(main())

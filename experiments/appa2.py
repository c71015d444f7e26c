"""Appendix A.2: requests while cache functions are lost, one in ten requests and all at once, by replicas; measured.

Functions are ended by SIGKILL. It is always the one that answered last, which is the worst choice. ObjStore-Agg reads
what FLStore wrote, from the same S3 server on loopback.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WHOLE, STRUCK = "nothing lost", "one function lost"
AT_ONCE, EMPTY = "all lost, asked at once", "all lost, functions back"
BASELINE = "ObjStore-Agg"
BUCKET = "flstore"
EXAMPLES = 40
"""Held-out images, for workloads that evaluate models."""


def measure(
    model: str,
    workloads: list[str],
    rounds: int,
    per_round: int,
    functions: int,
    replicas: list[int],
    requests: int,
    every: int,
    repetitions: int,
    recordings: str,
) -> pd.DataFrame:
    """Ask about the newest round without faults, with one function lost in `every` requests, and with all lost.

    Parameters
    ----------
    model : str
        Whose updates are made, one of the paper's.
    workloads : list of str
        Asked in turn.
    rounds, per_round, functions : int
        Rounds and updates in each, and cache functions.
    replicas : list of int
        Copies of what is in memory, on other functions; each is a store of its own.
    requests, every : int
        Requests without and with faults, and in how many of them one function is lost.
    repetitions : int
        How often all functions are lost.
    recordings : str
        Folder of the recorded runs.

    Returns
    -------
    DataFrame
        One row a request: system, replicas, setting, struck (a function was lost just before), workload, latency_s,
        the fields of its record, error (empty when it was answered).
    """
    from recordings import rounds_of

    from flstore import FLStore
    from flstore.baselines import ObjStoreAgg
    from flstore.testing.comparing import EVALUATE, take_in
    from flstore.testing.rounds import task_of
    from flstore.testing.services import rclone_s3

    rows: list[dict[str, Any]] = []
    for copies in replicas:
        with tempfile.TemporaryDirectory() as folder, rclone_s3(folder) as s3:
            s3.create_bucket(BUCKET)
            root: dict[str, Any] = {"root": f"s3://{BUCKET}/{copies}", "storage_options": s3.storage_options}
            options: dict[str, Any] = {"functions": functions, "replicas": copies, "model": model, "derive": False}
            with FLStore.local(ping_deadline_s=0.5, **options, **root) as store, ObjStoreAgg(**root) as baseline:
                if EVALUATE.intersection(workloads):
                    task = task_of(model, EXAMPLES, folder)
                    store.task(**vars(task))
                    baseline.task(**vars(task))
                for about in rounds_of(recordings, model, rounds, per_round):
                    take_in(store, about)
                asked = _Asked(store, rounds, workloads)
                asked.warm()
                found = [*asked.plainly(requests), *asked.struck(requests, every), *asked.all_lost(repetitions)]
                baseline.refresh()
                theirs = _Asked(baseline, rounds, workloads)
                theirs.warm()
                found += [{**row, "system": BASELINE} for row in theirs.plainly(repetitions * len(workloads))]
                rows += [{"system": "FLStore", **row, "replicas": copies} for row in found]
    return pd.DataFrame(rows)


class _Asked:
    """Requests to one system about one round, workload after workload."""

    def __init__(self, system: Any, round: int, workloads: list[str]) -> None:
        self.system, self.round, self.workloads = system, round, workloads

    def one(self, number: int, setting: str, struck: bool = False) -> dict[str, Any]:
        from flstore.testing.comparing import ask_anyway

        workload = self.workloads[number % len(self.workloads)]
        _, row = ask_anyway(self.system, workload, {"round": self.round})
        return {"setting": setting, "struck": struck, "workload": workload, **row}

    def warm(self) -> None:
        """What opens connections does not count."""
        for number in range(len(self.workloads)):
            self.one(number, "")

    def plainly(self, requests: int) -> Iterator[dict[str, Any]]:
        for number in range(requests):
            yield self.one(number, WHOLE)

    def struck(self, requests: int, every: int) -> Iterator[dict[str, Any]]:
        """Before every so many requests the function that answered last is killed; after, all is as it was."""
        from flstore.testing import faults

        for number in range(requests):
            strikes = number % every == every - 1
            if strikes:
                alive = faults.functions(self.system)
                last = str(self.system.requests["functions"].iloc[-1]).split()[-1]
                name = last if last in alive else next(iter(alive))
                faults.kill(self.system, name)
            yield self.one(number, STRUCK, strikes)
            if strikes:
                faults.await_function(self.system, name, alive[name])
                self.system.flush()

    def all_lost(self, repetitions: int) -> Iterator[dict[str, Any]]:
        """For each workload: once it is asked while the functions start again, once when they are there, empty."""
        from flstore.testing import faults
        from flstore.testing.comparing import settle

        for number in range(repetitions * len(self.workloads)):
            for setting in (AT_ONCE, EMPTY):
                before = faults.functions(self.system)
                for name in before:
                    faults.kill(self.system, name)
                if setting == EMPTY:
                    self._await(before)
                yield self.one(number, setting, struck=True)
                self._await(before)
                self.system.flush()
                settle(self.system)

    def _await(self, before: dict[str, int]) -> None:
        from flstore.testing import faults

        for name, pid in before.items():
            faults.await_function(self.system, name, pid)


def table(data: pd.DataFrame) -> pd.DataFrame:
    """Requests, failures, median and 95th percentile in milliseconds, by system, replicas and setting."""
    groups = data.groupby(["system", "replicas", "setting"], sort=False)
    return pd.DataFrame(
        {
            "requests": groups.size(),
            "failed": groups["error"].agg(lambda errors: int((errors.notna() & errors.ne("")).sum())),
            "median ms": 1e3 * groups["latency_s"].median(),
            "95th percentile ms": 1e3 * groups["latency_s"].quantile(0.95),
            "hits": groups["hits"].sum(),
            "misses": groups["misses"].sum() + groups["late_hits"].sum(),
        }
    )


def figure(data: pd.DataFrame) -> Figure:
    """Latency by setting, a panel a number of replicas, with what the claims allow; one dot a request."""
    import matplotlib.pyplot as plt
    import seaborn as sns
    from style import COLOURS, legend

    replicas = list(dict.fromkeys(data["replicas"]))
    order = [WHOLE, STRUCK, AT_ONCE, EMPTY]
    colours = {"FLStore": COLOURS["FLStore"], BASELINE: COLOURS[BASELINE]}
    size = (6.0 * len(replicas) + 2.5, 4.6)
    drawn, panels = plt.subplots(1, len(replicas), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for axes, copies in zip(panels[0], replicas, strict=True):
        part = data[data["replicas"] == copies]
        common = {"x": "setting", "y": "latency_s", "order": order, "hue": "system", "palette": colours, "ax": axes}
        sns.stripplot(part, **common, dodge=True, size=5, alpha=0.7, legend=False)
        allowed = 2 * part[(part["system"] == "FLStore") & (part["setting"] == WHOLE)]["latency_s"].quantile(0.95)
        twice = axes.hlines(
            allowed, 0.6, 1.4, color="black", linestyle="--", label="twice the 95th percentile\nwith nothing lost"
        )
        theirs = 1.25 * part[part["system"] == BASELINE]["latency_s"].median()
        above = axes.hlines(
            theirs, 1.6, 3.4, color="black", linestyle=":", label=f"25 % above the median\nof {BASELINE}"
        )
        axes.set(title=f"replicas: {copies}", xlabel="", ylabel="latency at the caller, s", yscale="log")
        axes.set_xticks(range(len(order)), [name.replace(", ", ",\n").replace(" lost", "\nlost", 1) for name in order])
        axes.tick_params(axis="x", labelsize=9)
    legend(panels[0][-1], colours, twice, above)
    drawn.suptitle("Requests while functions are killed, measured (S3 on loopback; lines: what the claims allow)")
    return drawn

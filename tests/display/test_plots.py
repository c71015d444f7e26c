"""``store.plot``: axes with what was measured or modelled on them, and words where there is nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

from flstore import FLStore
from flstore.baselines import ObjStoreAgg
from flstore.cost import price
from flstore.errors import InvalidParameterError
from flstore.plotting import KINDS


@pytest.fixture(scope="module")
def store() -> Iterator[FLStore]:
    with FLStore.local(functions=1, memory="64MiB", root="memory://display-plots") as store:
        for number in (1, 2, 3):
            rng = np.random.default_rng(number)
            updates = {f"c{i}": {"w": rng.normal(size=64).astype("f4")} for i in range(4)}
            store.ingest(number, updates, metadata={name: {"loss": 0.5} for name in updates})
            store.flush()
            store.request("cosine_similarity", round=number)
            store.request("hyperparameters", round=number)
        yield store


@pytest.fixture(autouse=True)
def no_figure_is_left() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_is_drawn_on_the_axes_given_or_on_new_ones(store: FLStore, kind: str) -> None:
    new = getattr(store.plot, kind)()
    assert new.get_title().startswith("FLStore: ")
    _, mine = plt.subplots()
    before = len(plt.get_fignums())
    assert getattr(store.plot, kind)(ax=mine) is mine
    assert len(plt.get_fignums()) == before
    assert mine.has_data()


def test_what_is_modelled_and_what_is_measured_says_so(store: FLStore) -> None:
    assert "measured" in store.plot.latency().get_xlabel()
    assert "modelled" in store.plot.cost().get_xlabel()


def test_latency_has_a_dot_for_each_request_and_a_row_for_each_workload(store: FLStore) -> None:
    axes = store.plot.latency()
    dots = np.concatenate([np.asarray(c.get_offsets())[:, 0] for c in axes.collections if len(c.get_offsets())])
    np.testing.assert_allclose(np.sort(dots), np.sort(store.requests["latency_s"] * 1e3))
    assert {label.get_text() for label in axes.get_yticklabels()} == {"cosine_similarity", "hyperparameters"}


def test_hit_ratios_are_those_of_the_requests(store: FLStore) -> None:
    axes = store.plot.hit_ratio(window=1)
    handles, labels = axes.get_legend_handles_labels()
    drawn = {line.get_color(): line.get_ydata().tolist() for line in axes.lines if len(line.get_ydata())}  # type: ignore[union-attr]
    requests = store.requests.assign(n=lambda t: t[["hits", "late_hits", "misses"]].sum(axis=1))
    for handle, name in zip(handles, labels, strict=True):
        own = requests[requests["policy_class"] == name]
        np.testing.assert_allclose(drawn[handle.get_color()], own["hits"] / own["n"])  # type: ignore[attr-defined]
    whole = store.plot.hit_ratio(window=3).lines
    ends = sorted(float(line.get_ydata()[-1]) for line in whole if len(line.get_ydata()))  # type: ignore[index, arg-type]
    sums = requests.groupby("policy_class")[["hits", "n"]].sum()
    np.testing.assert_allclose(ends, np.sort(sums["hits"] / sums["n"]))


def test_bytes_moved_are_added_up(store: FLStore) -> None:
    ends = sorted(float(line.get_ydata()[-1]) for line in store.plot.bytes_moved().lines if len(line.get_ydata()))  # type: ignore[index, arg-type]
    np.testing.assert_allclose(ends, np.sort(store.requests.groupby("workload")["bytes_moved"].sum() / 2**20))


def test_cost_is_the_mean_of_the_model_over_the_link_that_was_named(store: FLStore) -> None:
    def bars(axes: Any) -> list[float]:
        return sorted(bar.get_width() for bar in axes.patches if bar.get_width())

    for link in ({}, {"link": "s3-same-region"}):
        found = price(store.requests, **link).groupby("workload")["modelled_cost_usd"].mean()  # type: ignore[arg-type]
        np.testing.assert_allclose(bars(store.plot.cost(**link)), np.sort(found))


def test_a_baseline_has_pictures_of_its_own() -> None:
    with ObjStoreAgg("memory://display-plots-baseline") as baseline:
        baseline.ingest(1, {"a": {"w": np.ones(3)}, "b": {"w": np.zeros(3)}})
        baseline.request("cosine_similarity", round=1)
        assert baseline.plot.hit_ratio().get_title() == "ObjStore-Agg: hit ratio"


def test_a_store_that_was_asked_nothing_says_so() -> None:
    with ObjStoreAgg("memory://display-plots-empty") as empty:
        for kind in KINDS:
            with pytest.raises(InvalidParameterError, match=r"nothing to plot yet: no request was made; ask with"):
                getattr(empty.plot, kind)()
    assert plt.get_fignums() == []


def test_a_window_is_a_number_of_requests(store: FLStore) -> None:
    with pytest.raises(InvalidParameterError, match="at least 1, got 0"):
        store.plot.hit_ratio(window=0)


def test_without_seaborn_the_extra_is_named_and_all_else_works() -> None:
    code = """
import sys
sys.modules["seaborn"] = None
import numpy as np
from flstore.baselines import ObjStoreAgg
from flstore.errors import OptionalDependencyError
store = ObjStoreAgg("memory://x")
store.ingest(1, {"a": {"w": np.ones(3)}, "b": {"w": np.zeros(3)}})
store.request("cosine_similarity", round=1)
assert "latency(), hit_ratio()" in repr(store.plot)
try:
    store.plot.latency()
except OptionalDependencyError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == """store.plot.latency needs the package 'seaborn': pip install "flstore[notebook]\""""

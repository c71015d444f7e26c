"""The paper's figures of cost: its arithmetic, and its claims from the assumptions that they need."""

from __future__ import annotations

import csv
from importlib import resources
from pathlib import Path

import pytest
import yaml

from benchmarks import cost as benchmark
from flstore.cost import capacity, load_prices, paper
from flstore.errors import InvalidParameterError, UnknownNameError

CLAIMS = Path(__file__).parents[2] / "experiments" / "claims.csv"
GIVEN = yaml.safe_load(resources.files("flstore.cost").joinpath("paper.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def figures():
    return capacity.arithmetic().frame().set_index("quantity")


@pytest.fixture(scope="module")
def claims():
    return paper.claims().frame().set_index(["baseline", "scenario"])


@pytest.mark.parametrize(
    ("quantity", "printed_to"),
    [
        ("data of 100 jobs x 100 clients x 1000 rounds of ResNet-101, TiB", 0.5),
        ("memory to cache everything, TiB", 0.5),
        ("functions for it", 0),
        ("keeping them alive, USD a month", 0.05),
        ("keeping them alive, USD an hour", 0.05),
        ("Llama inference with FLStore, USD a round", 5e-5),
        ("Llama inference without FLStore, USD a round", 5e-5),
        ("mean cost that FLStore saves a request, USD (printed as cents)", 5e-4),
        ("largest cost that FLStore saves a request, USD (printed as cents)", 1e-3),
    ],
)
def test_what_the_paper_prints_follows_from_its_inputs(figures, quantity: str, printed_to: float) -> None:
    row = figures.loc[quantity]
    assert row["computed"] == pytest.approx(row["printed"], abs=printed_to)


def test_where_the_paper_disagrees_with_itself(figures) -> None:
    two, one = figures.loc["keeping two functions alive, USD a month"], capacity.keep_alive_usd(1)
    assert two["computed"] == pytest.approx(1.46, abs=0.005)
    assert one == pytest.approx(two["printed"], abs=0.05)  # what is printed for two is one
    assert figures.loc["keeping one function alive, USD a month", "ratio"] == pytest.approx(84, abs=0.5)
    assert capacity.ping_fees_usd(1) == pytest.approx(0.0087, abs=1e-4)


def test_a_million_requests_cost_what_is_printed_for_one_and_a_quarter_more(figures) -> None:
    row = figures.loc["requests to functions, USD a million"]
    assert row["computed"] == pytest.approx(0.2)
    assert row["computed"] / 1e6 == pytest.approx(1.25 * row["printed"])


def test_two_rounds_are_what_the_paper_keeps_only_with_few_clients() -> None:
    update_bytes = 82.72 * 2**20
    assert capacity.held_bytes(10, update_bytes) == 20 * update_bytes
    assert capacity.held_bytes(10, update_bytes, rounds=3, copies=2) == 60 * update_bytes
    assert capacity.held_bytes(1000, update_bytes) / 2**30 == pytest.approx(162, abs=1)
    with pytest.raises(InvalidParameterError, match="clients must be a finite number of at least 0, got -1"):
        capacity.held_bytes(-1, update_bytes)


def test_ten_clients_a_round_take_a_hundredth_of_a_thousand() -> None:
    updates = capacity.stored_bytes(10, 1000, 82.72 * 2**20)
    assert updates / 2**40 == pytest.approx(0.79, abs=0.005)
    assert capacity.functions_for(updates, 8192 * 2**20) == 101


def test_printed_values_are_those_of_the_claims() -> None:
    with CLAIMS.open(encoding="utf-8", newline="") as file:
        known = {row["id"]: row["value"] for row in csv.DictReader(file)}
    for row in GIVEN["printed"]["figures"]:
        assert row["claim"] in known
    for row in GIVEN["printed"]["cost_reduction"].values():
        assert 100 * row["value"] == pytest.approx(float(known[row["claim"]]))


def test_the_sizes_are_those_of_the_networks() -> None:
    pytest.importorskip("torch")
    from flstore.federated.models import build, state_arrays

    for name, size in GIVEN["models"].items():
        arrays = state_arrays(build(name)).values()
        assert (size["update_bytes"], size["tensors"]) == (sum(a.nbytes for a in arrays), len(arrays))


def test_the_forty_cells_read_what_their_layout_makes_them_read() -> None:
    whole, layered, held = (paper.cells(name) for name in ("ObjStore-Agg", "ObjStore-Agg per-layer", "FLStore"))
    assert len(whole) == len(layered) == len(held) == 40
    assert (whole["bytes_moved"] == layered["bytes_moved"]).all()
    debugging = layered.query("workload == 'debugging' and model == 'efficientnet_v2_s'")
    assert debugging["operations"].tolist() == [7820]  # ten updates of 782 tensors, as the authors' artifact fetches
    assert held["bytes_moved"].sum() == held["operations"].sum() == 0
    assert (whole["compute_s"] == held["compute_s"]).all()


def test_the_claim_against_the_object_store_holds_for_requests_alone(claims) -> None:
    mine = claims.loc["ObjStore-Agg"]
    assert mine.loc["strong: one object an update, S3", "modelled_mean_reduction"] >= 0.8823
    # Both keep the same objects: counted in, these cost more than FLStore's requests do.
    assert 0.3 < mine.loc["strong, idle cost included", "modelled_mean_reduction"] < 0.8823
    alone = mine.loc["strong: one object an update, S3", "modelled_usd"]
    stored = mine.loc["strong, idle cost included", "modelled_usd"]
    assert stored - alone > 3 * alone
    assert mine.loc["strong, machine billed for all 50 h", "modelled_mean_reduction"] >= 0.8823
    fast = mine.loc["strong, aggregator computes 8 x faster"]
    assert fast["modelled_least_reduction"] < 0.7 < 0.8823 <= fast["modelled_mean_reduction"]
    assert claims.loc["ObjStore-Agg per-layer", "modelled_mean_reduction"].min() > 0.99


def test_the_claim_against_the_cache_needs_its_cluster_to_be_billed(claims) -> None:
    mine = claims.loc["Cache-Agg"]
    assert mine.loc["requests alone", "modelled_mean_reduction"] < 0.9883
    assert mine.loc["cheapest cluster that holds the run", "modelled_mean_reduction"] >= 0.9883
    assert (claims["reached"] == (claims["modelled_mean_reduction"] >= claims["printed_reduction"])).all()
    assert set(claims["basis"]) == {"modelled"}


def test_the_printed_reductions_are_lambda_against_sagemaker() -> None:
    found = paper.implied()
    off = (found["reduction"] - found["printed_reduction"]).abs()
    assert off.drop("resnet18").max() < 0.02
    assert found.loc["resnet18", "implied_memory_gib"] == pytest.approx(4, abs=0.6)  # not the 2 of section 5.1
    assert found.loc["efficientnet_v2_s", "objstore_s"] == pytest.approx(198.6, abs=0.05)


def test_the_two_printed_figures_against_the_cache_ask_for_different_clusters() -> None:
    found = paper.implied_cluster()
    assert (found["cache_agg_s"], found["flstore_s"]) == pytest.approx((88.9, 31.4), abs=0.05)
    assert found["reduction_without_cluster"] < 0.9883
    assert found["usd_per_hour_of_savings"] / found["usd_per_hour_of_reduction"] == pytest.approx(5, abs=0.5)
    assert 0.4 < found["usd_per_hour_of_reduction"] / found["usd_per_hour_listed"] < 0.7
    assert found["copies"] == pytest.approx(3, abs=0.25)


def test_nothing_is_written_down_that_is_computed(tmp_path: Path) -> None:
    """Other prices and assumptions give other results."""
    prices = yaml.safe_load(resources.files("flstore.cost").joinpath("prices.yaml").read_text(encoding="utf-8"))
    prices["prices"]["lambda.duration"]["usd"] *= 10
    (tmp_path / "prices.yaml").write_text(yaml.safe_dump(prices), encoding="utf-8")
    dear = load_prices(tmp_path / "prices.yaml")
    assert capacity.keep_alive_usd(10098, prices=dear) > 9 * 7357
    ours, theirs = paper.claims().frame(), paper.claims(prices=dear).frame()
    assert (theirs["modelled_mean_reduction"] < ours["modelled_mean_reduction"])[~ours["idle"]].all()
    other = {**GIVEN, "setting": {**GIVEN["setting"], "requests_per_model": 6000}}
    (tmp_path / "paper.yaml").write_text(yaml.safe_dump(other), encoding="utf-8")
    busier = paper.claims(assumptions=tmp_path / "paper.yaml").frame()
    shared = ours["scenario"] == "cheapest cluster that holds the run"
    assert busier[shared]["modelled_baseline_usd"].item() < 0.6 * ours[shared]["modelled_baseline_usd"].item()


def test_the_table_has_every_system_and_model() -> None:
    table = paper.table()
    assert len(table) == 16
    assert set(table["basis"]) == {"modelled"}
    puts = table["modelled_puts_usd"].unstack("system").loc["efficientnet_v2_s"]
    assert puts["ObjStore-Agg per-layer"] == pytest.approx(782 * puts["ObjStore-Agg"])


def test_assumptions_that_name_what_is_not_there_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "paper.yaml"
    workloads = {**GIVEN["workloads"], "inference": {"objects": 1, "computes": ["guess"]}}
    path.write_text(yaml.safe_dump({**GIVEN, "workloads": workloads}), encoding="utf-8")
    with pytest.raises(UnknownNameError, match=r"'guess'.*evaluate_one"):
        paper.cells("FLStore", path)
    path.write_text(yaml.safe_dump({**GIVEN, "setting": {**GIVEN["setting"], "miss_ratio": 2}}), encoding="utf-8")
    with pytest.raises(InvalidParameterError, match="setting > miss_ratio"):
        paper.claims(assumptions=path)


def test_the_benchmark_prints_every_system_and_every_scenario() -> None:
    rows = {row.name: row for row in benchmark.run(quick=True)}
    table, claims = paper.table(), paper.claims().frame()
    assert len(rows) == 2 * len(table) + len(claims)
    assert all("modelled" in row.note for row in rows.values())
    one = rows["cost of a request, Cache-Agg, resnet18"]
    assert (one.value, one.unit) == (1e6 * table.loc[("Cache-Agg", "resnet18"), "modelled_usd_per_request"], "uUSD")
    assert [row.met for row in rows.values() if row.goal] == claims["reached"].tolist()


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(InvalidParameterError, match="function_memory_bytes"):
        capacity.functions_for(1.0, 0)
    with pytest.raises(InvalidParameterError, match="rounds"):
        capacity.stored_bytes(1, -1, 1.0)

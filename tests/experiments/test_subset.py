"""A measured subset of Figure 1 and Table 2, as small as it goes: real training, real requests, real generation."""

from __future__ import annotations

import pytest

from experiments import fig01, tab02

pytest.importorskip("torch")


def test_a_subset_is_measured_and_scaled_to_all_clients() -> None:
    data = fig01.measure("mobilenet_v3_small", 200, 3, 20, 250, 1, 4, 1, 1).set_index(["way", "application"])
    assert set(data.index.get_level_values("application")) == {*fig01.ALONE, fig01.ALL_SIX}
    strong, artifact = data.loc["strong"], data.loc["as the artifact"]
    assert strong.loc["incentives", "operations"] == 200
    assert strong.loc["contribution", "operations"] == 201  # and the model that the round started from
    assert strong.loc["inference", "operations"] == 1
    assert artifact.loc["incentives", "operations"] == 200 * 244  # tensors of a MobileNetV3-Small
    scaled = strong["measured_compute_s"]["incentives"] * 200 / 3
    assert strong.loc["incentives", "modelled_compute_s"] == pytest.approx(scaled)
    six = strong.loc[list(fig01.SEVERAL), "modelled_latency_s"].sum()
    assert strong.loc[fig01.ALL_SIX, "modelled_latency_s"] == pytest.approx(six)
    share = six / (six + strong["modelled_training_s"].iloc[0])
    assert strong.loc[fig01.ALL_SIX, "modelled_share"] == pytest.approx(share)
    assert (data["modelled_training_s"] > 0).all()


@pytest.mark.services
def test_a_small_llama_answers_alike_from_all_systems() -> None:
    data = tab02.measure("tiny", 2, 4, 2, 1, 1, 1)
    assert set(data["system"]) == {tab02.OURS, tab02.STRONG, tab02.PER_LAYER}
    assert data["equal"].all()
    counted = data.set_index("system")
    assert counted.loc[tab02.OURS, "bytes_moved"] == 0
    assert counted.loc[tab02.STRONG, "operations"] == 1
    assert counted.loc[tab02.PER_LAYER, "operations"] == 1 + 2 * 9 + 1 + 1  # its tensors, and the list of them
    assert (counted["of_1b"] < 1e-3).all()
    assert (tab02.table(data)["modelled_cost_usd"] > 0).all()

"""What costs while nobody asks, and the sums of both."""

from __future__ import annotations

import matplotlib as mpl
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flstore.cost import GIB, SYSTEMS, Scale, cluster, figure, idle, load_prices, price, summary
from flstore.errors import InvalidParameterError, UnknownNameError

PRICES = load_prices()
ASKED = pd.DataFrame({"bytes_moved": [1e8, 2e8], "operations": [1, 2], "compute_s": [1.0, 3.0]})


def usd(system: str, hours: float, scale: Scale) -> float:
    return float(idle(system, hours=hours, prices=PRICES, scale=scale)["modelled_usd"].sum())


def test_functions_cost_their_pings() -> None:
    found = idle("FLStore", hours=10, scale=Scale(functions=3))
    assert found.loc["functions kept alive", "modelled_usd"] == pytest.approx(10 * 3 * 60 * (0.0000166667 + 2e-7))
    assert set(found["basis"]) == {"modelled"}


def test_a_cluster_costs_its_nodes_and_its_copies() -> None:
    scale = Scale(stored_bytes=700 * GIB, node="elasticache.cache.r6g.16xlarge")
    found = idle("Cache-Agg", hours=2, scale=scale)
    assert found.loc["cache cluster", ["quantity", "unit"]].tolist() == [3, "elasticache.cache.r6g.16xlarge"]
    assert found.loc["cache cluster", "modelled_usd"] == pytest.approx(2 * 3 * 6.567)  # 419.09 GiB, a quarter reserved
    assert cluster(700 * GIB, PRICES, Scale(node=scale.node, node_copies=3))[1] == 9
    assert cluster(0, PRICES)[1] == 0


def test_the_cheapest_cluster_is_no_dearer_than_one_of_any_type() -> None:
    for size in (1, 30, 400, 5000):
        node, count = cluster(size * GIB, PRICES)
        others = [cluster(size * GIB, PRICES, Scale(node=n.name)) for n in PRICES.nodes()]
        assert node.usd * count == min(n.usd * c for n, c in others)


def test_an_aggregator_costs_between_requests_only_when_it_is_always_on() -> None:
    assert usd("ObjStore-Agg", 50, Scale()) == 0.0
    assert usd("ObjStore-Agg", 50, Scale(instance_always_on=True)) == pytest.approx(50 * 0.922)


def test_stored_objects_cost_every_system_in_the_cloud_the_same() -> None:
    stored = {name: idle(name, hours=720, scale=Scale(stored_bytes=100 * GIB)) for name in SYSTEMS}
    for name, found in stored.items():
        if name == "LocalFiles":
            assert len(found) == 0
        else:
            assert found.loc["persistent store", "modelled_usd"] == pytest.approx(2.3)


@given(
    st.sampled_from(sorted(SYSTEMS)), st.floats(0, 1e4), st.floats(0, 20), st.floats(0, 1e13), st.integers(0, 1000),
    st.booleans(),
)  # fmt: skip
def test_idle_cost_is_linear_in_time(
    system: str, hours: float, times: float, stored: float, functions: int, on: bool
) -> None:
    scale = Scale(stored_bytes=stored, functions=functions, instance_always_on=on)
    assert usd(system, hours * times, scale) == pytest.approx(times * usd(system, hours, scale))
    assert usd(system, 0, scale) == 0


@given(st.sampled_from(sorted(SYSTEMS)), st.floats(0, 1e4), st.floats(0, 1e13))
def test_a_system_that_nobody_asks_costs_its_idle_time_only(system: str, hours: float, stored: float) -> None:
    scale = Scale(stored_bytes=stored)
    none = price(ASKED.iloc[:0], system=system, prices=PRICES)
    row = summary(none, hours=hours, prices=PRICES, scale=scale, systems=[system]).frame().loc[system]
    assert (row["requests"], row["modelled_requests_usd"]) == (0, 0.0)
    assert row["modelled_total_usd"] == row["modelled_idle_usd"] == pytest.approx(usd(system, hours, scale))


def test_a_summary_adds_up_and_compares() -> None:
    priced = pd.concat([price(ASKED, system=name) for name in ("FLStore", "Cache-Agg")])
    found = summary(priced, hours=5, scale={"Cache-Agg": Scale(stored_bytes=50 * GIB)})
    frame = found.frame()
    assert frame["requests"].tolist() == [2, 2]
    own = priced[priced["system"] == "Cache-Agg"]["modelled_cost_usd"]
    assert frame.loc["Cache-Agg", "modelled_requests_usd"] == pytest.approx(own.sum())
    assert frame.loc["Cache-Agg", "modelled_idle_usd"] > 1
    assert frame.loc["FLStore", "modelled_idle_usd"] < 0.01
    less = found.reductions().loc["Cache-Agg"]
    total = frame["modelled_total_usd"]
    assert less["modelled_with_idle"] == pytest.approx(1 - total["FLStore"] / total["Cache-Agg"])
    assert less["modelled_with_idle"] > less["modelled_of_requests"] > 0
    assert (found.basis, set(frame["basis"])) == ("modelled", {"modelled"})


def test_a_summary_shows_itself() -> None:
    found = summary(price(ASKED, system="FLStore"), hours=5)
    assert "modelled_total_usd" in found._repr_html_()
    assert "FLStore" in repr(found)
    assert "basis" in repr(found)


def test_a_figure_has_a_box_a_system_and_says_that_it_is_modelled() -> None:
    mpl.use("agg")
    drawn = figure(pd.concat([price(ASKED, system=name) for name in ("LocalFiles", "Cache-Agg", "FLStore")]))
    left, right = drawn.axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["FLStore", "Cache-Agg", "LocalFiles"]
    assert all(ax.get_xlabel().startswith("modelled") for ax in (left, right))


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(InvalidParameterError, match="hours"):
        idle("FLStore", hours=-1)
    with pytest.raises(InvalidParameterError, match="no price yet"):
        summary(ASKED, hours=1)
    with pytest.raises(InvalidParameterError, match="no requests of 'FLStore', only of: Cache-Agg"):
        summary(price(ASKED, system="Cache-Agg"), hours=1).reductions()
    with pytest.raises(UnknownNameError, match=r"elasticache\.cache\.r6g\.large"):
        idle("Cache-Agg", hours=1, scale=Scale(node="cache.r6g.large"))
    with pytest.raises(UnknownNameError, match="Known: Cache-Agg"):
        idle("Redis", hours=1)

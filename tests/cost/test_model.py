"""Priced requests: exact by hand, and what holds for all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flstore.cost import GIB, PARTS, SYSTEMS, Scale, load_links, load_prices, price
from flstore.errors import InvalidParameterError, UnknownNameError

PRICES, LINKS = load_prices(), load_links()


def asked(bytes_moved: float = 0.0, operations: float = 0, compute_s: float = 0.0, **more: Any) -> pd.DataFrame:
    row = {"bytes_moved": bytes_moved, "operations": operations, "compute_s": compute_s, **more}
    return pd.DataFrame([row])


def one(requests: pd.DataFrame, **options: Any) -> dict[str, Any]:
    found = price(requests, **{"prices": PRICES, "links": LINKS, **options})
    return found.iloc[0].to_dict()


def test_an_aggregator_by_hand() -> None:
    # Ten GETs over eight connections: two first bytes of 0.1 s; 1.44 GB at 8 x 90 MB/s; then half a second of work.
    found = one(asked(1.44e9, 10, 0.5), system="ObjStore-Agg")
    assert found["modelled_fetch_s"] == pytest.approx(0.2 + 2.0)
    assert found["modelled_latency_s"] == pytest.approx(2.7)
    assert found["modelled_compute_usd"] == pytest.approx(2.7 * 0.922 / 3600)
    assert found["modelled_get_usd"] == pytest.approx(10 * 4e-7)
    assert found["modelled_cost_usd"] == pytest.approx(2.7 * 0.922 / 3600 + 4e-6)
    assert (found["basis"], found["link"]) == ("modelled", "s3-same-region")


def test_an_object_a_layer_waits_for_every_first_byte() -> None:
    found = one(asked(9e8, 7820, 0.0), system="ObjStore-Agg per-layer")
    assert found["modelled_fetch_s"] == pytest.approx(7820 * 0.1 + 9e8 / 90e6)


def test_a_cache_over_one_connection_by_hand() -> None:
    found = one(asked(6.25e8, 11, 1.0), system="Cache-Agg")  # eleven objects by one MGET
    assert found["modelled_latency_s"] == pytest.approx(0.0005 + 1.0 + 1.0)
    assert found["modelled_cost_usd"] == pytest.approx(2.0005 * 0.922 / 3600)


def test_a_function_is_billed_by_its_own_memory_and_once_a_request() -> None:
    found = one(asked(0, 0, 3.0, memory_bytes=2 * GIB), system="FLStore", scale=Scale(invocation_s=0.25))
    assert found["modelled_compute_usd"] == pytest.approx(3 * 2 * 0.0000166667)
    assert found["modelled_cost_usd"] == pytest.approx(6 * 0.0000166667 + 2e-7)
    assert found["modelled_latency_s"] == 3.25  # the way there and back is waited for, not billed
    unsaid = one(asked(0, 0, 3.0, memory_bytes=0), system="FLStore", scale=Scale(function_memory_bytes=8 * GIB))
    assert unsaid["modelled_compute_usd"] == pytest.approx(3 * 8 * 0.0000166667)
    tiny = one(asked(0, 0, 3.0, memory_bytes=1 << 20), system="FLStore")
    assert tiny["modelled_compute_usd"] == pytest.approx(3 / 8 * 0.0000166667)  # Lambda's smallest has 128 MB


def test_a_machine_of_ones_own_costs_nothing() -> None:
    assert one(asked(1e9, 10, 2.0), system="LocalFiles")["modelled_cost_usd"] == 0.0


def test_transfer_is_billed_by_the_gigabyte_of_the_link() -> None:
    link = LINKS["s3-same-region"]
    far = type(link)(**{**{name: getattr(link, name) for name in link.__slots__}, "transfer": "s3.transfer.internet"})
    assert one(asked(3 * GIB, 1), system="ObjStore-Agg", link=far)["modelled_transfer_usd"] == pytest.approx(3 * 0.09)


def test_other_processors_change_what_is_computed_and_nothing_else() -> None:
    slow, fast = (
        one(asked(9e8, 10, 4.0), system="ObjStore-Agg", scale=Scale(compute_factor={"ObjStore-Agg": factor}))
        for factor in (1.0, 0.25)
    )
    assert slow["modelled_compute_s"] == 4 * fast["modelled_compute_s"] == 4.0
    assert slow["modelled_fetch_s"] == fast["modelled_fetch_s"]


def test_measured_seconds_are_not_left_beside_modelled_ones() -> None:
    records = asked(
        1e6, 1, 1.0, system="FLStore", latency_s=9.0, fetch_s=8.0, queue_s=7.0, workload="clustering", hits=3
    )
    found = price(records)
    assert not {"latency_s", "fetch_s", "queue_s", "compute_s"} & set(found)
    assert found[["workload", "hits"]].iloc[0].tolist() == ["clustering", 3]
    added = set(found) - set(records) - {"link", "basis"}
    assert all(name.startswith("modelled_") for name in added)


def test_rows_of_several_systems_are_priced_each_as_its_own_and_keep_their_order() -> None:
    names = ["Cache-Agg", "FLStore", "Cache-Agg", "LocalFiles"]
    records = pd.concat([asked(1e8 * (i + 1), i + 1, 1.0, system=name) for i, name in enumerate(names)])
    records.index = [7, 3, 3, 9]
    found = price(records)
    assert found.index.tolist() == [7, 3, 3, 9]
    assert found["system"].tolist() == names
    for i, name in enumerate(names):
        alone = price(records.iloc[[i]], system=name)
        assert alone["modelled_cost_usd"].iloc[0] == found["modelled_cost_usd"].iloc[i]


def test_nothing_asked_costs_nothing() -> None:
    found = price(asked().iloc[:0], system="FLStore")
    assert len(found) == 0
    assert {"modelled_latency_s", "modelled_cost_usd", "basis"} <= set(found)


SYSTEM = st.sampled_from(sorted(SYSTEMS))
SIZE = st.floats(0, 1e12)
SECONDS = st.floats(0, 1e5)
FETCHES = st.integers(0, 10_000)


@given(SYSTEM, SIZE, SIZE, FETCHES, SECONDS)
def test_more_bytes_never_cost_less(system: str, size: float, more: float, fetches: int, seconds: float) -> None:
    small = one(asked(size, fetches, seconds), system=system)
    large = one(asked(size + more, fetches, seconds), system=system)
    assert large["modelled_cost_usd"] >= small["modelled_cost_usd"]
    assert large["modelled_latency_s"] >= small["modelled_latency_s"]
    if more > 1e6 and system != "LocalFiles":
        assert large["modelled_cost_usd"] > small["modelled_cost_usd"]


@given(SYSTEM, SIZE, FETCHES, SECONDS)
def test_the_parts_add_up_and_time_is_fetching_and_computing(
    system: str, size: float, fetches: int, seconds: float
) -> None:
    found = one(asked(size, fetches, seconds), system=system)
    assert found["modelled_cost_usd"] == pytest.approx(sum(found[name] for name in PARTS))
    assert found["modelled_latency_s"] == pytest.approx(found["modelled_fetch_s"] + found["modelled_compute_s"])
    assert min(found[name] for name in PARTS) >= 0


@pytest.mark.parametrize(
    ("requests", "options", "said"),
    [
        (asked(), {}, "no column 'system'"),
        (asked().drop(columns="operations"), {"system": "FLStore"}, "no column 'operations'; they have: bytes_moved"),
        (asked(bytes_moved=-1.0), {"system": "FLStore"}, "bytes_moved of request 0 is -1.0"),
        (asked(compute_s=np.nan), {"system": "FLStore"}, "compute_s of request 0 is nan"),
    ],
)
def test_requests_that_cannot_be_priced(requests: pd.DataFrame, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidParameterError, match=said):
        price(requests, **options)


def test_a_wrong_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean 'ObjStore-Agg'.*Cache-Agg.*FLStore"):
        price(asked(), system="ObjStoreAgg")
    with pytest.raises(UnknownNameError, match="elasticache"):
        price(asked(), system="FLStore", link="wire")
    with pytest.raises(UnknownNameError, match=r"lambda\.duration"):
        price(asked(), system="Cache-Agg", scale=Scale(instance="abacus"))
    with pytest.raises(UnknownNameError, match="FLStore"):
        Scale(compute_factor={"Redis": 2.0})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"stored_bytes": -1.0}, "stored_bytes"),
        ({"functions": -1}, "functions"),
        ({"function_memory_bytes": float("nan")}, "function_memory_bytes"),
        ({"node_copies": 0}, "node_copies"),
        ({"node_reserved": 1.0}, "node_reserved"),
        ({"compute_factor": {"FLStore": float("inf")}}, "compute_factor of FLStore"),
    ],
)
def test_an_impossible_deployment_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidParameterError, match=said):
        Scale(**wrong)

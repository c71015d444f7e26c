"""Prices and links: each has a source and a date, and a file of one's own is checked before it is used."""

from __future__ import annotations

import datetime
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from flstore.cost import SYSTEMS, load_links, load_prices
from flstore.errors import InvalidParameterError, UnknownNameError


def packaged(name: str) -> dict[str, Any]:
    return yaml.safe_load(resources.files("flstore.cost").joinpath(name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("load", [load_prices, load_links])
def test_every_entry_has_a_source_and_a_date(load: Any) -> None:
    frame = load().frame()
    assert len(frame) >= 5
    assert (frame["source"].str.len() > 10).all()
    dates = [datetime.date.fromisoformat(date) for date in frame["date"]]
    assert max(dates) <= datetime.date.today()


def test_the_prices_that_the_systems_are_billed_by_are_there() -> None:
    prices = load_prices()
    assert prices["sagemaker.ml.m5.4xlarge"].usd == 0.922
    assert (prices["lambda.duration"].usd, prices["lambda.duration"].per) == (0.0000166667, "GB-second")
    assert [node.memory_gib for node in prices.nodes()][-1] == 419.09
    assert prices["s3.put"].usd == pytest.approx(5e-6)


def test_every_link_names_prices_that_exist_and_every_system_a_link() -> None:
    prices, links = load_prices(), load_links()
    for link in links.links.values():
        assert prices.usd(link.get) >= 0
        assert prices.usd(link.transfer) >= 0
    assert {links[billing.link].name for billing in SYSTEMS.values()} <= set(links.links)
    measured = [link for link in links.links.values() if link.basis == "measured"]
    assert all("python -m benchmarks" in link.source for link in measured)
    assert measured


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean 's3\.get'.*Known: .*s3\.put.*"):
        load_prices()["s3.gets"]
    with pytest.raises(UnknownNameError, match=r"elasticache.*s3-same-region"):
        load_links()["dsl"]


def test_a_file_of_ones_own_takes_the_place_of_ours(tmp_path: Path) -> None:
    mine = packaged("prices.yaml")
    mine["prices"]["lambda.request"]["usd"] = 1.5
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(mine), encoding="utf-8")
    assert load_prices(path)["lambda.request"].usd == 1.5
    assert load_prices(path).sheet == str(path)
    assert load_prices()["lambda.request"].usd == 2e-7


def broken(name: str, *place: str, **changes: Any) -> str:
    content = packaged(name)
    at = content
    for key in place:
        at = at[key]
    for key, value in changes.items():
        if value is None:
            del at[key]
        else:
            at[key] = value
    return yaml.safe_dump(content)


@pytest.mark.parametrize(
    ("load", "text", "said"),
    [
        (load_prices, broken("prices.yaml", "prices", "s3.get", source=None), "s3.get: 'source' is a required"),
        (load_prices, broken("prices.yaml", "prices", "s3.get", date=None), "s3.get: 'date' is a required property"),
        (load_prices, broken("prices.yaml", "prices", "s3.get", usd=-1), "s3.get > usd: -1 is less than"),
        (load_prices, broken("prices.yaml", "prices", "s3.get", usd="free"), "'free' is not of type 'number'"),
        (load_prices, broken("prices.yaml", "prices", "s3.get", per="fortnight"), "'fortnight' is not one of"),
        (load_prices, broken("prices.yaml", "prices", "s3.get", date="lately"), "'lately' does not match"),
        (load_prices, broken("prices.yaml", "prices", "s3.get", euro=1), "'euro' was unexpected"),
        (load_prices, broken("prices.yaml", keep_alive=None), "the whole file: 'keep_alive' is a required property"),
        (load_prices, "- a list", "the whole file"),
        (load_prices, "a: [", "cannot be read as a YAML file"),
        (load_links, broken("links.yaml", "links", "elasticache", bandwidth_bytes_s=0), "elasticache > bandwidth"),
        (load_links, broken("links.yaml", "links", "elasticache", basis="guessed"), "'guessed' is not one of"),
        (load_links, broken("links.yaml", "links", "elasticache", latency_s=None), "'latency_s' is a required"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_said_with_its_place(load: Any, text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidParameterError) as refused:
        load(path)
    assert str(path) in str(refused.value)
    assert said in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameterError, match=r"absent\.yaml"):
        load_prices(tmp_path / "absent.yaml")


def test_a_sheet_shows_itself() -> None:
    assert "s3.get" in load_prices()._repr_html_()
    assert "elasticache" in repr(load_links())

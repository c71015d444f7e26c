"""The cache map: every update in its tier, in HTML and as text, and small whatever the store holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.display import large_store
from flstore import FLStore
from flstore.cache_map import MOST_COLUMNS, MOST_ROWS, CacheMap, Tier
from flstore.catalogue import Catalogue
from flstore.display import cache_map
from flstore.engine import State
from flstore.types import Key, Kind


def catalogue_of(rounds: dict[int, list[str]]) -> Catalogue:
    """A catalogue of these clients by round, all in the persistent store only."""
    catalogue = Catalogue("job", State())
    for number, clients in rounds.items():
        event = catalogue.ingested(Kind.UPDATE, number, dict.fromkeys(clients, 10))
        catalogue.state.register(event.keys, event.sizes)
    return catalogue


def place(catalogue: Catalogue, round: int, client: str, ready: bool) -> None:
    """Let function 0 hold an update, or be about to."""
    table = catalogue.state.table((catalogue.number, Kind.UPDATE, round))
    assert table is not None
    row = table.row(catalogue.ids.number(client))
    table.function[row], table.ready[row] = 0, ready


@pytest.fixture
def small() -> CacheMap:
    catalogue = catalogue_of({3: ["b", "a"], 5: ["a"], 9: ["a", "c"]})
    place(catalogue, 9, "a", ready=True)
    place(catalogue, 9, "c", ready=False)
    return CacheMap.of(catalogue)


def test_every_update_is_in_its_tier(small: CacheMap) -> None:
    assert small.rounds.tolist() == [[3, 3], [5, 5], [9, 9]]
    assert small.clients == 3
    stored, loading, cached, absent = Tier.STORED, Tier.LOADING, Tier.CACHED, Tier.ABSENT
    # b, a, c: in the order in which they first came
    assert small.tiers.tolist() == [[stored, absent, absent], [stored, stored, cached], [absent, absent, loading]]
    assert small.frame()["updates"].to_dict() == {"absent": 4, "stored": 3, "loading": 1, "cached": 1}


def test_html_and_text_state_the_same_facts(small: CacheMap, read: Any) -> None:
    page = read(small._repr_html_())
    drawn = dict(zip(attributes(page, "path", "class"), attributes(page, "path", "d"), strict=True))
    assert drawn == {
        "fl-stored": "M0 0h1v1h-1zM0 1h2v1h-2z", "fl-loading": "M2 2h1v1h-1z", "fl-cached": "M2 1h1v1h-1z",
    }  # fmt: skip
    assert attributes(page, "svg", "viewBox") == ["0 0 3 3"]
    for said in ("5 updates, 3 clients", "round 3", "round 9", "cached 1", "loading 1", "stored 3", "absent 4"):
        assert said in " ".join(page.words.split())
    assert repr(small).splitlines() == [
        "cache map", "  |.  |", "  |..#|", "  |  o|", "  round 3 round 9",
        "  absent ' ' 4, stored '.' 3, loading 'o' 1, cached '#' 1",
    ]  # fmt: skip
    assert "stands for several" not in page.words


def test_a_large_map_shows_the_nearest_of_what_a_cell_stands_for() -> None:
    names = [f"c{i}" for i in range(300)]
    catalogue = catalogue_of(dict.fromkeys(range(1, 502), names))
    place(catalogue, 250, "c0", ready=True)
    found = CacheMap.of(catalogue)
    assert found.tiers.shape == (MOST_ROWS, MOST_COLUMNS)
    assert found.counts.tolist() == [0, 300 * 501 - 1, 0, 1]
    ((row, column),) = np.argwhere(found.tiers == Tier.CACHED).tolist()
    assert row == 0
    first, last = found.rounds[column].tolist()
    assert first <= 250 <= last
    assert (found.rounds[0, 0], found.rounds[-1, 1]) == (1, 501)
    assert (found.rounds[1:, 0] == found.rounds[:-1, 1] + 1).all()
    shown = cache_map.drawing(found)
    assert shown is not None
    assert "stands for several and shows the nearest" in shown.caption
    assert cache_map.text(found).count("#") == 2  # one in the picture, one in the key
    assert max(map(len, cache_map.lines(found))) < 100


def test_what_functions_hold_can_be_said_from_outside() -> None:
    catalogue = catalogue_of({1: ["a", "b"]})
    found = CacheMap.of(catalogue, {Key("job", Kind.UPDATE, 1, "b"), Key("job", Kind.AGGREGATE, 1)})
    assert found.tiers.tolist() == [[Tier.STORED], [Tier.CACHED]]


def test_a_job_without_updates_says_so(read: Any) -> None:
    empty = CacheMap.of(catalogue_of({}))
    assert "no client updates yet" in read(empty._repr_html_()).words
    assert repr(empty).splitlines() == ["cache map", "  no client updates yet"]


def test_a_real_store_draws_what_its_functions_hold(read: Any) -> None:
    with FLStore.local(functions=2, memory="64MiB", root="memory://cache-map") as store:
        for number in (1, 2, 3):
            store.ingest(number, {f"c{i}": {"w": np.full(64, i + number, "f4")} for i in range(3 + number)})
            store.request("cosine_similarity", round=number)
        store.flush()
        held = [key for keys in store.inventory().values() for key in keys if key.kind is Kind.UPDATE]
        shown = store.status().cache
        assert shown is not None
        assert 0 < len(held) < 15
        assert shown.counts.tolist() == [3, 15 - len(held), 0, len(held)]
        assert f"cached {len(held)}" in " ".join(read(store._repr_html_()).words.split())
        assert f"cached '#' {len(held)}" in repr(store)
    after = store.status().cache
    assert after is not None
    assert after.counts.tolist() == [3, 15, 0, 0]


def test_a_store_of_a_thousand_rounds_shows_itself_in_under_200_kb(read: Any) -> None:
    with large_store(requests=5) as store:
        page = store._repr_html_()
    assert len(page.encode()) < 200_000
    assert "1,000 rounds, latest 1000; 200 clients" in read(page).words
    assert attributes(read(page), "svg", "viewBox") == [f"0 0 {MOST_COLUMNS} {MOST_ROWS}"]


def test_the_worst_map_stays_small() -> None:
    checkered = np.indices((MOST_ROWS, MOST_COLUMNS)).sum(axis=0) % 3 + 1
    bounds = np.stack([np.arange(MOST_COLUMNS)] * 2, axis=1)
    worst = CacheMap(bounds, MOST_ROWS, checkered.astype(np.uint8), np.array([0, 1600, 1600, 1600]))
    assert len(worst._repr_html_().encode()) < 150_000


def attributes(page: Any, tag: str, name: str) -> list[str]:
    return [value for t, n, value in page.attributes if (t, n.lower()) == (tag, name.lower())]

"""Diverse choice by similarity, against brute force over all choices and a greedy search written out."""

import itertools

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from flstore.errors import InvalidParameterError, InvalidUpdateError
from flstore.testing.workloads import check_workload
from flstore.workloads import Scope, make
from flstore.workloads.scheduling_similarity import SchedulingSimilarity


def ingest(job, rows):
    """Vectors as deltas to a model before them, in two tensors."""
    base = np.random.default_rng(1).normal(size=rows.shape[1])
    halves = rows.shape[1] // 2
    named = {
        f"{i:02}": {"a": base[:halves] + row[:halves], "b": base[halves:] + row[halves:]} for i, row in enumerate(rows)
    }
    return job.add(1, named).add(0, {}, aggregate={"a": base[:halves], "b": base[halves:]})


def coverage(similarity, chosen):
    return sum(1 + max(similarity[i, j] for j in chosen) for i in range(len(similarity)))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("count", [1, 2, 4])
def test_equals_a_greedy_search_and_is_near_the_best_of_all_choices(job, seed, count):
    rows = np.random.default_rng(seed).normal(size=(9, 30))
    result = ingest(job, rows).ask(make("scheduling_similarity", count=count), round=1)
    similarity = cosine_similarity(rows)
    expected: list[int] = []
    for _ in range(count):
        rest = [i for i in range(9) if i not in expected]
        expected.append(max(rest, key=lambda i: round(coverage(similarity, [*expected, i]), 9)))
    assert result.chosen == [f"{i:02}" for i in expected]
    best = max(coverage(similarity, chosen) for chosen in itertools.combinations(range(9), count))
    assert coverage(similarity, expected) >= (1 - 1 / np.e) * best
    np.testing.assert_allclose(result.coverage[-1], coverage(similarity, expected) / 9 - 1)
    np.testing.assert_allclose(result.similarity, similarity[:, expected].max(axis=1))
    assert result.represented_by == [f"{expected[j]:02}" for j in similarity[:, expected].argmax(axis=1)]
    assert result.of == "delta"


@pytest.mark.parametrize("seed", range(5))
def test_one_of_each_group_is_chosen(job, seed):
    random = np.random.default_rng(seed)
    groups = random.permutation(np.arange(12) % 4)
    rows = (
        5 * random.normal(size=(4, 40))[groups] * random.uniform(0.1, 10, size=(12, 1))
        + random.normal(size=(12, 40)) / 9
    )
    result = ingest(job, rows).ask(make("scheduling_similarity", count=4), round=1)
    assert sorted(groups[int(client)] for client in result.chosen) == [0, 1, 2, 3]
    assert [groups[int(client)] for client in result.represented_by] == groups.tolist()


def test_all_can_be_chosen_each_once_even_equal_ones_and_zeros(job):
    result = ingest(job, np.ones((4, 6))).ask(make("scheduling_similarity", count=4), round=1)
    assert sorted(result.chosen) == result.clients
    job.data.clear()
    result = ingest(job, np.zeros((3, 6))).ask(make("scheduling_similarity", count=3), round=1)
    assert sorted(result.chosen) == ["00", "01", "02"]


def test_a_round_with_one_client(job):
    result = ingest(job, np.ones((1, 6))).ask(make("scheduling_similarity", count=1), round=1)
    assert (result.chosen, result.represented_by, result.coverage.tolist()) == (["00"], ["00"], [1.0])


def test_updates_that_are_not_finite_are_named_and_never_chosen(job, random):
    rows = random.normal(size=(5, 20))
    rows[2, 3] = np.nan
    ingest(job, rows)
    result = job.ask(make("scheduling_similarity", count=4), round=1)
    assert (result.nonfinite, result.represented_by[2]) == (["02"], "")
    assert sorted(result.chosen) == ["00", "01", "03", "04"]
    with pytest.raises(InvalidParameterError, match="count=5, but the round has 4 clients with finite updates"):
        job.ask(make("scheduling_similarity", count=5), round=1)


def test_more_than_the_round_has_is_an_error_before_anything_is_read(job, random):
    ingest(job, random.normal(size=(3, 8)))
    with pytest.raises(InvalidParameterError, match="count=4, but the round has 3 clients"):
        make("scheduling_similarity", count=4).needs(Scope("job", round=1), job)
    for wrong in (0, -1, True, "two"):
        with pytest.raises(InvalidParameterError, match="count"):
            make("scheduling_similarity", count=wrong)


def test_architectures_that_differ_are_an_error(job):
    job.add(1, {"a": {"w": np.ones(2)}, "b": {"w": np.ones(3)}})
    with pytest.raises(InvalidUpdateError, match="differ in tensor 'w'"):
        job.ask(make("scheduling_similarity", count=1), round=1)


def test_contract():
    check_workload(SchedulingSimilarity, scopes=[{"round": 2}, {"round": 4}])
    check_workload(lambda: SchedulingSimilarity(count=5, of="model"), scopes=[{"round": 2}])


def test_frame_has_the_chosen_first_and_plot_draws(job, random):
    result = ingest(job, random.normal(size=(6, 12))).ask(make("scheduling_similarity", count=2), round=1)
    assert result.frame().index[:2].tolist() == result.chosen
    assert "represented_by" in result._repr_html_()
    assert len(result.plot().lines) >= 1

"""The best by accuracy, and Oort's choice against its algorithm written out."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from flstore.errors import InvalidParameterError, UpdateNotFoundError
from flstore.testing.sample_job import SampleJob
from flstore.testing.workloads import check_workload
from flstore.types import Kind, PolicyClass
from flstore.workloads import Scope, make
from flstore.workloads._oort import exploration_at, explore
from flstore.workloads.scheduling_performance import SchedulingPerformance
from tests.workloads import tiny

TASK = {"model": "tests.workloads.tiny:build", "data": "tests.workloads.tiny:data"}

# --- by accuracy ----------------------------------------------------------------------------------------------------


@pytest.fixture
def ingested(job):
    return job.add(1, {f"{steps:02}": tiny.trained(steps) for steps in (0, 1, 2, 5, 30)})


def accuracy(state):
    model = tiny.build()
    model.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    x, y = tiny.data()
    with torch.no_grad():
        return float((model.eval()(torch.from_numpy(x)).argmax(1).numpy() == y).mean())


def test_the_best_by_accuracy_are_chosen(ingested):
    result = ingested.ask(make("scheduling_performance", count=2, **TASK), round=1)
    expected = {f"{steps:02}": accuracy(tiny.trained(steps)) for steps in (0, 1, 2, 5, 30)}
    assert dict(zip(result.clients, result.score, strict=True)) == pytest.approx(expected)
    assert result.chosen == sorted(expected, key=lambda c: (-expected[c], c))[:2]
    assert len(set(expected.values())) >= 3
    assert Counter(result.why) == {"best": 2, "": 3}


def test_by_loss_the_lowest_is_the_best(ingested):
    result = ingested.ask(make("scheduling_performance", count=1, metric="loss", **TASK), round=1)
    assert result.chosen == ["30"]
    assert (result.score <= 0).all()


def test_updates_that_are_not_finite_are_named_and_not_chosen(ingested):
    bad = tiny.trained(30)
    bad["hidden.weight"][3, 4] = np.nan
    ingested.add(1, {"bad": bad})
    result = ingested.ask(make("scheduling_performance", count=5, **TASK), round=1)
    assert (result.nonfinite, "bad" in result.chosen) == (["bad"], False)
    with pytest.raises(
        InvalidParameterError, match="count=6, but there are 5 clients whose updates give finite outputs"
    ):
        ingested.ask(make("scheduling_performance", count=6, **TASK), round=1)


def test_an_update_of_another_architecture_is_an_error_that_names_a_tensor(ingested):
    ingested.add(1, {"odd": {"w": np.ones(3)}})
    with pytest.raises(InvalidParameterError, match="does not fit: tensor"):
        ingested.ask(make("scheduling_performance", count=1, **TASK), round=1)


def test_more_than_the_round_has(ingested):
    with pytest.raises(InvalidParameterError, match="count=6, but there are 5 clients in round 1"):
        make("scheduling_performance", count=6, **TASK).needs(Scope("job", round=1), ingested)


# --- Oort -----------------------------------------------------------------------------------------------------------


def report(examples=100, loss=1.0, duration=1.0):
    return {"num-examples": examples, "train_loss": loss, "duration_s": duration}


def ask(job, **params):
    return job.ask(make("scheduling_performance", by="oort", **params))


def utility_written_out(rows, now, preferred, penalty):
    """Algorithm 1 and the published code, one client after the other, of (round, examples, loss, seconds) of each."""
    rewards = {c: n * math.sqrt(loss**2) for c, (_, n, loss, _) in rows.items()}
    ranked = sorted(rewards.values())
    clip = ranked[min(int(len(ranked) * 0.95), len(ranked) - 1)]
    low, high = ranked[0], ranked[-1]
    scores = {}
    for client, (last, _, _, seconds) in rows.items():
        score = (min(rewards[client], clip) - low) / (high - low)
        score += math.sqrt(0.1 * math.log(now) / last)
        if preferred < seconds:
            score *= (preferred / seconds) ** penalty
        scores[client] = score
    return scores


@pytest.mark.parametrize("seed", range(10))
def test_utility_equals_the_algorithm_written_out(job, seed):
    random = np.random.default_rng(seed)
    last = {}
    for round in range(1, 9):
        for client in random.choice(20, 8, replace=False):
            row = (round, int(random.integers(1, 300)), float(random.uniform(0.1, 3)), float(random.uniform(1, 9)))
            last[f"{client:02}"] = row
            job.add(round, {}, metadata={f"{client:02}": report(*row[1:])})
    for round in range(1, 9):
        job.add(round, {"any": {"w": np.ones(1)}})
    result = ask(job, count=5, preferred_s=4.0, penalty=1.5, exploration=0)
    expected = utility_written_out(last, 9, 4.0, 1.5)
    assert result.clients == sorted(expected)
    np.testing.assert_allclose(result.score, [expected[c] for c in result.clients])
    floor = 0.95 * sorted(expected.values(), reverse=True)[4]
    assert all(expected[c] >= floor for c in result.chosen)
    assert result.details["round"] == [last[c][0] for c in result.clients]
    by_default = ask(job, count=5, exploration=0)
    durations = sorted(row[3] for row in last.values())
    usual = utility_written_out(last, 9, durations[int(0.3 * len(durations))], 2.0)
    np.testing.assert_allclose(by_default.score, [usual[c] for c in by_default.clients])


def rounds(job, *reports):
    for round, row in enumerate(reports, start=1):
        job.add(round, {"any": {"w": np.ones(1)}}, metadata=row)
    return job


def test_more_loss_and_more_examples_count_more_slow_and_fresh_ones_less(job):
    rounds(
        job,
        {"stale": report(), **{f"x{i}": report(examples=10 * i) for i in range(8)}},
        {"fresh": report(), "slow": report(duration=10), "lossy": report(loss=1.3), "more": report(examples=130)},
    )
    score = dict(zip((r := ask(job, count=1, preferred_s=2.0)).clients, r.score, strict=True))
    assert score["stale"] > score["fresh"] > score["slow"]
    assert score["lossy"] == pytest.approx(score["more"])
    assert score["more"] > score["fresh"]
    assert score["slow"] == pytest.approx(score["fresh"] * (2 / 10) ** 2)


def test_the_draw_is_by_utility_and_repeats_with_its_seed(job):
    rounds(job, {c: report(examples=e) for c, e in {"a": 200, "b": 198, "c": 196, "d": 20, "e": 10}.items()})
    chosen = [ask(job, count=1, exploration=0, seed=seed).chosen[0] for seed in range(600)]
    assert ask(job, count=1, exploration=0, seed=7).chosen == [chosen[7]]
    score = dict(zip((r := ask(job, count=1, exploration=0)).clients, r.score, strict=True))
    admitted = sorted(c for c in score if score[c] >= 0.95 * max(score.values()))
    assert len(admitted) >= 2
    counts = Counter(chosen)
    assert set(counts) == set(admitted)
    total = sum(score[c] for c in admitted)
    assert chisquare([counts[c] for c in admitted], [600 * score[c] / total for c in admitted]).pvalue > 1e-4


def test_a_share_goes_to_clients_that_have_not_reported(job):
    rounds(job, {c: report() for c in "abcdef"})
    candidates = [*"abcdef", *(f"new{i}" for i in range(9))]
    for share, explored in ((0.0, 0), (0.25, 1), (0.5, 2), (1.0, 4)):
        result = ask(job, count=4, candidates=candidates, exploration=share)
        assert sum(c.startswith("new") for c in result.chosen) == explored
        assert Counter(result.why) == Counter({"exploited": 4 - explored, "explored": explored, "": 11}) - Counter()
        assert np.isnan(result.score[result.clients.index("new0")])
    # Where too few have reported, the others make up the number.
    assert len(ask(job, count=12, candidates=candidates, exploration=0).chosen) == 12
    assert sorted(ask(job, count=6, exploration=1.0).chosen) == list("abcdef")


def test_exploration_falls_by_two_percent_a_round_down_to_a_fifth():
    assert [exploration_at(round) for round in (0, 1, 2)] == pytest.approx([0.9, 0.9, 0.882])
    assert exploration_at(500) == 0.2


def test_fast_ones_are_explored_more_often():
    random = np.random.default_rng(0)
    first = Counter(explore(np.array([1.0, 4.0, np.nan]), 1, random)[0] for _ in range(3000))
    assert chisquare([first[i] for i in range(3)], np.array([1, 0.25, 0.625]) / 1.875 * 3000).pvalue > 1e-4


def test_only_the_last_rounds_count_and_candidates_are_who_can_be_chosen(job):
    rounds(job, {"old": report()}, {"a": report(), "b": report()}, {"a": report(loss=2)})
    assert ask(job, count=2, last=2).clients == ["a", "b"]
    assert ask(job, count=1, last=2, candidates=["b", "b"]).chosen == ["b"]
    result = job.ask(make("scheduling_performance", by="oort", count=2, last=2), round=2)
    assert result.clients == ["a", "b", "old"]


def test_a_loss_that_is_not_finite_is_named_until_it_is_finite_again(job):
    rounds(job, {"a": report(), "b": report(loss=math.nan), "c": report(loss=math.inf)}, {"c": report()})
    result = ask(job, count=2)
    assert (result.nonfinite, sorted(result.chosen)) == (["b"], ["a", "c"])
    with pytest.raises(InvalidParameterError, match="count=3, but there are 2 clients that reported no loss"):
        ask(job, count=3)


def test_reports_that_lack_a_number_count_as_none(job):
    rounds(job, {"a": report(), "b": {"num-examples": 5}, "c": {"train_loss": 1.0}, "d": {"lr": 0.1}})
    result = ask(job, count=4)
    assert dict(zip(result.clients, result.why, strict=True)) == {"a": "exploited"} | dict.fromkeys("bcd", "explored")


def test_one_client_in_the_first_round(job):
    assert ask(rounds(job, {"a": report()}), count=1).chosen == ["a"]


def test_more_than_there_are_and_no_metadata(job):
    with pytest.raises(UpdateNotFoundError, match="no metadata"):
        ask(rounds(job, {}), count=1)
    rounds(job, {"a": report()})
    with pytest.raises(InvalidParameterError, match="count=2, but there are 1 clients that could be chosen"):
        ask(job, count=2)


# --- both -----------------------------------------------------------------------------------------------------------


def test_the_class_of_the_access_pattern_follows_from_the_parameter(job):
    accuracy, oort = make("scheduling_performance", **TASK), make("scheduling_performance", by="oort")
    assert (accuracy.policy_class, oort.policy_class) == (PolicyClass.P2, PolicyClass.P4)
    assert SchedulingPerformance.policy_class is PolicyClass.P2
    rounds(job, {c: report() for c in "abc"})
    assert {key.kind for key in oort.needs(Scope("job"), job)} == {Kind.METADATA}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"by": "speed"}, "by='speed' is unknown; choose one of 'accuracy', 'oort'"),
        ({}, "needs 'model', 'data'"),
        ({"model": "no path", "data": "a:b"}, "model is an import path"),
        ({**TASK, "metric": "beauty"}, "metric='beauty' is unknown"),
        ({"by": "oort", "count": 0}, "count=0 is out of range"),
        ({"by": "oort", "exploration": 1.5}, "exploration=1.5 is out of range; it must be between 0 and 1"),
        ({"by": "oort", "exploration": "all"}, "exploration is a number"),
        ({"by": "oort", "penalty": -1}, "penalty=-1 is out of range; it must be at least 0"),
        ({"by": "oort", "preferred_s": 0}, "preferred_s is a finite number above 0"),
        ({"by": "oort", "candidates": "abc"}, "candidates is a list of client ids"),
        ({"by": "oort", "last": 0}, "last=0"),
    ],
)
def test_bad_parameters(params, message):
    with pytest.raises(InvalidParameterError, match=message):
        make("scheduling_performance", **params)


def test_contract():
    sample = SampleJob("sample")
    sample.add(1, {f"{steps:02}": tiny.trained(steps) for steps in (0, 3, 9)})
    check_workload(lambda: SchedulingPerformance(count=2, **TASK), scopes=[{"round": 1}], job=sample)
    check_workload(lambda: SchedulingPerformance(by="oort"))
    check_workload(lambda: SchedulingPerformance(by="oort", candidates=["c1", "c9", "c3"]), scopes=[{"round": 3}])


def test_frame_and_plot(job):
    result = ask(rounds(job, {c: report(examples=9 * i) for i, c in enumerate("abcd", 1)}), count=2)
    assert result.frame().index[0] == "d"
    assert "exploited" in result._repr_html_()
    assert len(result.plot().patches) >= 4

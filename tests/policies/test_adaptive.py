"""The adaptive policy: near the best fixed class on the traces that were written down beforehand, and why."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.adaptive import CLASSES, hit_ratios
from benchmarks.mixed_traces import PLAN
from flstore import policies
from flstore.policies import Adaptive
from flstore.policies.ghosts import Ghosts
from flstore.policies.hedge import FixedShare
from flstore.simulator import participation_trace, replay
from flstore.types import Deleted, Feedback, KeySet, PolicyClass
from tests.engine.driver import requested
from tests.policies.held import Engine, M, U, lineage


@pytest.mark.parametrize("capacity", [None, pytest.param(200, marks=pytest.mark.slow), 60])
@pytest.mark.parametrize("trace", PLAN["traces"])
def test_it_is_never_far_below_the_best_fixed_class(trace: str, capacity: int | None):
    assert capacity in PLAN["capacities"]
    found = hit_ratios(trace, capacity, "test")
    assert found["adaptive"] >= max(found[c] for c in CLASSES) - PLAN["tolerance"]


@pytest.mark.parametrize("trace", ["drift", "restless"])
def test_it_beats_every_fixed_class_where_the_best_one_changes(trace: str):
    found = hit_ratios(trace, None, "test")
    assert found["adaptive"] > max(found[c] for c in CLASSES) + 0.03


# --- the learner ----------------------------------------------------------------------------------------------------


def learner(seed: int = 0, prior: tuple[float, ...] = (0.25,) * 4, rate: float = 0.1, drift: float = 0.01):
    return FixedShare(prior, rate, drift, random.Random(seed))


@settings(max_examples=30)
@given(seed=st.integers(0, 999), changes=st.integers(0, 3))
def test_the_weights_keep_the_regret_bound(seed: int, changes: int):
    """Against the best expert of each stretch, whatever the rewards: theorem 5.2 with this rate and drift."""
    rng = np.random.default_rng(seed)
    steps, experts, rate, drift = 400, 4, 0.2, 0.01
    cuts = np.linspace(0, steps, changes + 2).astype(int)
    mine, rewards, gained = learner(rate=rate, drift=drift), np.empty((steps, experts)), 0.0
    for start, end in pairwise(cuts):
        rewards[start:end] = rng.random((end - start, experts)) * rng.random(experts)
    for row in rewards:
        gained += float(np.dot(mine.weights, row))
        mine.reward(row.tolist())
    best = sum(rewards[start:end].sum(axis=0).max() for start, end in pairwise(cuts))
    stay, move = np.log(1 / (1 - drift)), np.log(experts / drift)
    bound = (np.log(experts) + changes * move + (steps - 1 - changes) * stay) / rate + rate * steps / 8
    assert best - gained <= bound


def test_the_expert_that_is_followed_is_distributed_as_the_weights():
    rewards = np.random.default_rng(1).random((30, 3))
    chosen, switches = np.zeros(3), 0
    for seed in range(3000):
        mine = learner(seed, prior=(0.2, 0.3, 0.5), rate=0.2)
        for row in rewards:
            switches += mine.reward(row.tolist())
        chosen[mine.chosen] += 1
    assert min(mine.weights) > 0.1 * max(mine.weights)  # else the least would not be followed at all
    assert np.abs(chosen / 3000 - mine.weights).max() < 0.04
    assert switches < 3000 * 4  # drawn anew each time it would be some 19 of 30


def test_equal_rewards_teach_nothing_and_a_hopeless_expert_is_left_at_once():
    mine = learner(prior=(1.0 - 3e-9, 1e-9, 1e-9, 1e-9), rate=5.0, drift=0.0)
    assert not mine.reward([0.7] * 4)
    assert mine.weights == [1.0 - 3e-9, 1e-9, 1e-9, 1e-9]
    assert mine.chosen == 0
    for _ in range(20):
        mine.reward([0.0, 1.0, 0.0, 0.0])
    assert mine.chosen == 1


# --- what each class would have held --------------------------------------------------------------------------------


@pytest.mark.parametrize("workload", ["clustering", "lineage", "hyperparameters", "inference"])
@pytest.mark.parametrize("ingest", ["online", "posthoc"])
@pytest.mark.parametrize("whole", [True, False], ids=["rounds", "single"])
def test_ghosts_say_what_the_classes_do(workload: str, ingest: str, whole: bool, monkeypatch: pytest.MonkeyPatch):
    """Row for row, on a trace that goes forth and back: what a ghost says is what a replay of that class finds."""
    run = participation_trace(clients=12, per_round=4, rounds=25, seed=2)
    order = np.concatenate([np.arange(1, 26), [3, 3, 4, 24, 9, 10, 25]])
    rows = run.set_index("round").loc[order].reset_index().assign(workload=workload)
    visit = np.repeat(np.arange(len(order)), 4)
    rows["request"] = visit if whole else np.arange(len(rows))
    said: list[list[float]] = []
    judge = Ghosts.shares

    def listen(self: Ghosts, event, view):
        shares = judge(self, event, view)
        said.append([share * sum(map(len, event.keys)) for share in shares])
        return shares

    monkeypatch.setattr(Ghosts, "shares", listen)
    replay(rows, "adaptive", ingest=ingest, participation=run)
    for i, policy in enumerate(["p1", "p2", "p3", "p4"]):
        outcome = replay(rows, policy, ingest=ingest, participation=run)
        hits = outcome.frame.assign(hit=outcome.frame["outcome"] == "hit").groupby("request")["hit"].sum()
        assert [round(shares[i]) for shares in said] == hits.tolist()[1:], policy  # the first request starts the stream


def test_of_large_requests_a_sample_is_looked_at():
    engine = Engine("adaptive", cursors=100_000)
    for round in (1, 2, 3):
        engine.ingest(U, round, *range(5000))
    engine.ask_round(1, *range(5000), workload="lineage")
    engine.ask_round(2, *range(2500, 5000), *range(2500), workload="lineage")
    assert isinstance(engine.policy, Adaptive)
    (_, shares, _) = next(iter(engine.policy._gains.values()))
    assert shares[2] == 1.0


# --- the policy -----------------------------------------------------------------------------------------------------


def test_a_workload_starts_with_the_class_that_it_declares_and_is_followed_to_another():
    engine = Engine("adaptive", seed=1)
    assert isinstance(engine.policy, Adaptive)
    for round in range(1, 60):
        engine.ingest(U, round, 0, 1, 2)
        if round == 2:
            assert engine.policy.classes() == {(0, "inference"): PolicyClass.P1}
        engine.ask_round(round, 0, 1, 2, workload="inference")
    assert engine.policy.classes() == {(0, "inference"): PolicyClass.P2}
    assert engine.held(U) == {59: [0, 1, 2]}  # nothing is left of what P1 wanted


def test_each_workload_of_each_job_learns_for_itself():
    engine = Engine("adaptive", seed=1)
    assert isinstance(engine.policy, Adaptive)
    for round in range(1, 50):
        for job in (0, 1):
            engine.ingest(U, round, 0, round, job=job)
        engine.ingest(M, round, 0)
        engine.ask_round(round, 0, round, workload="inference")
        engine.ask(lineage(0, 1, job=1), workload="inference")  # the same update again and again
        engine.ask_round(round, 0, workload="hyperparameters")
    found = engine.policy.classes()
    assert found[0, "inference"] is PolicyClass.P2
    assert found[1, "inference"] in (PolicyClass.P1, PolicyClass.P3)
    assert found[0, "hyperparameters"] is PolicyClass.P4
    assert engine.rounds(U, job=1)[0] == 1


def test_feedback_counts_a_request_double_or_not_at_all_and_the_last_word_counts():
    def weights(*opinions: bool) -> list[float]:
        engine = Engine("adaptive", rate=0.5, drift=0.0)
        for number in (1, 2):
            engine.ingest(U, number, 0, 1)
            engine.ask_round(number, 0, 1)
        for useful in opinions:
            engine.apply(Feedback(1, useful))  # the tests' engine numbers every request 1
        assert isinstance(engine.policy, Adaptive)
        return next(iter(engine.policy._streams.values())).learner.weights

    # P2 held all of request 2 and no other class anything: its weight grows by exp(rate * worth of a hit).
    silent, useful, useless = weights(), weights(True), weights(False)
    odds = [w[1] / w[0] for w in (useless, silent, useful)]
    assert odds[1] / odds[0] == pytest.approx(np.exp(0.5 * 0.4))
    assert odds[2] / odds[1] == pytest.approx(np.exp(0.5 * 0.4))
    assert weights(True, False, True) == pytest.approx(useful)
    assert weights(False, False) == pytest.approx(useless)


def test_feedback_can_change_what_is_held():
    """Hits of one class are praised, those of another are called useless: the same requests, another outcome."""

    def outcome(praised: bool) -> PolicyClass | None:
        engine = Engine("adaptive", seed=2, rate=2.0, drift=0.0)
        number = 0
        for round in range(1, 30):
            engine.ingest(U, round, 0, 1)
        for round in range(1, 30):
            for keys in (KeySet.of_round(0, U, round, [0, 1]), KeySet.of_round(0, U, 1, [0])):
                number += 1
                event = requested(number, keys)
                engine.apply(event)
                of_p2 = keys.rounds == round
                engine.apply(Feedback(number, useful=of_p2 == praised))
        assert isinstance(engine.policy, Adaptive)
        return engine.policy.classes()[0, "clustering"]

    assert outcome(praised=False) is PolicyClass.P1
    assert outcome(praised=True) is not PolicyClass.P1


def test_memory_gets_a_price_when_it_is_short_and_what_gains_nothing_goes():
    engine = Engine("adaptive", capacity=12, seed=1)
    assert isinstance(engine.policy, Adaptive)
    engine.ingest(M, 1, 0)
    engine.ask_round(1, 0, workload="hyperparameters")
    for round in range(2, 80):
        engine.ingest(M, round, 0)  # P4 keeps ten of these
        engine.ingest(U, round, *range(5))
        engine.ask_round(round, *range(5))
        engine.ask_round(1, 0, workload="hyperparameters")  # and is asked for none of them
    assert engine.policy.classes()[0, "hyperparameters"] is not PolicyClass.P4
    assert engine.rounds(U) == [79]


def test_its_streams_are_bounded_in_what_they_remember():
    engine = Engine("adaptive", last=3, cursors=5)
    for round in range(1, 5):
        engine.ingest(U, round, *range(50))
    for round in range(1, 5):
        engine.ask_round(round, *range(50))
    assert isinstance(engine.policy, Adaptive)
    (stream,) = engine.policy._streams.values()
    assert (len(stream.ghosts._recent), len(stream.ghosts._at)) == (3, 5)
    engine.apply(Deleted((KeySet.of_round(0, U, 4, range(50)),)))
    assert stream.ghosts._recent == {}


def test_equal_seeds_decide_equally():
    run = participation_trace(clients=20, per_round=5, rounds=40, seed=0).assign(workload="inference")
    once, again = (replay(run, policies.make("adaptive", seed=7)).frame["outcome"].tolist() for _ in range(2))
    assert once == again

"""Malicious filtering: planted faults are found, honest clients are left alone, Krum is Krum."""

import numpy as np
import pytest

from flstore.errors import InvalidParameterError
from flstore.workloads import Scope, make

SIZE = 4000
SEEDS = range(20)
FAULTS = {
    "sign flip": lambda delta, random: -delta,
    "scaled": lambda delta, random: 10 * delta,
    "shrunk": lambda delta, random: 0.05 * delta,
    "noise": lambda delta, random: random.normal(size=SIZE) * np.linalg.norm(delta) / np.sqrt(SIZE) * 3,
}


LENGTHS = {"cosine": (0.7, 1.4), "krum": (0.9, 1.1)}  # a Krum score depends on the length of a step


def honest(seed, clients=10, method="krum"):
    """Deltas that share a direction, with client drift of the same size, and steps of different lengths."""
    random = np.random.default_rng(seed)
    shared = random.normal(size=SIZE)
    deltas = [random.uniform(*LENGTHS[method]) * (shared + random.normal(size=SIZE)) for _ in range(clients)]
    return {f"{c:02}": 0.01 * delta for c, delta in enumerate(deltas)}, random


def ingest(job, deltas, seed=0):
    base = np.random.default_rng(seed).normal(size=SIZE)
    job.add(1, {c: {"w": (base + delta).astype(np.float32)} for c, delta in deltas.items()})
    return job.add(0, {}, aggregate={"w": base.astype(np.float32)})


@pytest.mark.parametrize("method", ["cosine", "krum"])
@pytest.mark.parametrize("bad", [1, 2, 3])
@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_found_and_few_honest_clients_are_flagged(job, fault, bad, method):
    wrong = 0
    for seed in SEEDS:
        deltas, random = honest(seed, method=method)
        planted = sorted(random.choice(sorted(deltas), bad, replace=False).tolist())
        deltas.update({c: FAULTS[fault](deltas[c], random) for c in planted})
        flagged = ingest(job, deltas).ask(make("malicious_filtering", method=method), round=1).flagged
        assert set(planted) <= set(flagged), (seed, flagged)
        wrong += len(flagged) - bad
    assert wrong <= 0.01 * len(SEEDS) * (10 - bad)


@pytest.mark.parametrize("method", ["cosine", "krum"])
def test_an_honest_round_is_left_alone(job, method):
    workload = make("malicious_filtering", method=method)
    results = [ingest(job, honest(seed, method=method)[0]).ask(workload, round=1) for seed in SEEDS]
    assert sum(len(result.flagged) for result in results) <= 0.01 * len(SEEDS) * 10


def test_krum_scores_and_centre_equal_brute_force(job):
    deltas, _ = honest(3, clients=9)
    result = ingest(job, deltas).ask(make("malicious_filtering", byzantine=2, method="krum"), round=1)
    base = np.random.default_rng(0).normal(size=SIZE).astype(np.float32)
    rows = np.array([u["w"] - base.astype(np.float64) for u in job.updates()])
    distances = ((rows[:, None] - rows[None, :]) ** 2).sum(axis=-1)
    krum = [np.sort(np.delete(d, i))[: 9 - 2 - 2].sum() for i, d in enumerate(distances)]
    np.testing.assert_allclose(result.krum, krum, rtol=1e-5)
    np.testing.assert_array_equal(result.score, result.krum)
    selected = np.argsort(krum)[: 9 - 2]
    centres = [rows[selected[selected != i]].mean(axis=0) for i in range(9)]
    expected = [row @ c / np.linalg.norm(row) / np.linalg.norm(c) for row, c in zip(rows, centres, strict=True)]
    np.testing.assert_allclose(result.cosine_to_centre, expected, atol=1e-5)
    assert (result.byzantine, result.of, result.method) == (2, "delta", "krum")


def test_nonfinite_updates_are_flagged_and_kept_out_of_the_others_matrix(job):
    deltas, _ = honest(1)
    ingest(job, {c: d for c, d in deltas.items() if c not in ("02", "05")})
    without = job.ask(make("malicious_filtering", byzantine=1), round=1)
    deltas["02"][7] = np.nan
    deltas["05"][:] = np.inf
    result = ingest(job, deltas).ask(make("malicious_filtering", byzantine=3), round=1)
    assert result.nonfinite == ["02", "05"]
    assert result.flagged == ["02", "05"]
    assert [r for r in result.reasons if r] == ["nonfinite", "nonfinite"]
    others = [c not in ("02", "05") for c in result.clients]
    np.testing.assert_array_equal(result.krum[others], without.krum)
    assert np.isnan(result.score[[2, 5]]).all()
    assert result.byzantine == 1


def test_reasons_say_direction_distance_or_norm(job):
    deltas, _ = honest(5)
    deltas["00"] *= -1
    deltas["01"] *= 10
    ingest(job, deltas)
    cosine = job.ask(make("malicious_filtering"), round=1)
    krum = job.ask(make("malicious_filtering", method="krum"), round=1)
    assert dict(zip(cosine.clients, cosine.reasons, strict=True)) == dict.fromkeys(deltas, "") | {
        "00": "direction", "01": "norm"
    }  # fmt: skip
    assert krum.reasons[:2] == ["distance", "distance, norm"]


@pytest.mark.parametrize("clients", [1, 2, 3])
def test_tiny_rounds_flag_nobody(job, clients):
    deltas, _ = honest(2, clients)
    deltas["00"] *= -100
    result = ingest(job, deltas).ask(make("malicious_filtering"), round=1)
    assert (result.flagged, len(result.krum)) == ([], clients)


def test_equal_updates_and_zero_updates_flag_nobody(job):
    same = np.random.default_rng(0).normal(size=SIZE) * 0.01
    for deltas in (dict.fromkeys("abcdef", same), dict.fromkeys("abcdef", 0 * same)):
        for method in ("cosine", "krum"):
            assert ingest(job, deltas).ask(make("malicious_filtering", method=method), round=1).flagged == []
        job.data.clear()


def test_byzantine_beyond_what_krum_tolerates_is_an_error_with_the_numbers(job):
    ingest(job, honest(0)[0])
    with pytest.raises(InvalidParameterError, match=r"byzantine=4 of 10 clients.*at most 3"):
        make("malicious_filtering", byzantine=4).needs(Scope("job", round=1), job)
    assert len(make("malicious_filtering", byzantine=3).needs(Scope("job", round=1), job)) == 11


def test_frame_puts_the_flagged_first_and_plot_draws(job):
    deltas, _ = honest(0)
    deltas["04"] *= -1
    result = ingest(job, deltas).ask(make("malicious_filtering"), round=1)
    table = result.frame()
    assert table.index[0] == "04"
    assert table["flagged"].tolist() == [True] + [False] * 9
    assert len(result.plot().patches) >= 10

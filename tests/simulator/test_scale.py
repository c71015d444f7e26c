"""Internet scale: a million clients on one machine."""

from __future__ import annotations

import resource

import pytest

from flstore.simulator import oort_trace, participation_trace, refl_trace, replay


def test_ten_thousand_participants_a_round_cost_one_event_a_round():
    trace = participation_trace(clients=100_000, per_round=10_000, rounds=5, seed=0)
    found = replay(trace.assign(request=trace["round"]), "tailored")
    assert (found.hits, found.misses) == (40_000, 10_000)
    assert found.resident_peak_bytes == 20_000


@pytest.mark.slow
@pytest.mark.parametrize("maker", [participation_trace, oort_trace, refl_trace])
def test_a_million_clients_and_a_hundred_rounds_fit_this_machine(maker):
    trace = maker(clients=1_000_000, per_round=10_000, rounds=120, seed=0)
    whole = trace.assign(request=trace["round"], workload="clustering")
    for policy, misses in (("tailored", 10_000), ("p4", len(trace))):
        found = replay(whole, policy, progress=False)
        assert (found.hits, found.misses) == (len(trace) - misses, misses)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 < 2 << 30

"""A live store decides by the same rules as a replay of its log: four promises, on runs with too little memory."""

import random
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flstore import FLStore, policies
from flstore.engine import EventLog, fold, step
from flstore.engine.log import Entry
from flstore.types import Drop, FunctionLost, Ingested, Load, Loaded, LoadFailed, Refused, Requested
from tests.store.conftest import fill, make_round

QUICK = ["tailored", "lru", "adaptive"]
LIVE = [name for name in policies.names() if not policies.get(name).needs_future]
SLOW = [name for name in LIVE if name not in QUICK]
POLICIES = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
# They may let go of an object in the moment in which another request is on its way to read it. The request is answered
# all the same, and the log has a LoadFailed; but these tests are about runs without failures.
ONE_BY_ONE = {"p1", "fifo", "lfu", "random", "adaptive"}


@pytest.fixture(scope="module", params=POLICIES)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A live run under capacity pressure, from two threads: its log, policy, and what the functions held at the end."""
    root = str(tmp_path_factory.mktemp("run"))
    # One update has some 8.4 kB, a round five; each function caches four rounds and a bit.
    with FLStore.local(functions=2, memory="256KiB", root=root, policy=request.param) as store:
        fill(store, range(1, 3))
        rng = random.Random(0)
        with ThreadPoolExecutor(1 if request.param in ONE_BY_ONE else 2) as threads:
            asked = []
            for r in range(3, 16):
                if request.param in ONE_BY_ONE:
                    wait(asked)
                fill(store, range(r, r + 1))
                for _ in range(4):
                    name = rng.choice(["clustering", "cosine_similarity", "lineage", "hyperparameters"])
                    at = rng.choice([r, max(1, r - 1), max(1, r - 3)])
                    scope = {"client": f"c{rng.randrange(5)}"} if name == "lineage" else {}
                    options = {"k": 2} if name == "clustering" else {}
                    asked.append(threads.submit(store.request, name, round=at, **scope, **options))
            for future in asked:
                future.result()
        store.flush()
        held = {(n, k) for n, keys in store.inventory().items() for k in keys}
        index = {
            (store._pool.functions[f].name, key)
            for f, slots in store._state.holdings().items()
            for slot, clients in slots.items()
            for key in _keys(store, slot, clients)
        }
        return store.log, request.param, held, index


def _keys(store: FLStore, slot: Any, clients: Any) -> list[Any]:
    from flstore.types import KeySet

    return store._catalogue.keys(KeySet.of_round(slot[0], slot[1], slot[2], clients))


def _actions(log: EventLog, policy: str, entries: list[Entry]) -> list[Any]:
    state, chosen = log.start(), policies.make(policy)
    return [step(state, chosen, e.event) for e in entries if not isinstance(e.event, Loaded)]


def test_the_run_was_under_pressure(run: Any) -> None:
    log, policy, _, _ = run
    actions = [a for step_actions in _actions(log, policy, log.entries) for a in step_actions]
    assert any(isinstance(a, Drop) for a in actions)
    assert sum(isinstance(a, Load) for a in actions) > 10
    if policy == "tailored":
        assert any(isinstance(a, Refused) and "no room" in a.reason for a in actions)
    assert [e.event for e in log if isinstance(e.event, FunctionLost | LoadFailed)] == []


def test_folding_the_log_gives_equal_digests(run: Any, tmp_path: Path) -> None:
    log, policy, _, _ = run
    _, differing = fold(log, policies.make(policy))
    assert differing == []
    log.save(tmp_path / "log.jsonl")
    again = EventLog.load(tmp_path / "log.jsonl")
    assert len(again) == len(log) > 50
    assert fold(again, policies.make(policy))[1] == []
    assert again.header == log.header


def test_permuting_the_reports_on_loads_changes_no_action(run: Any) -> None:
    log, policy, _, _ = run
    expected = _actions(log, policy, log.entries)
    for seed in range(5):
        rng = random.Random(seed)
        others = [e for e in log if not isinstance(e.event, Loaded)]
        reports = [e for e in log if isinstance(e.event, Loaded)]
        assert reports
        rng.shuffle(reports)
        mixed = list(others)
        for report in reports:
            mixed.insert(rng.randrange(len(mixed) + 1), report)
        state, chosen = log.start(), policies.make(policy)
        found = [(e, step(state, chosen, e.event)) for e in mixed]
        assert [a for e, a in found if not isinstance(e.event, Loaded)] == expected


def test_ingests_and_requests_alone_decide_the_same_and_the_functions_hold_it(run: Any) -> None:
    log, policy, held, index = run
    state, differing = fold(log, policies.make(policy), decisions_only=True)
    assert differing == []
    assert held == index
    whole, _ = fold(log, policies.make(policy))
    for f, slots in whole.holdings().items():
        assert {s: c.tolist() for s, c in slots.items()} == {s: c.tolist() for s, c in state.holdings()[f].items()}


def test_altering_a_decision_event_is_noticed(run: Any) -> None:
    log, policy, _, _ = run
    decisions = [i for i, e in enumerate(log) if isinstance(e.event, Ingested | Requested)]
    assert len(decisions) > 40
    for i in decisions:
        event = log.entries[i].event
        if isinstance(event, Ingested):
            altered: Any = replace(event, sizes=event.sizes + 1)
        else:
            altered = replace(event, workload=event.workload + "x")
        entries = [*log.entries[:i], replace(log.entries[i], event=altered), *log.entries[i + 1 :]]
        assert i in fold(EventLog(log.header, log.initial, entries), policies.make(policy))[1]


def test_a_reopened_root_starts_from_what_is_stored(tmp_path: Path) -> None:
    with FLStore.local(functions=1, memory="64MiB", root=str(tmp_path)) as store:
        fill(store, range(1, 4))
    with FLStore.local(functions=1, memory="64MiB", root=str(tmp_path)) as store:
        assert store.rounds() == [1, 2, 3]
        store.flush()
        held = {str(k) for keys in store.inventory().values() for k in keys}
        assert "aggregate in round 3 of job 'default'" in held
        assert store.request("hyperparameters").record.misses == 0
        store.ingest(4, make_round(4))
        store.request("clustering", round=3, k=2)
        store.flush()
        assert fold(store.log, policies.make("tailored"))[1] == []

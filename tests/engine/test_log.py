"""The log is evidence: it folds to what was decided, with or without reports on loads, and no line can be altered."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flstore import policies
from flstore.engine import EventLog, fold, step
from flstore.engine.log import Entry, digest
from flstore.engine.values import event_values
from flstore.errors import InvalidParameterError
from flstore.types import (
    Event,
    Feedback,
    FunctionJoined,
    FunctionLost,
    Ingested,
    IntArray,
    KeySet,
    Kind,
    Load,
    Loaded,
    LoadFailed,
    PolicyClass,
    Requested,
)
from tests.engine.driver import LIVE, Driver, aggregate, ingested, loads, metadata, requested, run, updates
from tests.engine.histories import drive, histories

every_policy = pytest.mark.parametrize("policy", LIVE)


@every_policy
@settings(max_examples=30)
@given(history=histories(faults=True))
def test_folding_a_log_decides_the_same(policy: str, history, tmp_path_factory: pytest.TempPathFactory):
    driver = drive(history, policy)
    state, differing = fold(driver.log, policies.make(policy))
    assert differing == []
    assert_same_holdings(state.holdings(), driver.state.holdings())

    assert driver.log.entries.kinds() == [event_values(entry.event)[0] for entry in driver.log]

    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    driver.log.save(path)
    again = EventLog.load(path)
    assert again.header == driver.log.header
    assert [e.event for e in again] == [e.event for e in driver.log]
    assert fold(again, policies.make(policy))[1] == []


@every_policy
@settings(max_examples=40)
@given(history=histories(faults=True), data=st.data())
def test_when_loads_are_done_changes_no_decision(policy: str, history, data: st.DataObject):
    """Reports come in any order and however late, or never, and what follows is decided as before."""
    driver = drive(history, policy)
    order = data.draw(st.randoms(use_true_random=False))
    entries: list[Entry] = []
    on_their_way: list[Event] = []
    state = driver.log.start()
    fresh = policies.make(policy)
    for entry in driver.log:
        if isinstance(entry.event, Loaded):
            continue
        actions = step(state, fresh, entry.event)
        entries.append(entry)
        on_their_way += [Loaded(a.function, a.keys, a.generation) for a in actions if isinstance(a, Load)]
        order.shuffle(on_their_way)
        while on_their_way and order.random() < 0.4:
            done = on_their_way.pop()
            entries.append(Entry(done, digest(done, [])))
            assert step(state, fresh, done) == []
    assert fold(EventLog(entries=entries), policies.make(policy))[1] == []
    assert_same_holdings(state.holdings(), driver.state.holdings())


@every_policy
@settings(max_examples=30)
@given(history=histories(faults=False))
def test_a_log_without_failures_is_decided_by_ingests_and_requests_alone(policy: str, history):
    driver = drive(history, policy)
    state, differing = fold(driver.log, policies.make(policy), decisions_only=True)
    assert differing == []
    assert_same_holdings(state.holdings(), driver.state.holdings())


# --- alterations ----------------------------------------------------------------------------------------------------


def one_run(policy: str = "tailored") -> EventLog:
    """A run with every kind of event, in which every policy has something to decide."""
    driver = Driver(policies.make(policy), [ingested(updates(0, 0, 1), 3)])
    driver.apply(FunctionJoined(0, 40, "a"))
    driver.apply(FunctionJoined(1, 20, "b", ((updates(0, 1), np.array([3], dtype=np.int64)),)))
    for round in range(1, 5):
        driver.apply(ingested(updates(round, 0, 1, 2), 3, 4, 5))
        driver.apply(ingested(aggregate(round), 6))
        driver.apply(ingested(metadata(round, 0, 1, 2), 1))
        actions = driver.apply(requested(3 * round, updates(round, 0, 1, 2), aggregate(round)))
        driver.apply(requested(3 * round + 1, KeySet.of_client(0, Kind.UPDATE, 1, [round]), workload="lineage"))
        driver.apply(requested(3 * round + 2, metadata(round, 2), workload="hyperparameters"))
        for (job, kind, r, c), function in loads(actions).items():
            driver.apply(Loaded(function, KeySet.of_round(job, kind, r, [c]), driver.state.generation))
        driver.apply(Feedback(3 * round, useful=round % 2 == 0))
    driver.apply(FunctionLost(1, "b"))
    driver.apply(requested(99, updates(2, 0, 1), workload="inference"))
    return driver.log


def _vector(axis: int | IntArray) -> int | IntArray:
    return axis + 1 if isinstance(axis, int) else np.concatenate([axis[:-1], axis[-1:] + 7])


def _keys(event: Event, change: Callable[[KeySet], KeySet]) -> Event:
    if isinstance(event, Requested):
        return replace(event, keys=(change(event.keys[0]), *event.keys[1:]))
    assert isinstance(event, Ingested)
    return replace(event, keys=change(event.keys))


ALTERATIONS: dict[str, tuple[type, Callable[..., Event]]] = {
    "round of an ingest": (Ingested, lambda e: _keys(e, lambda k: replace(k, rounds=_vector(k.rounds)))),
    "client of an ingest": (Ingested, lambda e: _keys(e, lambda k: replace(k, clients=_vector(k.clients)))),
    "job of an ingest": (Ingested, lambda e: _keys(e, lambda k: replace(k, job=k.job + 1))),
    "size of an ingest": (Ingested, lambda e: replace(e, sizes=np.concatenate([e.sizes[:-1], e.sizes[-1:] + 1]))),
    "round of a request": (Requested, lambda e: _keys(e, lambda k: replace(k, rounds=_vector(k.rounds)))),
    "client of a request": (Requested, lambda e: _keys(e, lambda k: replace(k, clients=_vector(k.clients)))),
    "what a request reads": (Requested, lambda e: replace(e, keys=())),
    "workload": (Requested, lambda e: replace(e, workload=e.workload + "!")),
    "class": (
        Requested,
        lambda e: replace(e, policy_class=PolicyClass.P1 if e.policy_class != "P1" else PolicyClass.P2),
    ),
    "number of a request": (Requested, lambda e: replace(e, request=e.request + 1)),
    "what feedback is about": (Feedback, lambda e: replace(e, request=e.request + 1)),
    "what feedback says": (Feedback, lambda e: replace(e, useful=not e.useful)),
    "capacity": (FunctionJoined, lambda e: replace(e, capacity_bytes=e.capacity_bytes + 1)),
    "what a function brings": (FunctionJoined, lambda e: replace(e, holds=((updates(0, 0), np.array([3])),))),
    "which function is lost": (FunctionLost, lambda e: replace(e, function=0)),
    "which incarnation is lost": (FunctionLost, lambda e: replace(e, incarnation="c")),
}


@pytest.mark.parametrize("what", ALTERATIONS)
def test_an_altered_event_is_found(what: str):
    log = one_run()
    kind, alter = ALTERATIONS[what]
    positions = [i for i, entry in enumerate(log) if isinstance(entry.event, kind)]
    assert positions
    for at in positions:
        altered = [*log.entries]
        altered[at] = Entry(alter(log.entries[at].event), log.entries[at].digest)
        assert at in fold(EventLog(log.header, log.initial, altered), policies.make("tailored"))[1], at


def test_swapped_events_are_found():
    log = one_run()
    for at in range(len(log) - 1):
        first, second = log.entries[at : at + 2]
        swapped = [*log.entries]
        swapped[at : at + 2] = [Entry(second.event, first.digest), Entry(first.event, second.digest)]
        assert fold(EventLog(log.header, log.initial, swapped), policies.make("tailored"))[1][:1] == [at]


@pytest.mark.parametrize("policy", ["p2", "lru"])
def test_swapped_lines_are_found_where_nothing_was_decided(policy: str):
    """Two ingests before anybody asked, each moved together with its digest."""
    driver = Driver(policies.make(policy))
    driver.apply(FunctionJoined(0, 40))
    driver.apply(ingested(updates(1, 0, 1), 3))
    driver.apply(ingested(updates(2, 0, 1), 3))
    joined, first, second = driver.log.entries
    swapped = EventLog(driver.log.header, [], [joined, second, first])
    assert fold(swapped, policies.make(policy))[1] != []


def test_a_removed_request_is_found_by_what_follows():
    log = one_run()
    at = next(i for i, e in enumerate(log) if isinstance(e.event, Requested))
    shorter = EventLog(log.header, log.initial, log.entries[:at] + log.entries[at + 1 :])
    assert fold(shorter, policies.make("tailored"))[1] != []


def test_another_policy_or_parameter_is_found():
    log = one_run()
    assert fold(log, policies.make("tailored"))[1] == []
    assert fold(log, policies.make("tailored", rounds=2))[1] != []
    assert fold(log, policies.make("lru"))[1] != []


def test_what_existed_before_is_part_of_the_log(tmp_path: Path):
    driver = Driver(policies.make("p2"), [ingested(updates(0, 0, 1), 3), ingested(aggregate(0), 8)])
    driver.apply(FunctionJoined(0, 40))
    assert set(loads(driver.apply(requested(1, updates(0, 1))))) == {(0, Kind.UPDATE, 0, 0), (0, Kind.UPDATE, 0, 1)}
    driver.log.save(tmp_path / "log")
    again = EventLog.load(tmp_path / "log")
    assert again.initial == driver.log.initial
    assert again.start().participations(0, 1) == [0]
    assert fold(again, policies.make("p2"))[1] == []
    assert fold(EventLog(again.header, [], again.entries), policies.make("p2"))[1] == [1]


def test_a_digest_is_the_same_everywhere():
    """A fixed event and its actions: logs written by one version are read by the next on any machine."""
    driver = Driver(policies.make("p2"))
    driver.apply(FunctionJoined(0, 100, "a"))
    driver.apply(ingested(updates(1, 0, 1), 10))
    actions = driver.apply(requested(1, updates(1, 0, 1)))
    event = driver.log.entries[-1].event
    written = driver.log.entries[-1].digest
    assert len(written) == 16
    assert int(written, 16) >= 0
    as_int32 = replace(event, keys=(KeySet(0, Kind.UPDATE, 1, np.array([0, 1], dtype=np.int32)),))
    assert digest(as_int32, actions) == digest(event, actions)


def test_requests_for_a_large_round_take_little_memory_and_nothing_that_the_garbage_collector_visits():
    def ask(log: EventLog, first: int, many: int) -> None:
        for number in range(first, first + many):
            log.append(requested(number, updates(1, *range(1000))), [])

    log = EventLog()
    ask(log, 0, 100)
    gc.collect()
    before = len(gc.get_objects())
    tracemalloc.start()
    ask(log, 100, 1000)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    gc.collect()
    assert len(gc.get_objects()) - before < 100
    assert taken < 1000 * 1000  # the ids of the clients alone would be 8,000 bytes a request
    assert log.entries[1099].event == requested(1099, updates(1, *range(1000)))


def test_hit_counts_are_no_part_of_a_digest():
    early, late = Driver(policies.make("p2")), Driver(policies.make("p2"))
    for driver in (early, late):
        driver.apply(FunctionJoined(0, 100, "a"))
        driver.apply(ingested(updates(1, 0), 10))
        driver.apply(requested(1, updates(1, 0)))
    early.apply(Loaded(0, updates(1, 0), early.state.generation))
    counts = [run(driver.apply(requested(2, updates(1, 0)))).counts for driver in (early, late)]
    assert [(c.hits, c.late_hits, c.misses) for c in counts] == [(1, 0, 0), (0, 1, 0)]
    assert early.log.entries[-1].digest == late.log.entries[-1].digest


def test_decisions_leave_out_reports_on_loads():
    driver = Driver(policies.make("p2"))
    for event in (
        FunctionJoined(0, 100),
        ingested(updates(1, 0, 1), 10),
        requested(1, updates(1, 0)),
        Loaded(0, updates(1, 0), 1),
        LoadFailed(0, updates(1, 1), "gone", 1),
        FunctionLost(0),
    ):
        driver.apply(event)
    kinds = [type(entry.event) for entry in driver.log.decisions()]
    assert kinds == [FunctionJoined, Ingested, Requested, FunctionLost]


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}\n",
        "not json\n[]\n",
        '{"format": 1}\n{"a": 1}\n[]',
        '{"format": 1}\n[]\n{"event": ["burnt", 1], "digest": ""}\n',
        '{"format": 1}\n[]\n{"digest": ""}\n',
        '{"format": 1}\n[["ingested", [0, 0, 1, 1], [3]]]\n',
        "[]\n[]\n",
    ],
)
def test_what_is_no_log_is_refused(tmp_path: Path, text: str):
    path = tmp_path / "log"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidParameterError, match="log"):
        EventLog.load(path)


def test_a_log_of_another_format_is_refused(tmp_path: Path):
    path = tmp_path / "log"
    one_run().save(path)
    first, rest = path.read_text(encoding="utf-8").split("\n", 1)
    assert '"format": 1' in first
    path.write_text(first.replace('"format": 1', '"format": 2') + "\n" + rest, encoding="utf-8")
    with pytest.raises(InvalidParameterError, match="format 1"):
        EventLog.load(path)


def test_saving_takes_nothing_from_the_log(tmp_path: Path):
    log = one_run()
    log.save(tmp_path / "once")
    log.save(tmp_path / "twice")
    assert (tmp_path / "once").read_bytes() == (tmp_path / "twice").read_bytes()
    assert len(EventLog.load(tmp_path / "twice")) == len(log)


def assert_same_holdings(found: dict, expected: dict) -> None:
    plain = [
        {f: {slot: c.tolist() for slot, c in held.items()} for f, held in side.items()} for side in (found, expected)
    ]
    assert plain[0] == plain[1]


def test_a_log_that_was_read_goes_on_where_it_ended(tmp_path: Path):
    driver = Driver(policies.make("lru"))
    driver.apply(ingested(updates(1, 0, 1), 3))
    driver.apply(FunctionJoined(0, 40))
    driver.log.save(tmp_path / "log.jsonl")
    again = EventLog.load(tmp_path / "log.jsonl")
    later = ingested(updates(2, 0, 1), 3)
    again.append(later, driver.apply(later))
    assert again.entries == driver.log.entries
    assert fold(again, policies.make("lru"))[1] == []

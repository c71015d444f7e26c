"""Who a client is: what it states, what its node stated before, its node id."""

import warnings
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.common import Code, EvaluateRes, FitRes, Parameters, Status
from flwr.serverapp.strategy import FedAvg

from flstore.errors import InvalidIdError, InvalidParameterError
from flstore.federated import LocalGrid, identify, observe
from flstore.federated.flower import CLIENT_KEY, CLIENT_RECORD
from flstore.federated.grid import FIRST_NODE_ID
from flstore.federated.identity import CLIENT_METRIC
from tests.federated.test_flower import CLIENTS, INITIAL, client_app, everyone, train


def test_one_line_says_who_a_reply_is_from():
    content = RecordDict({"metrics": MetricRecord({"loss": 0.5})})
    with LocalGrid(client_app(), 1):  # gives this process the identity that Flower asks for
        asked = Message(RecordDict(), 7, "train")
    reply = Message(content, reply_to=asked)
    assert identify(reply, "hospital-3") is reply
    assert reply.content[CLIENT_RECORD] == ConfigRecord({CLIENT_KEY: "hospital-3"})
    assert identify(content, "other")[CLIENT_RECORD][CLIENT_KEY] == "other"
    fitted = FitRes(Status(Code.OK, ""), Parameters([], ""), 1, {"loss": 0.5})
    assert identify(fitted, "hospital-3").metrics == {"loss": 0.5, CLIENT_METRIC: "hospital-3"}
    assert identify(EvaluateRes(Status(Code.OK, ""), 0.5, 1, {}), "x").metrics == {CLIENT_METRIC: "x"}
    failed = Message(Error(0, "no GPU"), reply_to=asked)
    assert identify(failed, "hospital-3") is failed


@pytest.mark.parametrize("bad", ["", "x" * 201, 7])
def test_an_id_that_cannot_be_one_is_refused_on_the_client(bad: Any):
    with pytest.raises(InvalidIdError):
        identify({}, bad)


def test_what_holds_no_id_is_refused():
    with pytest.raises(InvalidParameterError, match="list cannot say who sent it"):
        identify([], "x")


@pytest.mark.parametrize("bad", ["", "x" * 201, 7], ids=["empty", "long", "number"])
def test_a_stated_id_that_cannot_be_one_does_not_cost_the_round(bad: Any, recording_store):
    def change(client: int, round: int, content: RecordDict) -> None:
        if client == 1:
            content[CLIENT_RECORD][CLIENT_KEY] = bad

    with pytest.warns(RuntimeWarning, match="goes by its node id, not by what it says it is"):
        train(observe(recording_store, everyone()), client_app(change), rounds=1)
    recording_store.flush()
    others = {f"site-{i}" for i in range(CLIENTS) if i != 1}
    assert set(recording_store.updates(1)) == others | {str(FIRST_NODE_ID + 1)}


def test_a_node_that_said_it_once_is_known_afterwards(recording_store):
    def change(client: int, round: int, content: RecordDict) -> None:
        if round > 1:
            del content[CLIENT_RECORD]

    train(observe(recording_store, everyone()), client_app(change))
    recording_store.flush()
    for r in (1, 2, 3):
        assert sorted(recording_store.updates(r)) == sorted(recording_store.metadata(r))
        assert sorted(recording_store.updates(r)) == [f"site-{i}" for i in range(CLIENTS)]


def test_a_node_that_another_process_knew(recording_store):
    recording_store.client_of = lambda node: f"old-{int(node) - FIRST_NODE_ID}"
    train(observe(recording_store, everyone()), client_app(lambda c, r, content: content.pop(CLIENT_RECORD)), rounds=1)
    recording_store.flush()
    assert sorted(recording_store.updates(1)) == [f"old-{i}" for i in range(CLIENTS)]


def one_round(strategy: Any, replies: Any, round: int = 1) -> None:
    """Send to the nodes of a grid, and aggregate what `replies` makes of the messages."""
    with LocalGrid(client_app(), CLIENTS) as grid:
        initial = ArrayRecord({k: Array(v) for k, v in INITIAL.items()})
        sent = strategy.configure_train(round, initial, ConfigRecord({"lr": 0.1}), grid)
        answered = {m.metadata.src_node_id - FIRST_NODE_ID: m for m in grid.send_and_receive(sent)}
        strategy.aggregate_train(round, replies(answered))


def test_a_client_that_restarts_stays_the_same(recording_store):
    """Its new process has another node id; the old one, asked in the same round, does not answer."""
    strategy = observe(recording_store, everyone())
    one_round(strategy, lambda by: [by[0], by[1]])

    def restarted(by: dict[int, Message]) -> list[Message]:
        by[5].content[CLIENT_RECORD][CLIENT_KEY] = "site-0"  # node 5 is what node 0 was; node 0 is silent
        return [by[1], by[5]]

    one_round(strategy, restarted, round=2)
    recording_store.flush()
    assert sorted(recording_store.updates(2)) == ["site-0", "site-1"]
    row = recording_store.metadata(2)["site-0"]
    assert row["node_id"] == str(FIRST_NODE_ID + 5)
    assert row["error"] == f"as node {FIRST_NODE_ID}: no answer"
    assert row["num-examples"] == 6


def test_who_was_asked_and_did_not_answer(recording_store):
    strategy = observe(recording_store, everyone())
    one_round(strategy, lambda by: list(by.values()))
    one_round(strategy, lambda by: (m for i, m in by.items() if i not in (2, 4)), round=2)  # a generator
    recording_store.flush()
    rows = recording_store.metadata(2)
    assert {c: row["error"] for c, row in rows.items() if "error" in row} == {
        "site-2": "no answer",
        "site-4": "no answer",
    }
    assert rows["site-2"]["lr"] == 0.1
    assert "error" not in recording_store.metadata(1)["site-2"]


def test_a_node_that_answers_twice_is_listed(recording_store):
    strategy = observe(recording_store, everyone())
    with pytest.warns(RuntimeWarning, match="Not all of round 1"):
        one_round(strategy, lambda by: [by[0], by[0], by[1]])
    with pytest.raises(ValueError, match="answered twice in round 1; its first answer is kept"):
        recording_store.flush()
    assert sorted(recording_store.updates(1)) == ["site-0", "site-1"]
    assert [(lost.round, lost.client, lost.kind) for lost in recording_store.feeders[0].lost] == [
        (1, "site-0", "update")
    ]


def test_observed_in_the_middle_of_a_run(recording_store):
    """Between sending and aggregating: what was sent is not known, what came is."""
    strategy = everyone()
    with LocalGrid(client_app(), CLIENTS) as grid:
        initial = ArrayRecord({k: Array(v) for k, v in INITIAL.items()})
        replies = list(grid.send_and_receive(strategy.configure_train(5, initial, ConfigRecord({"lr": 0.1}), grid)))
        observe(recording_store, strategy)
        arrays, _ = strategy.aggregate_train(5, replies)
        strategy.aggregate_train(6, grid.send_and_receive(strategy.configure_train(6, arrays, ConfigRecord(), grid)))
    recording_store.flush()
    assert sorted(recording_store.aggregates()) == [5, 6]
    assert "lr" not in recording_store.metadata(5)["site-0"]
    assert "round_s" in recording_store.metadata(6)["site-0"]


def test_a_round_of_nobody(recording_store):
    strategy = everyone()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert observe(recording_store, strategy).aggregate_train(3, iter([])) == (None, None)
        assert strategy.aggregate_evaluate(3, []) is None
        recording_store.flush()
    assert recording_store.calls == []


def test_bfloat16_of_torch_is_explained_where_the_client_failed(recording_store):
    torch = pytest.importorskip("torch")

    def change(client: int, round: int, content: RecordDict) -> None:
        if client == 2:
            content["arrays"] = ArrayRecord({"w": torch.ones(2, dtype=torch.bfloat16)})

    train(observe(recording_store, everyone()), client_app(change), rounds=1)
    recording_store.flush()
    error = recording_store.metadata(1)[str(FIRST_NODE_ID + 2)]["error"]
    assert "BFloat16" in error
    assert "a torch bfloat16 tensor cannot enter a Flower message: send tensor.float()" in error


def test_other_dtypes_stay_what_they_are(recording_store):
    sent = {"h": np.array([1.5, -2], np.float16), "i": np.array([3, -4], np.int8), "n": np.array([np.nan, 1])}

    class Everything(FedAvg):
        def aggregate_train(self, server_round: int, replies: Any) -> Any:
            return None, None

    def change(client: int, round: int, content: RecordDict) -> None:
        content["arrays"] = ArrayRecord({k: Array(v) for k, v in sent.items()})

    train(observe(recording_store, everyone(Everything)), client_app(change), rounds=1)
    recording_store.flush()
    update = recording_store.updates(1)["site-0"]
    assert {k: v.dtype for k, v in update.items()} == {k: v.dtype for k, v in sent.items()}
    assert all(np.array_equal(update[k], v, equal_nan=k == "n") for k, v in sent.items())


def test_what_evaluating_clients_were_sent_and_who_of_them_failed(recording_store):
    app = client_app()
    strategy = observe(recording_store, everyone())
    with LocalGrid(app, CLIENTS) as grid:
        initial = ArrayRecord({k: Array(v) for k, v in INITIAL.items()})
        sent = strategy.configure_evaluate(1, initial, ConfigRecord({"batch-size": 8, "key": b"secret"}), grid)
        replies = list(grid.send_and_receive(sent))
        failed = Message(Error(0, "out of memory"), reply_to=sent[1])
    assert strategy.aggregate_evaluate(1, [failed, *replies[2:]]) is not None
    recording_store.flush()
    rows = recording_store.metadata(1)
    by_node = {row["node_id"]: row for row in rows.values()}
    errors = {node: row.get("eval_error") for node, row in by_node.items()}
    nodes = [str(m.metadata.dst_node_id) for m in sent]
    assert [errors[node] for node in nodes] == ["no answer", "out of memory"] + (CLIENTS - 2) * [None]
    assert all(row["eval_batch-size"] == 8 and "eval_key" not in row for row in rows.values())
    assert by_node[nodes[2]]["eval_reply_s"] >= 0
    assert recording_store.updates(1) == {}

import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.task_identity import TaskIdentity

from flstore.errors import InvalidParameterError
from flstore.federated import LocalGrid
from flstore.federated.grid import FIRST_NODE_ID


def greeter() -> ClientApp:
    app = ClientApp()

    @app.train()
    def train(message: Message, context) -> Message:
        number = context.node_config["partition-id"]
        if number == 1:
            raise ValueError("no data here")
        heard = dict(message.content["config"])
        message.content["config"]["spoilt"] = True
        context.state["seen"] = ConfigRecord({"n": context.state.config_records.get("seen", {}).get("n", 0) + 1})
        heard |= {"number": number, "of": context.node_config["num-partitions"], "n": context.state["seen"]["n"]}
        return Message(RecordDict({"heard": ConfigRecord(heard)}), reply_to=message)

    return app


def ask(grid: LocalGrid) -> list[Message]:
    content = RecordDict({"config": ConfigRecord({"x": 1}), "arrays": ArrayRecord()})  # one content for all, as FedAvg
    return list(grid.send_and_receive([Message(content, node, "train") for node in grid.get_node_ids()]))


@pytest.mark.parametrize("workers", [1, 3])
def test_clients_answer_in_order_and_errors_are_messages(workers: int):
    with LocalGrid(greeter(), clients=3, workers=workers) as grid:
        assert list(grid.get_node_ids()) == [FIRST_NODE_ID, FIRST_NODE_ID + 1, FIRST_NODE_ID + 2]
        first, second, third = ask(grid)
        again = ask(grid)
    assert dict(first.content["heard"]) == {"x": 1, "number": 0, "of": 3, "n": 1}
    assert dict(third.content["heard"]) == {"x": 1, "number": 2, "of": 3, "n": 1}
    assert second.has_error()
    assert second.error.reason == "ValueError: no data here"
    assert second.metadata.src_node_id == FIRST_NODE_ID + 1
    assert again[2].content["heard"]["n"] == 2  # a client's state stays


def test_replies_are_pulled_once_by_the_id_of_their_message():
    with LocalGrid(greeter(), clients=2) as grid:
        content = RecordDict({"config": ConfigRecord()})
        message = grid.create_message(content, "train", FIRST_NODE_ID, group_id="7")
        (sent,) = grid.push_messages([message])
        (reply,) = grid.pull_messages(["unknown", sent])
        assert reply.metadata.reply_to_message_id == sent
        assert reply.metadata.group_id == "7"
        assert grid.pull_messages([sent]) == []


def test_the_identity_is_put_back():
    with LocalGrid(greeter(), clients=1):
        TaskIdentity.task_id = 55
        inner = LocalGrid(greeter(), clients=1)
        assert TaskIdentity.task_id == 1
        inner.close()
        inner.close()
        assert TaskIdentity.task_id == 55


@pytest.mark.parametrize("bad", [{"clients": 0}, {"clients": 1, "workers": 0}])
def test_out_of_range(bad: dict):
    with pytest.raises(InvalidParameterError, match="at least 1"):
        LocalGrid(greeter(), **bad)

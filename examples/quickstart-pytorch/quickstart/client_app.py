"""quickstart: what a client does."""

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from quickstart import task

app = ClientApp()


def _receive(msg: Message, context: Context):
    net = task.Net()
    net.load_state_dict(msg.content["arrays"].to_torch_state_dict())
    batch_size = context.run_config["batch-size"]
    node = context.node_config
    return net, task.load_data(node["partition-id"], node["num-partitions"], batch_size)


@app.train()
def train(msg: Message, context: Context) -> Message:
    """Train the global model on one's own images, and send it back."""
    net, (batches, _) = _receive(msg, context)
    loss = task.train(net, batches, context.run_config["local-epochs"], msg.content["config"]["lr"])
    metrics = MetricRecord({"train_loss": loss, "num-examples": len(batches.dataset)})
    content = RecordDict({"arrays": ArrayRecord(net.state_dict()), "metrics": metrics})
    return Message(content=content, reply_to=msg)


@app.evaluate()
def evaluate(msg: Message, context: Context) -> Message:
    """Test the global model on one's own images."""
    net, (_, batches) = _receive(msg, context)
    loss, accuracy = task.test(net, batches)
    metrics = MetricRecord({"eval_loss": loss, "eval_acc": accuracy, "num-examples": len(batches.dataset)})
    return Message(content=RecordDict({"metrics": metrics}), reply_to=msg)

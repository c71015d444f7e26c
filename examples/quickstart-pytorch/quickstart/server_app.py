"""quickstart: what the server does."""

from flwr.app import ArrayRecord, ConfigRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from quickstart import task

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train for a number of rounds, and say how good the model became."""
    arrays = ArrayRecord(task.Net().state_dict())
    strategy = FedAvg(fraction_evaluate=context.run_config["fraction-evaluate"])
    result = strategy.start(
        grid=grid,
        initial_arrays=arrays,
        train_config=ConfigRecord({"lr": context.run_config["learning-rate"]}),
        num_rounds=context.run_config["num-server-rounds"],
        evaluate_fn=held_out,
    )
    print("held out:", result.evaluate_metrics_serverapp[context.run_config["num-server-rounds"]])


def held_out(server_round: int, arrays: ArrayRecord) -> MetricRecord:
    """Test the global model on images that no client has."""
    net = task.Net()
    net.load_state_dict(arrays.to_torch_state_dict())
    loss, accuracy = task.test(net, task.load_held_out())
    return MetricRecord({"accuracy": accuracy, "loss": loss})

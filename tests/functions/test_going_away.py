"""A function whose worker closes says so, whatever it was asked for: another one can do it."""

import asyncio
from pathlib import Path
from typing import Any

from distributed import Scheduler, Worker

from flstore.errors import FunctionLostError
from flstore.functions import wire
from flstore.functions.function import CacheFunction


def test_what_comes_after_the_end_is_no_error_of_the_request(tmp_path: Path) -> None:
    function = CacheFunction("test", 1 << 20, {"root": str(tmp_path), "storage_options": None})
    scope = {"job": "default", "round": 1, "client": None, "rounds": None}
    order = {"workload": "flstore.workloads.hyperparameters:Hyperparameters", "params": {}, "scope": scope}
    request = wire.pack({**order, "objects": [], "extra": []})

    async def ask_after_the_end() -> dict[str, Any]:
        scheduler = Scheduler(host="127.0.0.1", port=0, dashboard_address="127.0.0.1:0")
        async with scheduler, Worker(scheduler.address, local_directory=str(tmp_path)) as worker:
            function.setup(worker)
            before = await function.handle("run", request=request, extra=[])
            assert before["status"] == "OK", before
            await function.teardown(worker)
            return await function.handle("run", request=request, extra=[])

    error = wire.error_of(asyncio.run(ask_after_the_end()))
    assert isinstance(error, FunctionLostError)
    assert "going away" in str(error)

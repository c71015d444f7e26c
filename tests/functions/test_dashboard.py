"""The dashboard of a cluster is named when there is one."""

import asyncio

import dask
import pytest
from distributed import Scheduler
from distributed.core import ConnectionPool

from flstore.functions.dashboard import dashboard_of

ROUTES = "distributed.scheduler.http.routes"
WITHOUT_BOKEH = "distributed.http.scheduler.missing_bokeh"


async def found(**options: object) -> tuple[str, int]:
    # a scheduler that finds no bokeh for its dashboard adds a page to the list of all schedulers of its process
    with dask.config.set({ROUTES: [name for name in dask.config.get(ROUTES) if name != WITHOUT_BOKEH]}):
        async with Scheduler(host="127.0.0.1", port=0, dashboard_address="127.0.0.1:0", **options) as scheduler:
            pool = await ConnectionPool()
            try:
                return await dashboard_of(pool(scheduler.address)), scheduler.http_server.port
            finally:
                await pool.close()


def test_it_is_where_the_scheduler_serves_it():
    url, port = asyncio.run(found(dashboard=True))
    assert url == f"http://127.0.0.1:{port}/status"


def test_a_scheduler_without_one_has_none():
    with dask.config.set({ROUTES: [*dask.config.get(ROUTES), WITHOUT_BOKEH]}):  # of an earlier scheduler
        assert asyncio.run(found(dashboard=False))[0] == ""


def test_a_scheduler_that_is_gone_has_none():
    async def ask() -> str:
        pool = await ConnectionPool(timeout=0.2)
        try:
            return await dashboard_of(pool("tcp://127.0.0.1:9"))
        finally:
            await pool.close()

    assert asyncio.run(ask()) == ""


@pytest.mark.parametrize("identity", [{}, {"address": "tls://127.0.0.1:1", "services": {}}])
def test_an_answer_without_one_is_none(identity: dict):
    class Says:
        async def identity(self, n_workers: int) -> dict:
            return identity

    assert asyncio.run(dashboard_of(Says())) == ""

"""Has functions import a task's model and data when it is set, not when somebody waits for the first answer."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from flstore.errors import FLStoreError
from flstore.task import Task

if TYPE_CHECKING:
    from flstore.functions.pool import FunctionPool

_log = logging.getLogger(__name__)


def prepare(pool: FunctionPool, function: int, task: Task) -> None:
    """Begin to get a function ready for evaluations; nobody waits for it, and a request says what is wrong."""

    what = {"model": task.model, "data": task.data, "precision": task.precision}

    async def ask() -> None:
        try:
            await pool.call(function, "prepare", task=what)
        except FLStoreError as error:
            _log.info("function %s is not ready for %s: %s", function, task, error)

    asyncio.run_coroutine_threadsafe(ask(), pool.loop)

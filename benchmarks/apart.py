"""Runs each benchmark in a process of its own."""

from __future__ import annotations

import importlib
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from benchmarks.rows import Row


def run(name: str, quick: bool) -> list[Row]:
    """The rows of a benchmark. What another one left behind (threads, memory, modules) must not be measured with it."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_measure, name, quick).result()


def _measure(name: str, quick: bool) -> list[Row]:
    rows: list[Row] = importlib.import_module(f"benchmarks.{name}").run(quick=quick)
    return rows

"""What a run sets for its own time, and puts back."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def seeded_sampling(strategy: Any, seed: int) -> Iterator[None]:
    """Make Flower's choice of clients depend on the seed and the round alone.

    Flower draws from the global ``random``. Seeding it once is not enough, because other threads draw from it too (a
    Dask client, for one); so it is seeded for each choice, and put back after it.
    """
    names = ("configure_train", "configure_evaluate")
    with replaced(strategy, {name: _seeded(getattr(strategy, name), f"{seed}/{name}") for name in names}):
        yield


@contextmanager
def replies_let_go(strategy: Any) -> Iterator[None]:
    """Free the replies of a round once they are aggregated.

    Flower's loop holds them until it has the next round's, which would keep two rounds of updates in memory.
    """
    aggregate = strategy.aggregate_train

    def aggregate_train(server_round: int, replies: Any) -> Any:
        try:
            return aggregate(server_round, replies)
        finally:
            if isinstance(replies, list):
                replies.clear()

    with replaced(strategy, {"aggregate_train": aggregate_train}):
        yield


@contextmanager
def replaced(strategy: Any, methods: dict[str, Callable[..., Any]]) -> Iterator[None]:
    """Give a strategy other methods for a time."""
    before = {name: vars(strategy)[name] for name in methods if name in vars(strategy)}
    vars(strategy).update(methods)
    try:
        yield
    finally:
        for name in methods:
            del vars(strategy)[name]
        vars(strategy).update(before)


def _seeded(choose: Callable[..., Iterable[Any]], seed: str) -> Callable[..., list[Any]]:
    def configure(server_round: int, *args: Any, **kwargs: Any) -> list[Any]:
        state = random.getstate()
        random.seed(f"{seed}/{server_round}")
        try:
            return list(choose(server_round, *args, **kwargs))
        finally:
            random.setstate(state)

    return configure


@contextmanager
def quiet(least: int = logging.WARNING) -> Iterator[None]:
    """Keep Flower's log below a level to itself."""
    logger = logging.getLogger("flwr")
    level = logger.level
    logger.setLevel(least)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def one_thread() -> Iterator[None]:
    """Batches this small gain little from more threads, and lose much when other work keeps the cores busy."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

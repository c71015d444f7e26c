"""Replays request traces through the same policies and the same transition function as the live store, without Dask."""

from flstore.simulator.outcome import Outcome
from flstore.simulator.replay import replay
from flstore.simulator.traces import participation_trace

__all__ = ["Outcome", "participation_trace", "replay"]

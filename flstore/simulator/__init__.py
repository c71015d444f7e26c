"""Replays request traces through the same policies and the same transition function as the live store, without Dask.

``participation_trace``, ``oort_trace``, ``refl_trace`` and ``with_dropouts`` say who took part when; ``mixes`` makes
requests of that; ``record`` takes them from a live store, its log or a file; ``replay`` and ``sweep`` run policies on
them, and ``studies`` puts the paper's comparisons together.
"""

from flstore.simulator import mixes
from flstore.simulator.outcome import Outcome
from flstore.simulator.record import Recording, read_requests, record, replay_log
from flstore.simulator.replay import replay
from flstore.simulator.sweep import sweep
from flstore.simulator.traces import oort_trace, participation_trace, refl_trace, with_dropouts

__all__ = [
    "Outcome",
    "Recording",
    "mixes",
    "oort_trace",
    "participation_trace",
    "read_requests",
    "record",
    "refl_trace",
    "replay",
    "replay_log",
    "sweep",
    "with_dropouts",
]

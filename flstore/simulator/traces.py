"""Traces: who took part when, as DataFrames."""

from __future__ import annotations

import numpy as np
import pandas as pd

from flstore.errors import InvalidParameterError


def participation_trace(clients: int, per_round: int, rounds: int, seed: int) -> pd.DataFrame:
    """Clients drawn uniformly without replacement in each round (the trace of section 5.5).

    Parameters
    ----------
    clients : int
        Size of the pool (250 in the paper).
    per_round : int
        Participants of a round (10 in the paper).
    rounds : int
        Rounds, counted from 1 (2000 in the paper).
    seed : int
        Seed of NumPy's default generator.

    Returns
    -------
    DataFrame
        One row a participation, columns ``round`` and ``client`` (int64), by round and then by client.

    Examples
    --------
    >>> participation_trace(clients=5, per_round=2, rounds=3, seed=0).shape
    (6, 2)
    """
    if clients < 1 or rounds < 1 or not 1 <= per_round <= clients:
        raise InvalidParameterError(
            f"a trace needs rounds >= 1 and 1 <= per_round <= clients, got {rounds=}, {per_round=}, {clients=}"
        )
    rng = np.random.default_rng(seed)
    drawn = np.stack([np.sort(rng.choice(clients, size=per_round, replace=False)) for _ in range(rounds)])
    return pd.DataFrame({"round": np.repeat(np.arange(1, rounds + 1), per_round), "client": drawn.ravel()})

"""Who took part when, as DataFrames: clients drawn uniformly, as Oort or REFL select them, and with dropouts."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

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
    _check(clients, per_round, rounds)
    rng = np.random.default_rng(seed)
    return _frame([rng.choice(clients, size=per_round, replace=False) for _ in range(rounds)])


def oort_trace(
    clients: int, per_round: int, rounds: int, seed: int, skew: float = 1.0, exploration: float = 0.1
) -> pd.DataFrame:
    """Clients by utility, as Oort selects them (Lai et al., OSDI 2021): few of them take part often.

    Each client has a fixed statistical utility, log-normal with standard deviation `skew`. A share `exploration` of
    each round is drawn from those never selected; the others are drawn by utility plus Oort's bonus for having waited,
    ``sqrt(0.1 ln(round) / last selected round)``. Oort learns utilities from losses and durations; here they are given.

    Parameters
    ----------
    clients, per_round, rounds, seed
        As of :func:`participation_trace`.
    skew : float
        0 makes all clients alike.
    exploration : float
        From 0 to 1.

    Examples
    --------
    >>> often = oort_trace(clients=100, per_round=10, rounds=50, seed=0)["client"].value_counts()
    >>> bool(often.iloc[0] > 3 * often.median())
    True
    """
    _check(clients, per_round, rounds)
    if not (np.isfinite(skew) and skew >= 0) or not 0 <= exploration <= 1:
        raise InvalidParameterError(f"skew must be at least 0 and exploration from 0 to 1, got {skew=}, {exploration=}")
    rng = np.random.default_rng(seed)
    utility = rng.lognormal(sigma=skew, size=clients)
    last = np.zeros(clients, dtype=np.int64)
    chosen = []
    for round in range(1, rounds + 1):
        new = np.flatnonzero(last == 0)
        explored = rng.choice(
            new, size=min(len(new), max(int(round == 1), _share(rng, exploration, per_round))), replace=False
        )
        weight = utility + np.sqrt(0.1 * np.log(round) / np.maximum(last, 1))
        known = np.where(last > 0, np.log(weight), -np.inf)
        known[explored] = -np.inf
        if np.isfinite(known).sum() < per_round - len(explored):  # not enough are known yet
            fresh = np.setdiff1d(new, explored)
            known[fresh] = np.log(utility[fresh]) - 1e6
        exploited = _most(known + rng.gumbel(size=clients), per_round - len(explored))
        participants = np.concatenate([explored, exploited])
        last[participants] = round
        chosen.append(participants)
    return _frame(chosen)


def refl_trace(
    clients: int, per_round: int, rounds: int, seed: int, rounds_a_day: int = 100, available: float = 0.3
) -> pd.DataFrame:
    """Clients by availability, as REFL selects them (Abdelmoniem et al., EuroSys 2023): the rarely available first.

    Each client is available for one span of every day, whose length is a share of the day (a beta distribution with
    mean `available`) and whose beginning is uniform. Of those who are available, the ones with the shortest spans
    are taken, equal ones at random. A round has fewer participants when fewer are available, and is left out with none.

    Parameters
    ----------
    clients, per_round, rounds, seed
        As of :func:`participation_trace`.
    rounds_a_day : int
        How many rounds one day has.
    available : float
        Mean share of the day, above 0 and below 1.

    Examples
    --------
    >>> trace = refl_trace(clients=1000, per_round=10, rounds=100, seed=0)
    >>> 100 < trace["client"].nunique() < 250  # the rarest come first, again and again
    True
    """
    _check(clients, per_round, rounds)
    if rounds_a_day < 1 or not 0 < available < 1:
        raise InvalidParameterError(
            f"rounds_a_day must be at least 1 and available above 0 and below 1, got {rounds_a_day=}, {available=}"
        )
    rng = np.random.default_rng(seed)
    share, begins = rng.beta(2.0, 2.0 / available - 2.0, size=clients), rng.random(clients)
    chosen = []
    for round in range(rounds):
        there = np.flatnonzero((round / rounds_a_day - begins) % 1.0 < share)
        order = np.round(share[there] * rounds_a_day) + rng.random(len(there))
        chosen.append(there[_most(-order, min(per_round, len(there)))])
    return _frame(chosen)


def with_dropouts(participation: pd.DataFrame, probability: float, seed: int) -> pd.DataFrame:
    """Leave each row out with this probability: clients that were selected and sent nothing.

    Parameters
    ----------
    participation : DataFrame
        One row a (round, client).
    probability : float
        Of each row to be left out.
    seed : int
        Of the choice.

    Examples
    --------
    >>> whole = participation_trace(clients=50, per_round=10, rounds=100, seed=0)
    >>> 750 < len(with_dropouts(whole, 0.2, seed=1)) < 850
    True
    """
    if not 0 <= probability < 1:
        raise InvalidParameterError(f"probability must be at least 0 and below 1, got {probability!r}")
    stays = np.random.default_rng(seed).random(len(participation)) >= probability
    return participation[stays].reset_index(drop=True)


def _check(clients: int, per_round: int, rounds: int) -> None:
    if clients < 1 or rounds < 1 or not 1 <= per_round <= clients:
        raise InvalidParameterError(
            f"a trace needs rounds >= 1 and 1 <= per_round <= clients, got {rounds=}, {per_round=}, {clients=}"
        )


def _share(rng: np.random.Generator, share: float, of: int) -> int:
    return int(share * of + rng.random())


def _most(values: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Where the largest values are."""
    return np.argpartition(-values, count - 1)[:count] if 0 < count < len(values) else np.arange(len(values))[:count]


def _frame(rounds: list[NDArray[np.int64]]) -> pd.DataFrame:
    numbers = np.repeat(np.arange(1, len(rounds) + 1), [len(r) for r in rounds])
    return pd.DataFrame({"round": numbers, "client": np.concatenate([np.sort(r) for r in rounds]).astype(np.int64)})

"""The paper's arithmetic of capacity and cost (sections 2.2, 4.4, 4.5, 5.3 and 5.4), and where its figures disagree."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flstore.cost._yaml import Source, read
from flstore.cost.idle import HOURS_PER_MONTH, keep_alive_usd_per_hour
from flstore.cost.sheets import GIB, Prices, load_prices
from flstore.display.table import Tabular
from flstore.errors import InvalidParameterError

if TYPE_CHECKING:
    import pandas as pd

MIB, TIB = 1 << 20, 1 << 40


def stored_bytes(clients: int, rounds: int, update_bytes: float, jobs: int = 1) -> float:
    """What training leaves: one update a client and round (section 2.2). `clients` are those that take part in a round.

    Examples
    --------
    >>> round(stored_bytes(clients=100, rounds=1000, update_bytes=170.5 * MIB, jobs=100) / TIB)
    1626
    """
    _check(clients=clients, rounds=rounds, update_bytes=update_bytes, jobs=jobs)
    return jobs * clients * rounds * update_bytes


def held_bytes(clients: int, update_bytes: float, rounds: int = 2, copies: int = 1) -> float:
    """What P2 keeps in memory: the round that was asked for and the next (section 4.4), with `copies` of each (4.5).

    `clients` are those that take part in a round: the 1.2 GB of the paper are 15 updates, so not two rounds of the
    thousand clients of its example.

    Examples
    --------
    >>> round(held_bytes(clients=10, update_bytes=82.72 * MIB) / GIB, 2)
    1.62
    """
    _check(clients=clients, update_bytes=update_bytes, rounds=rounds, copies=copies)
    return copies * rounds * clients * update_bytes


def updates_for_every_hit(policy: str, lag: int, per_round: int) -> int:
    """Memory, in updates, with which a classic policy that is filled on ingest hits every request.

    For requests about each round, `lag` rounds after it came. LRU keeps what was read for as long again as it had to
    keep it for reading, FIFO does not; LFU never gets there. It is why the zero of Table 3 says more about filling on
    demand than about the policies.

    Examples
    --------
    >>> updates_for_every_hit("lru", lag=1, per_round=10), updates_for_every_hit("fifo", lag=1, per_round=10)
    (30, 20)

    Raises
    ------
    InvalidParameterError
        Of another policy nothing is known.
    """
    _check(lag=lag, per_round=per_round)
    rounds = {"lru": 2 * lag + 1, "fifo": lag + 1}
    if policy not in rounds:
        raise InvalidParameterError(f"known for {', '.join(rounds)}, got {policy!r}")
    return rounds[policy] * per_round


def functions_for(size_bytes: float, function_memory_bytes: float) -> int:
    """Functions whose memory together holds so much (section 4.4, which leaves none of it for computing).

    Examples
    --------
    >>> functions_for(10**6 * 82.72 * MIB, 8192 * MIB)
    10098
    """
    _check(size_bytes=size_bytes)
    if not function_memory_bytes > 0:
        raise InvalidParameterError(f"function_memory_bytes must be above 0, got {function_memory_bytes!r}")
    return math.ceil(size_bytes / function_memory_bytes)


def keep_alive_usd(functions: float, hours: float = HOURS_PER_MONTH, prices: Prices | Source = None) -> float:
    """Keeping functions in memory by a ping a minute (section 4.4), by default for a month.

    Examples
    --------
    >>> round(keep_alive_usd(10098), 1)
    7357.8
    """
    _check(functions=functions, hours=hours)
    return hours * keep_alive_usd_per_hour(functions, _sheet(prices))


def ping_fees_usd(functions: float, hours: float = HOURS_PER_MONTH, prices: Prices | Source = None) -> float:
    """The request fees of these pings alone: what section 4.5 counts."""
    sheet = _sheet(prices)
    _check(functions=functions, hours=hours)
    return functions * hours * sheet.pings_per_hour * sheet["lambda.request"].usd


def ingest_usd(updates: float, objects_per_update: int = 1, prices: Prices | Source = None) -> float:
    """PUTs of updates into the persistent store: one object each, or one a tensor as in the authors' artifact.

    Examples
    --------
    >>> round(ingest_usd(10_000), 2), round(ingest_usd(10_000, objects_per_update=782), 2)
    (0.05, 39.1)
    """
    _check(updates=updates, objects_per_update=objects_per_update)
    return updates * objects_per_update * _sheet(prices)["s3.put"].usd


@dataclass(frozen=True, repr=False, eq=False)
class Arithmetic(Tabular):
    """What the paper prints, and what its own inputs give.

    Attributes
    ----------
    basis : str
        ``arithmetic``: computed from printed inputs and listed prices.
    """

    basis: str
    _frame: pd.DataFrame

    def frame(self) -> pd.DataFrame:
        """One row a figure: ``printed``, ``computed``, ``ratio`` (computed over printed) and a note."""
        return self._frame


def arithmetic(prices: Prices | Source = None, assumptions: Source = None) -> Arithmetic:
    """Compute every figure of cost and capacity that the paper prints from its own inputs.

    Parameters
    ----------
    prices : Prices or path, optional
        The sheet; default that of this package.
    assumptions : path, optional
        A file in the form of ``flstore/cost/paper.yaml``; default that one.

    Raises
    ------
    InvalidParameterError
        A file is not of its form.

    Examples
    --------
    >>> found = arithmetic().frame().set_index("quantity")
    >>> int(found.loc["functions for it", "computed"])
    10098
    """
    import pandas as pd

    content, _ = read(assumptions, "paper")
    computed = _computed(content, _sheet(prices))
    rows = []
    for printed in content["printed"]["figures"]:
        value, note = computed[printed["quantity"]]
        rows.append(
            {
                "section": printed["section"], "quantity": printed["quantity"], "printed": printed["value"],
                "computed": value, "ratio": value / printed["value"], "claim": printed["claim"], "note": note,
            }
        )  # fmt: skip
    return Arithmetic("arithmetic", pd.DataFrame(rows))


def _computed(content: dict[str, Any], prices: Prices) -> dict[str, tuple[float, str]]:
    """By quantity: the figure, and what one has to know about it."""
    return {**_of_capacity(content, prices), **_of_requests(content, prices)}


def _of_capacity(content: dict[str, Any], prices: Prices) -> dict[str, tuple[float, str]]:
    setting, few, many = content["setting"], content["capacity"]["resnet101"], content["capacity"]["efficientnet"]
    update_bytes, memory_bytes = many["update_mib"] * MIB, many["function_mib"] * MIB
    everything = stored_bytes(many["clients"], many["rounds"], update_bytes)
    selected = stored_bytes(setting["clients_per_round"], many["rounds"], update_bytes)
    functions, tailored = functions_for(everything, memory_bytes), content["capacity"]["tailored_functions"]
    return {
        "data of 100 jobs x 100 clients x 1000 rounds of ResNet-101, TiB": (
            stored_bytes(few["clients"], few["rounds"], few["update_mib"] * MIB, few["jobs"]) / TIB,
            "printed as TB",
        ),
        "memory to cache everything, TiB": (
            everything / TIB,
            f"printed as TB; all {many['clients']} clients of the job upload in every round. With "
            f"{setting['clients_per_round']} a round, as in section 5.1: {selected / TIB:.2f} TiB, "
            f"{functions_for(selected, memory_bytes)} functions",
        ),
        "functions for it": (functions, "no memory is left for computing"),
        "keeping them alive, USD a month": (
            keep_alive_usd(functions, prices=prices),
            "43,200 pings of one GB-second and one request each; a function of 8 GB, billed for its whole memory, has "
            "an eighth of a second for that",
        ),
        "keeping them alive, USD an hour": (keep_alive_usd(functions, 1, prices), ""),
        "memory with tailored policies, GiB": (
            held_bytes(setting["clients_per_round"], update_bytes, setting["rounds_held"]) / GIB,
            f"{setting['rounds_held']} rounds of {setting['clients_per_round']} clients; of the {many['clients']} "
            f"clients of the same example: {held_bytes(many['clients'], update_bytes) / GIB:.0f} GiB",
        ),
        "keeping two functions alive, USD a month": (
            keep_alive_usd(tailored, prices=prices),
            "printed is one function",
        ),
        "keeping two functions alive, USD an hour": (
            keep_alive_usd(tailored, 1, prices),
            "printed is one function",
        ),
        "keeping one function alive, USD a month": (
            keep_alive_usd(1, prices=prices),
            f"printed are the request fees alone, {ping_fees_usd(1, prices=prices):.5f} USD",
        ),
        "requests to functions, USD a million": (
            1e6 * prices["lambda.request"].usd,
            "printed is about the fee of one request: a million times less",
        ),
    }


def _of_requests(content: dict[str, Any], prices: Prices) -> dict[str, tuple[float, str]]:
    seconds, usd_s = content["capacity"]["seconds"], prices["sagemaker.ml.m5.4xlarge"].usd / 3600
    mean_s = seconds["mean_saved"] / seconds["mean_saved_share"]
    reduction = content["printed"]["cost_reduction"]["ObjStore-Agg"]["value"]
    return {
        "mean cost that FLStore saves a request, USD (printed as cents)": (
            reduction * mean_s * usd_s,
            f"{reduction:.2%} of ObjStore-Agg's mean latency, {mean_s:.2f} s, at its hourly price: dollars, not cents",
        ),
        "largest cost that FLStore saves a request, USD (printed as cents)": (
            seconds["largest_saved"] / seconds["largest_saved_share"] * usd_s,
            "the longest request at the hourly price: dollars, not cents",
        ),
        "Llama inference with FLStore, USD a round": (
            seconds["llama_with"] * usd_s,
            "the aggregator's hourly price for FLStore, too: the cost row repeats the latency row",
        ),
        "Llama inference without FLStore, USD a round": (seconds["llama_without"] * usd_s, ""),
    }


def _sheet(prices: Prices | Source) -> Prices:
    return prices if isinstance(prices, Prices) else load_prices(prices)


def _check(**numbers: float) -> None:
    for name, value in numbers.items():
        if not (math.isfinite(value) and value >= 0):
            raise InvalidParameterError(f"{name} must be a finite number of at least 0, got {value!r}")

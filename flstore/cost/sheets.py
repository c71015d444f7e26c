"""Price sheets and links, by name, each with its source and date."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from flstore.cost._yaml import Source, read
from flstore.display.table import Tabular
from flstore.errors import UnknownNameError

if TYPE_CHECKING:
    import pandas as pd

GIB = 1 << 30
"""What a GB is on AWS's bills."""


@dataclass(frozen=True, slots=True)
class Price:
    """One price.

    Attributes
    ----------
    name : str
        How it is called here.
    usd : float
        US dollars.
    per : str
        ``hour``, ``GB-second``, ``request``, ``GB-month`` or ``GB``; a GB is 2**30 bytes.
    source : str
        Where it was found.
    date : str
        The day on which the source was read, or that it bears.
    memory_gib : float or None
        Memory of what is billed by the hour, where it matters.
    """

    name: str
    usd: float
    per: str
    source: str
    date: str
    memory_gib: float | None = None


@dataclass(frozen=True, repr=False)
class Prices(Tabular):
    """A price sheet; ``prices["s3.get"].usd`` is a price.

    Attributes
    ----------
    sheet : str
        The file that it came from.
    region : str
        Where the prices hold.
    prices : mapping of str to Price
        By name.
    pings_per_hour, gb_seconds_per_ping : float
        How functions are kept alive, and what one ping is billed.
    """

    sheet: str
    region: str
    prices: Mapping[str, Price]
    pings_per_hour: float
    gb_seconds_per_ping: float

    def __getitem__(self, name: str) -> Price:
        if name not in self.prices:
            raise UnknownNameError.of(f"price in {self.sheet}", name, self.prices)
        return self.prices[name]

    def usd(self, name: str | None) -> float:
        """A price by name; nothing for None."""
        return 0.0 if name is None else self[name].usd

    def nodes(self) -> list[Price]:
        """Nodes of a cache cluster, by memory."""
        found = [p for p in self.prices.values() if p.name.startswith("elasticache.") and p.memory_gib is not None]
        return sorted(found, key=lambda price: price.memory_gib or 0.0)

    def frame(self) -> pd.DataFrame:
        """One row a price."""
        return _frame(self.prices.values())


@dataclass(frozen=True, slots=True)
class Link:
    """What data crosses between where it rests and where it is computed on.

    Attributes
    ----------
    name : str
        How it is called here.
    latency_s : float
        Until the first byte of a fetch arrives.
    bandwidth_bytes_s, connection_bytes_s : float
        Of all connections together, and of one.
    get, transfer : str or None
        Names of the prices of a fetch and of a GB; None where nothing is billed.
    basis : str
        ``measured`` (the source is the command), ``documented`` or ``assumed``.
    source, date : str
        Where the figures come from, and from when.
    """

    name: str
    latency_s: float
    bandwidth_bytes_s: float
    connection_bytes_s: float
    get: str | None
    transfer: str | None
    basis: str
    source: str
    date: str


@dataclass(frozen=True, repr=False)
class Links(Tabular):
    """Links by name: ``links["elasticache"]``.

    Attributes
    ----------
    sheet : str
        The file that they came from.
    links : mapping of str to Link
        By name.
    """

    sheet: str
    links: Mapping[str, Link]

    def __getitem__(self, name: str) -> Link:
        if name not in self.links:
            raise UnknownNameError.of(f"link in {self.sheet}", name, self.links)
        return self.links[name]

    def frame(self) -> pd.DataFrame:
        """One row a link."""
        return _frame(self.links.values())


def load_prices(path: Source = None) -> Prices:
    """Read a price sheet.

    Parameters
    ----------
    path : path, optional
        A file of one's own, in the form of ``flstore/cost/prices.yaml``; default that one.

    Raises
    ------
    InvalidParameterError
        The file cannot be read, or lacks something; says what and where.

    Examples
    --------
    >>> load_prices()["lambda.request"].usd
    2e-07
    """
    content, name = read(path, "prices")
    alive = content["keep_alive"]
    return Prices(
        name,
        content["region"],
        {key: Price(key, **values) for key, values in content["prices"].items()},
        float(alive["pings_per_hour"]),
        float(alive["gb_seconds_per_ping"]),
    )


def load_links(path: Source = None) -> Links:
    """Read links.

    Parameters
    ----------
    path : path, optional
        A file of one's own, in the form of ``flstore/cost/links.yaml``; default that one.

    Raises
    ------
    InvalidParameterError
        The file cannot be read, or lacks something; says what and where.

    Examples
    --------
    >>> load_links()["elasticache"].basis
    'documented'
    """
    content, name = read(path, "links")
    return Links(name, {key: Link(key, **values) for key, values in content["links"].items()})


def _frame(rows: Iterable[Any]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame([asdict(row) for row in rows]).set_index("name")

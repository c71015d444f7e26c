"""How the answer to a request looks, and the receipt of an ingest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flstore.display.facts import Sheet
from flstore.display.table import view
from flstore.display.words import count, milliseconds, printable, size, some

if TYPE_CHECKING:
    from flstore.engine import RequestRecord
    from flstore.results import Receipt, Result


def html(result: Result) -> str:
    """A result for a notebook: how it was answered, and the first rows of the answer."""
    return _sheet(result).html()


def text(result: Result) -> str:
    """The same facts for a terminal."""
    return _sheet(result).text()


def receipt_html(receipt: Receipt) -> str:
    """A receipt for a notebook."""
    return _receipt(receipt).html()


def receipt_text(receipt: Receipt) -> str:
    """The same facts for a terminal."""
    return _receipt(receipt).text()


def record_pairs(record: RequestRecord) -> list[tuple[str, str]]:
    """What a record says of a request, as labels and values."""
    objects = count(record.hits, "hit"), count(record.late_hits, "late hit"), count(record.misses, "miss")
    return [
        ("about", _about(record)),
        ("class", printable(record.policy_class)),
        ("system", printable(record.system)),
        ("functions", some(record.functions)),
        ("objects", ", ".join(objects)),
        ("moved", size(record.bytes_moved)),
        ("fetch", milliseconds(record.fetch_s)),
        ("queue", milliseconds(record.queue_s)),
        ("compute", milliseconds(record.compute_s)),
        ("latency", milliseconds(record.latency_s)),
    ]


def _sheet(result: Result) -> Sheet:
    record = result.record
    title = f"Result of {printable(record.workload)}"
    return Sheet(title, record_pairs(record), printable(record.error), view(result.value))


def _about(record: RequestRecord) -> str:
    parts = [
        f"job {record.job}",
        "" if record.round is None else f"round {record.round}",
        "" if record.client is None else f"client {record.client}",
    ]
    return printable(", ".join(part for part in parts if part))


def _receipt(receipt: Receipt) -> Sheet:
    pairs = [
        ("new updates", f"{len(receipt.clients):,}"),
        ("clients", some(receipt.clients)),
        ("size", size(receipt.size_bytes)),
        ("durable", "yes" if receipt.durable else "not yet"),
    ]
    return Sheet(f"Ingested into round {receipt.round}", pairs)

"""How a caching policy looks."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from flstore.display.facts import Sheet
from flstore.display.words import percent, printable, shorten

if TYPE_CHECKING:
    from flstore.policies.base import Policy

_UNKNOWN = object()


def html(policy: Policy) -> str:
    """A policy for a notebook: what it keeps, in a line, and its parameters."""
    return _sheet(policy).html()


def text(policy: Policy) -> str:
    """The same facts for a terminal."""
    return _sheet(policy).text()


def _sheet(policy: Policy) -> Sheet:
    cls = type(policy)
    pairs = [("keeps", _first_line(cls))]
    for name in inspect.signature(cls).parameters:
        value: Any = getattr(policy, name, getattr(policy, f"_{name}", _UNKNOWN))
        if value is not _UNKNOWN:
            pairs.append((name, shorten(printable(str(value)), 200)))
    if policy.share < 1 and "share" not in dict(pairs):
        pairs.append(("share", f"{percent(policy.share)} of each function's memory"))
    if policy.needs_future:
        pairs.append(("needs", "the requests to come, so only a replay can use it"))
    return Sheet(f"Policy {printable(getattr(cls, 'name', cls.__name__))}", pairs)


def _first_line(cls: type) -> str:
    said = (inspect.getdoc(cls) or "").partition("\n\n")[0]
    return printable(" ".join(said.split())) or "-"

"""What other processes are told to do with a store."""

from __future__ import annotations

from typing import Any

from flstore.testing.other import Other, OtherError

__all__ = ["FILL", "Other", "OtherError", "opened"]


def opened(root: str, **options: Any) -> str:
    """Code that opens a store there."""
    options = {"functions": 1, "memory": "64MiB", "root": root, **options}
    return f"from flstore import FLStore\nstore = FLStore.local(**{options!r})"


FILL = "from tests.store.conftest import fill, make_round\nfill(store, range({}, {}))"

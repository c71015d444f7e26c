"""Messages without secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_SECRET = re.compile(r"key|secret|token|pass|credential|sas|account|auth", re.IGNORECASE)
_USERINFO = re.compile(r"(?<=://)[^/\s]*@")


class Redaction:
    """Replaces the secrets of storage options, and the user part of URLs, in a text."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._secrets = sorted(set(_secrets(options, named=False)), key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return _USERINFO.sub("", text)

    def __repr__(self) -> str:
        return f"<Redaction of {len(self._secrets)} secrets>"


def _secrets(value: Any, named: bool) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _secrets(item, named or bool(_SECRET.search(str(name))))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _secrets(item, named)
    # Replacing one or two letters would leave no message readable.
    elif named and isinstance(value, str) and len(value) > 2:
        yield value

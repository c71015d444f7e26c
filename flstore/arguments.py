"""What is written on a command line, as values: storage options, parameters, rounds."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from flstore.errors import InvalidParameterError

OPTIONS = "FLSTORE_STORAGE_OPTIONS"
"""Environment variable with storage options as a JSON object: other users of the machine cannot see it."""
_ROUNDS = re.compile(r"(\d+)(?:-(\d+))?")
_MOST_ROUNDS = 1_000_000


def pairs(what: str, given: Iterable[str]) -> dict[str, Any]:
    """``NAME=VALUE`` texts as a dict; a value that is JSON is what it says, any other is a text.

    Parameters
    ----------
    what : str
        The option that they were given with. Messages do not repeat what was given: it may be a secret.
    given : iterable of str
        The texts.

    Raises
    ------
    InvalidParameterError
        One has no name or no ``=``.

    Examples
    --------
    >>> pairs("--param", ["k=3", "of=delta", "layers=[0, 1]", "name=null"])
    {'k': 3, 'of': 'delta', 'layers': [0, 1], 'name': None}
    """
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise InvalidParameterError(f"{what} takes NAME=VALUE, such as {what} k=3; one that was given is not so")
        try:
            found[name.strip()] = json.loads(value)
        except ValueError:
            found[name.strip()] = value
    return found


def storage_options(given: Iterable[str], environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Storage options of the environment, with those of the command line in their place.

    Raises
    ------
    InvalidParameterError
        The environment variable holds no JSON object, or an option is not NAME=VALUE.
    """
    try:
        options = json.loads(environment.get(OPTIONS) or "{}")
    except ValueError:
        options = None
    if not isinstance(options, dict):
        raise InvalidParameterError(f'{OPTIONS} must be a JSON object, such as {{"key": "...", "secret": "..."}}')
    return {**options, **pairs("--option", given)}


def rounds(text: str | None) -> list[int] | None:
    """Rounds and ranges of rounds, separated by commas.

    Examples
    --------
    >>> rounds("1-3,7")
    [1, 2, 3, 7]
    """
    if text is None:
        return None
    found: list[int] = []
    for part in text.split(","):
        match = _ROUNDS.fullmatch(part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not 0 <= last - first < _MOST_ROUNDS:
            raise InvalidParameterError(f"--rounds takes rounds and ranges like 1,4-6, got {text!r}")
        found += range(first, last + 1)
    return found

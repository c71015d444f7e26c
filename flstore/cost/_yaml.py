"""YAML in, checked values out; what is wrong is said with the file and the place."""

from __future__ import annotations

import datetime
import os
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from flstore.errors import InvalidParameterError

Source = str | os.PathLike[str] | None


def read(path: Source, default: str) -> tuple[dict[str, Any], str]:
    """The checked content of a file, and its name.

    Parameters
    ----------
    path : path or None
        The file of a user; None for the one in this package.
    default : str
        Name of the file in this package, without ``.yaml``; the schema is beside it, as ``<default>.schema.yaml``.

    Raises
    ------
    InvalidParameterError
        The file cannot be read, is no YAML, or is not of the form that the schema asks for.
    """
    import yaml

    name = f"{default}.yaml" if path is None else os.fspath(path)
    try:
        text = _packaged(name) if path is None else Path(path).read_text(encoding="utf-8")
        content = _plain(yaml.safe_load(text))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidParameterError(f"{name} cannot be read as a YAML file: {error}") from None
    _check(content, default, name)
    return content, name


def _check(content: Any, default: str, name: str) -> None:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    error = best_match(Draft202012Validator(_schema(default)).iter_errors(content))
    if error is not None:
        place = " > ".join(map(str, error.absolute_path)) or "the whole file"
        raise InvalidParameterError(
            f"{name}, {place}: {error.message}. The form is that of flstore/cost/{default}.yaml"
        )


@cache
def _schema(default: str) -> Any:
    import yaml

    return yaml.safe_load(_packaged(f"{default}.schema.yaml"))


def _packaged(name: str) -> str:
    return resources.files("flstore.cost").joinpath(name).read_text(encoding="utf-8")


def _plain(value: Any) -> Any:
    """YAML reads a bare date as a date; all else here is plain."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.isoformat() if isinstance(value, datetime.date) else value

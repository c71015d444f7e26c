"""What can happen to an object's file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flstore.errors import InvalidParameterError, UpdateNotFoundError
from flstore.persistence import object_path
from flstore.types import Key


def tear(root: str | os.PathLike[str], key: Key, keep: float = 0.5) -> int:
    """Truncate an object's file to the share `keep` of its bytes; returns how many are left.

    Parameters
    ----------
    root : str or path
        Of the persistent store, on this machine.
    key : Key
        The object.
    keep : float
        The share that is left.

    Raises
    ------
    InvalidParameterError
        `root` is not on this machine, or `keep` is outside [0, 1).
    UpdateNotFoundError
        There is no such object.
    """
    if not 0 <= keep < 1:
        raise InvalidParameterError(f"keep={keep} is outside [0, 1)")
    path = _file(root, key)
    size = int(path.stat().st_size * keep)
    os.truncate(path, size)
    return size


def corrupt(root: str | os.PathLike[str], key: Key, at: int | None = None) -> int:
    """Invert one byte of an object's file, by default the last; returns its position. Raises as :func:`tear`.

    Parameters
    ----------
    root : str or path
        Of the persistent store, on this machine.
    key : Key
        The object.
    at : int, optional
        Position of the byte.
    """
    path = _file(root, key)
    size = path.stat().st_size
    position = size - 1 if at is None else at
    if not 0 <= position < size:
        raise InvalidParameterError(f"at={at} is outside the {size} bytes of {key}")
    with open(path, "r+b") as file:
        file.seek(position)
        (byte,) = file.read(1)
        file.seek(position)
        file.write(bytes([byte ^ 0xFF]))
    return position


def lose(root: str | os.PathLike[str], key: Key) -> None:
    """Delete an object's file. Raises as :func:`tear`.

    Parameters
    ----------
    root : str or path
        Of the persistent store, on this machine.
    key : Key
        The object.
    """
    _file(root, key).unlink()


def _file(root: str | os.PathLike[str], key: Key) -> Path:
    folder = os.fspath(root)
    for prefix in ("file://", "faulty://"):
        folder = folder.removeprefix(prefix)
    if "://" in folder:
        raise InvalidParameterError(f"{folder} is not on this machine; files can be damaged below a local root only")
    path = Path(folder, object_path(key))
    if not path.is_file():
        raise UpdateNotFoundError(f"there is no {key} below {folder}; flush the store before you damage its files")
    return path


@contextmanager
def restored(root: str, key: Key, damage: Callable[[str, Key], object]) -> Iterator[None]:
    path = _file(root, key)
    whole = path.read_bytes()
    damage(root, key)
    try:
        yield
    finally:
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_bytes(whole)
        os.replace(temporary, path)

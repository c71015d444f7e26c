"""One object a tensor, as the authors' artifact stores them: files below a root that are written and read in pieces.

What :class:`~flstore.persistence.ObjectStore` knows as ``client=7.safetensors`` is a folder ``client=7.layers`` with
one object for each tensor and a small one, ``head``, which is the beginning of that very file: names, types, shapes and
the checksum over all of it. The head is written last and deleted first, so what has a head is whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from flstore.baselines.forwarding import Forwarding
from flstore.codec import Header, checksum_of
from flstore.errors import CorruptObjectError
from flstore.persistence.layout import parse_path
from flstore.tensors import Buffer, aligned_empty, as_bytes

SUFFIX = ".safetensors"
FOLDER = ".layers"
_PIECE = re.compile(r"(.+)\.layers/(head|[0-9a-f]{32}/[0-9]{5,})")


class LayeredFiles(Forwarding):
    """Files of which each ``.safetensors`` lies in pieces, fetched one after the other; all others are as they are.

    Tensors lie in a folder named by the checksum of their update: of two that race for one name, neither writes over
    what the other wrote.
    """

    def create(self, path: str, data: Buffer) -> None:
        if path.endswith(SUFFIX):
            self.inner.create(head_path(path), self._write_tensors(path, data))
        else:
            self.inner.create(path, data)

    def replace(self, path: str, data: Buffer) -> None:
        if not path.endswith(SUFFIX):
            self.inner.replace(path, data)
            return
        before = self.inner.files(_folder(path), hidden=True)
        head = self._write_tensors(path, data)
        self.inner.replace(head_path(path), head)
        mine = "" if as_bytes(head).nbytes == as_bytes(data).nbytes else checksum_of(head)
        stale = [name for name in before if name != "head" and name.partition("/")[0] != mine]
        self.inner.remove_all([f"{_folder(path)}/{name}" for name in stale])

    def _write_tensors(self, path: str, data: Buffer) -> Buffer:
        """Write each tensor; returns the head, which is all of it for what is no object of ours."""
        view = as_bytes(data)
        header = _header(path, view)
        if header is None:
            return view
        for name, begin, end in _pieces(path, header):
            self.inner.replace(name, view[begin:end])
        return view[: header.start]

    def read(self, path: str, size: int | None = None, start: int = 0) -> Buffer:
        if not path.endswith(SUFFIX):
            return self.inner.read(path, size, start)
        if size is not None and start == 0:
            some = self.inner.read(head_path(path), size)
            if as_bytes(some).nbytes == size:
                return some
        whole = as_bytes(self._read_whole(path))
        return whole if size is None else whole[start : start + size]

    def _read_whole(self, path: str) -> Buffer:
        head = as_bytes(self.inner.read(head_path(path)))
        header = _header(path, head)
        if header is None:  # whoever decodes it says what is wrong
            return head
        whole = aligned_empty(header.end)
        whole[: header.start] = np.frombuffer(head, np.uint8)
        names = [name for name, field in header.fields.items() if field.end > field.begin]
        for tensor, (name, begin, end) in zip(names, _pieces(path, header), strict=True):
            try:
                piece = np.frombuffer(as_bytes(self.inner.read(name)), np.uint8)
            except FileNotFoundError as error:
                raise CorruptObjectError(
                    f"{path}: the object {name} of its tensor {tensor!r} is gone; restore it from a backup, or delete "
                    f"the whole {parse_path(path)}"
                ) from error
            if piece.nbytes != end - begin:
                raise CorruptObjectError(
                    f"{path}: the object {name} of its tensor {tensor!r} has {piece.nbytes} of {end - begin} bytes"
                )
            np.copyto(whole[begin:end], piece)
        return whole.data.toreadonly()

    def exists(self, path: str) -> bool:
        return self.inner.exists(head_path(path) if path.endswith(SUFFIX) else path)

    def remove(self, path: str) -> None:
        if not path.endswith(SUFFIX):
            self.inner.remove(path)
        elif not self.remove_all([path]):
            raise FileNotFoundError(path)

    def remove_all(self, paths: Iterable[str]) -> dict[str, int]:
        paths = list(paths)
        removed = self.inner.remove_all(paths)  # also updates of another job that lie in one piece
        for path in [path for path in paths if path.endswith(SUFFIX)]:
            pieces = [f"{_folder(path)}/{name}" for name in self.inner.files(_folder(path), hidden=True)]
            if pieces:
                size = sum(self.inner.remove_all([head_path(path)]).values())
                size += sum(self.inner.remove_all([piece for piece in pieces if piece != head_path(path)]).values())
                removed[path] = removed.get(path, 0) + size
            for folder in {piece.rpartition("/")[0] for piece in pieces}:
                self.inner.prune(folder)
        return removed

    def files(self, path: str, *, hidden: bool = False) -> dict[str, int]:
        found, pieces = self._sorted(path, hidden)
        for stem, sizes in pieces.items():
            if "head" in sizes:
                found[stem + SUFFIX] = self._size(f"{path}/{stem}" if path else stem, sizes)
            elif hidden:
                found.update({f"{stem}{FOLDER}/{name}": size for name, size in sizes.items()})
        return found

    def temporaries(self, path: str) -> dict[str, float]:
        """Also tensors without a head, of a writer that was killed; nobody knows for how long."""
        _, pieces = self._sorted(path, hidden=True)
        below = f"{path}/" if path else ""
        torn = {
            f"{below}{stem}{FOLDER}/{n}": 0.0 for stem, sizes in pieces.items() if "head" not in sizes for n in sizes
        }
        return {**self.inner.temporaries(path), **torn}

    def _sorted(self, path: str, hidden: bool) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
        """Sizes of what is a file by itself, and of the pieces of others."""
        found: dict[str, int] = {}
        pieces: dict[str, dict[str, int]] = {}
        for name, size in self.inner.files(path, hidden=hidden).items():
            match = _PIECE.fullmatch(name)
            if match is None:
                found[name] = size
            else:
                pieces.setdefault(match[1], {})[match[2]] = size
        return found, pieces

    def _size(self, stem: str, sizes: dict[str, int]) -> int:
        if len({name.partition("/")[0] for name in sizes}) > 2:  # of a writer that lost a race, or was killed
            mine = checksum_of(self.inner.read(head_path(stem + SUFFIX)))
            sizes = {name: size for name, size in sizes.items() if name == "head" or name.startswith(mine)}
        return sum(sizes.values())


def head_path(path: str) -> str:
    """Where the small object of a ``.safetensors`` file lies that is stored in pieces."""
    return f"{_folder(path)}/head"


def _folder(path: str) -> str:
    return path.removesuffix(SUFFIX) + FOLDER


def _header(path: str, data: memoryview) -> Header | None:
    key = parse_path(path)
    if key is None:
        return None
    try:
        return Header(lambda start, size: data[start : start + size], key)
    except CorruptObjectError:
        return None


def _pieces(path: str, header: Header) -> list[tuple[str, int, int]]:
    """Path, begin and end of every tensor that has any bytes, in the sender's order."""
    folder = f"{_folder(path)}/{header.checksum}"
    fields = [field for field in header.fields.values() if field.end > field.begin]
    return [(f"{folder}/{n:05d}", header.start + f.begin, header.start + f.end) for n, f in enumerate(fields)]

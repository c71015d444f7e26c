"""Labelled images, split over clients: digits without a download, and CIFAR-10 or a folder of images when at hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flstore.errors import StoreError, UnknownNameError
from flstore.federated.models import torchvision_module
from flstore.federated.splits import partition

HELD_OUT = 360
"""Digits that no client trains on."""

HELD_OUT_SHARE = 0.2
"""Share of a folder without a part of its own for tests that is held out."""

CLASSES = 10
"""Classes of the digits, and of CIFAR-10."""

SIDE = 32
"""Height and width of all images."""

_Part = tuple[NDArray[np.float32], NDArray[np.int64]]


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Images:
    """Images and labels, with the training images of each client. All arrays are read-only.

    Attributes
    ----------
    name : str
        Of the data set.
    classes : tuple of str
        Names of the classes, by label.
    train_images : ndarray of float32, shape (n, 3, 32, 32)
        In [-1, 1].
    train_labels : ndarray of int64, shape (n,)
        The class, from 0.
    partitions : tuple of ndarray of int64
        Rows of the training arrays, one vector a client.
    test_images, test_labels : ndarray
        The held-out images, likewise.
    """

    name: str
    classes: tuple[str, ...]
    train_images: NDArray[np.float32]
    train_labels: NDArray[np.int64]
    partitions: tuple[NDArray[np.int64], ...]
    test_images: NDArray[np.float32]
    test_labels: NDArray[np.int64]

    def __repr__(self) -> str:
        train, test = len(self.train_labels), len(self.test_labels)
        return f"Images({self.name}: {train} training, {test} held out, {len(self.partitions)} clients)"


def digits(partitions: int = 50, alpha: float = 1.0, seed: int = 0) -> Images:
    """Load the digits, upscaled to 32 x 32 with three channels, and split them over clients.

    The same as :func:`images` with its defaults.

    Parameters
    ----------
    partitions : int
        Number of clients.
    alpha : float
        Concentration of the Dirichlet distribution; small values give each client few classes.
    seed : int
        Seed of the split over clients. The held-out images are the same for every seed.

    Returns
    -------
    Images
        1437 to train on and 360 held out. Kept in memory, so that equal arguments give the same object.

    Raises
    ------
    InvalidParameterError
        More clients than the images can serve with two each, or `alpha` not above zero.
    """
    return images("digits", partitions, alpha=alpha, seed=seed)


def images(
    data: str = "digits",
    partitions: int = 50,
    *,
    split: str = "dirichlet",
    alpha: float = 1.0,
    shards: int = 2,
    seed: int = 0,
    root: str = "",
    download: bool = False,
) -> Images:
    """Load a data set and split its training images over clients.

    Parameters
    ----------
    data : {"digits", "cifar10", "folder"}
        scikit-learn's handwritten digits, which need no files; torchvision's CIFAR-10; or any images that lie in one
        folder a class, as torchvision's ``ImageFolder`` reads them.
    partitions : int
        Number of clients.
    split : {"dirichlet", "shard", "iid"}
        See ``flstore.federated.partition``.
    alpha, shards : float, int
        Of the Dirichlet and of the shard split.
    seed : int
        Seed of the split over clients. The held-out images are the same for every seed.
    root : str
        Folder of the files of ``"cifar10"`` (which holds or gets ``cifar-10-batches-py``) or ``"folder"`` (which holds
        the folders of the classes, or ``train`` and ``test`` with these in each).
    download : bool
        Fetch CIFAR-10 (170 MB) into `root` when it is not there. Nothing else is ever fetched.

    Returns
    -------
    Images
        Kept in memory, so that equal arguments give the same object: a folder is read once.

    Raises
    ------
    UnknownNameError
        There is no such data set or split.
    StoreError
        The files are not there, or are not those of CIFAR-10.
    InvalidParameterError
        More clients than the images can serve with two each, or a number out of range.
    OptionalDependencyError
        torchvision is not installed; the digits do without.

    Examples
    --------
    >>> images("digits", partitions=10, split="iid")
    Images(digits: 1437 training, 360 held out, 10 clients)
    """
    if data not in DATA:
        raise UnknownNameError.of("data set", data, DATA)
    if download and data == "cifar10":
        _cifar10_parts(str(root), download=True)
    return _split(data, partitions, split, float(alpha), shards, seed, str(root))


@lru_cache(maxsize=4)
def _split(data: str, partitions: int, split: str, alpha: float, shards: int, seed: int, root: str) -> Images:
    classes, train, test = _load(data, root)
    labels = train[1]
    # Batch normalisation cannot train on one image.
    smallest = min(8, max(2, len(labels) // max(4 * partitions, 1)))
    parts = partition(labels, partitions, split, alpha=alpha, shards=shards, seed=seed, min_size=smallest)
    arrays: list[NDArray[Any]] = [*train, *test, *parts]
    for array in arrays:
        array.setflags(write=False)
    return Images(data, classes, *train, tuple(parts), *test)


@lru_cache(maxsize=2)
def _load(data: str, root: str) -> tuple[tuple[str, ...], _Part, _Part]:
    return DATA[data](root)


def _digits(root: str) -> tuple[tuple[str, ...], _Part, _Part]:
    """All digits in an order that does not depend on any seed, so that the held-out ones never change."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    order = np.random.default_rng(20250512).permutation(len(raw.target))
    small = raw.images[order].astype(np.float32) / 8 - 1
    large = small.repeat(4, axis=1).repeat(4, axis=2)
    pixels, labels = np.repeat(large[:, None], 3, axis=1), raw.target[order].astype(np.int64)
    train, test = (pixels[:-HELD_OUT], labels[:-HELD_OUT]), (pixels[-HELD_OUT:], labels[-HELD_OUT:])
    return tuple(map(str, raw.target_names)), train, test


def _cifar10(root: str) -> tuple[tuple[str, ...], _Part, _Part]:
    found = _cifar10_parts(root, download=False)
    train, test = ((_scaled(part.data), np.array(part.targets, dtype=np.int64)) for part in found)
    return tuple(found[0].classes), train, test


def _cifar10_parts(root: str, download: bool) -> list[Any]:
    torchvision_module()
    from torchvision.datasets import CIFAR10

    try:
        return [CIFAR10(root or ".", train=train, download=download) for train in (True, False)]
    except RuntimeError as error:  # torchvision compares checksums before it reads anything
        raise StoreError(
            f"CIFAR-10 is not at {root or '.'!r}: there must be a folder cifar-10-batches-py with the files as they "
            "were published. Say where it lies (data_root=... of run, root=... of images), or download=True to fetch "
            "170 MB"
        ) from error


def _folder(root: str) -> tuple[tuple[str, ...], _Part, _Part]:
    torchvision_module()
    from torchvision.datasets import ImageFolder

    apart = Path(root, "train").is_dir() and Path(root, "test").is_dir()
    try:
        found = [ImageFolder(str(Path(root, name))) for name in (("train", "test") if apart else ("",))]
    except FileNotFoundError as error:
        raise StoreError(
            f"there are no images at {root!r}: name (data_root=... of run, root=... of images) a folder with one "
            f"folder of images a class, or with 'train' and 'test' of such folders ({error})"
        ) from error
    if len({tuple(part.classes) for part in found}) > 1:
        raise StoreError(
            f"'train' and 'test' in {root!r} have other classes ({', '.join(found[0].classes)}; "
            f"{', '.join(found[1].classes)}): make a folder for each class in both"
        )
    parts = [_pixels(part.samples) for part in found]
    if not apart:
        (pixels, labels), order = parts[0], np.random.default_rng(0).permutation(len(parts[0][1]))
        kept, held = np.split(order, [len(order) - max(1, round(HELD_OUT_SHARE * len(order)))])
        parts = [(pixels[kept], labels[kept]), (pixels[held], labels[held])]
    return tuple(found[0].classes), parts[0], parts[1]


def _pixels(samples: list[tuple[str, int]]) -> _Part:
    from PIL import Image

    pixels = np.empty((len(samples), SIDE, SIDE, 3), np.uint8)
    for row, (path, _) in zip(pixels, samples, strict=True):
        with Image.open(path) as image:
            row[:] = np.asarray(image.convert("RGB").resize((SIDE, SIDE)))
    return _scaled(pixels), np.array([label for _, label in samples], dtype=np.int64)


def _scaled(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Bytes with the channels last to floats in [-1, 1] with the channels first."""
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).astype(np.float32) / 127.5 - 1


DATA: dict[str, Callable[[str], tuple[tuple[str, ...], _Part, _Part]]] = {
    "digits": _digits,
    "cifar10": _cifar10,
    "folder": _folder,
}
"""How each data set is loaded, by name."""

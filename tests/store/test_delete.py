"""A store that is opened after a removal knows nothing of what was removed, and answers about all the rest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flstore import FLStore
from flstore.baselines import ObjStoreAgg
from flstore.errors import UpdateNotFoundError
from flstore.persistence import ObjectStore, remove, verify
from tests.store.conftest import CLIENTS, fill, make_round

OPENERS: list[Callable[[Path], Any]] = [
    lambda root: FLStore.local(functions=1, memory="64MiB", root=str(root)),
    lambda root: ObjStoreAgg(str(root)),
]


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A root with three rounds."""
    with ObjStoreAgg(str(tmp_path / "root")) as store:
        fill(store, range(1, 4))
    return tmp_path / "root"


def files_with(root: Path, text: bytes) -> list[str]:
    files = [path for path in root.rglob("*") if path.is_file()]
    return [str(path) for path in files if text in str(path.relative_to(root)).encode() + path.read_bytes()]


@pytest.mark.parametrize("open_root", OPENERS, ids=["FLStore", "ObjStoreAgg"])
def test_a_client_left(filled: Path, open_root: Callable[[Path], Any]) -> None:
    assert len(files_with(filled, b"c2")) >= 6
    removed = remove(ObjectStore(filled), "default", client="c2")
    assert (removed.updates, removed.metadata_rows, removed.clients) == (3, 3, ("c2",))
    # In tensors, the two letters may occur by chance; with what is around an id, they do not.
    assert [files_with(filled, text) for text in (b'"c2"', b"client=c2")] == [[], []]
    with open_root(filled) as store:
        assert store.clients() == ["c0", "c1", "c3", "c4"]
        assert store.rounds() == [1, 2, 3]
        assert "c2" not in store.metadata().index.get_level_values("client")
        assert store.request("clustering", round=2, k=2).value.clients == ["c0", "c1", "c3", "c4"]
        for ask in (lambda: store.update(2, "c2"), lambda: store.request("lineage", client="c2")):
            with pytest.raises(UpdateNotFoundError, match="c2"):
                ask()


def test_what_was_removed_may_be_ingested_anew(filled: Path) -> None:
    remove(ObjectStore(filled), "default", rounds=[2])
    with ObjStoreAgg(str(filled)) as store:
        assert store.rounds() == [1, 3]
        other = {client: {"w": tensors["w"] + 1, "seen": tensors["seen"]} for client, tensors in make_round(2).items()}
        assert len(store.ingest(2, other).clients) == CLIENTS
        store.flush()
        assert store.rounds() == [1, 2, 3]
    assert verify(filled, job="default").ok


def test_a_job_is_gone(filled: Path) -> None:
    assert remove(ObjectStore(filled), "default").updates == 3 * CLIENTS
    assert list(filled.iterdir()) == []
    with ObjStoreAgg(str(filled)) as store:
        assert (store.rounds(), store.clients(), len(store.metadata())) == ([], [], 0)

"""The connection file: this user's alone, whole or not there, and known for stale when its writer is gone."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from flstore import FLStore
from flstore.connection import Connection, path_of, runtime_folder
from flstore.errors import ClusterError
from tests.store.other import Other, opened


@pytest.fixture(autouse=True)
def _runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLSTORE_RUNTIME", str(tmp_path / "runtime"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "connection.json"
    a_connection().save(path)
    return path


def a_connection(**changes: Any) -> Connection:
    values = {
        "root": "root", "job": "job", "address": "tls://127.0.0.1:1", "namespace": "n", "lineage": "l", "epoch": 1,
        "host": "h", "pid": 1, "birth": "", "owned": True, "ping_deadline_s": 2.0, "tls": {"tls_client_key": "secret"},
    }  # fmt: skip
    return Connection(**{**values, **changes})


def test_it_comes_with_the_store_and_goes_with_it(open_store: Any) -> None:
    store = open_store()
    (path,) = runtime_folder().glob("*")
    assert path == path_of(f"{os.path.realpath(store.root)}\ndefault")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = Connection.load(path)
    assert found is not None
    assert (found.pid, found.epoch, found.namespace) == (os.getpid(), 1, store._pool.namespace)
    assert not found.is_stale
    key = (found.tls or {})["tls_client_key"]
    assert "PRIVATE KEY" in key
    assert "PRIVATE" not in repr(found) + repr(store) + store._repr_html_()
    store.close()
    assert list(runtime_folder().glob("*")) == []


def test_no_secret_of_a_root_is_in_its_name_or_the_file(file: Path) -> None:
    assert a_connection() == Connection.load(file)
    assert path_of("place\njob").name == path_of("place\njob").name != path_of("place\nother").name


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_one_that_others_may_read_is_refused(mode: int, file: Path, tmp_path: Path) -> None:
    file.chmod(mode)
    with pytest.raises(ClusterError, match=rf"mode 0{mode:o}.*expected a file of user {os.geteuid()} with mode 0600"):
        FLStore.attach(str(tmp_path), connection=file)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_one_of_somebody_else_is_refused(file: Path) -> None:
    os.chown(file, 12345, -1)
    with pytest.raises(ClusterError, match="belongs to user 12345"):
        Connection.load(file)


def test_a_link_and_what_is_no_connection_file_are_refused(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(file)
    with pytest.raises(ClusterError, match="cannot be read"):
        Connection.load(link)
    for content in ("[]", "{}", '{"format": 1}', '{"format": 2}', "torn {"):
        file.write_text(content)
        with pytest.raises(ClusterError, match="no connection file of this version"):
            Connection.load(file)
    assert Connection.load(tmp_path / "absent.json") is None


def test_a_stale_one_is_recognised_and_replaced(tmp_path: Path, open_store: Any) -> None:
    root = str(tmp_path / "root")
    with Other() as other:
        other.do(opened(root))
        other.kill()
    (path,) = runtime_folder().glob("*.json")
    stale = Connection.load(path)
    assert stale is not None
    assert stale.is_stale
    with FLStore.attach(root) as reader:
        assert reader.status().functions == (), "nobody was asked"
    store = open_store(root=root)
    replaced = Connection.load(path)
    assert replaced is not None
    assert (replaced.namespace, replaced.epoch) == (store._pool.namespace, stale.epoch + 1)


def test_a_folder_that_cannot_be_written_only_costs_the_readers(
    tmp_path: Path, open_store: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FLSTORE_RUNTIME", str(tmp_path / "file" / "below"))
    store = open_store()
    assert "no connection file for readers" in caplog.text
    store.close()


def test_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLSTORE_RUNTIME")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1")
    assert runtime_folder() == Path("/run/user/1/flstore")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert runtime_folder() == Path.home() / ".local/state/flstore"

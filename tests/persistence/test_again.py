"""Reads that fail and then work are answered; those that never work fail in bounded time, and say so."""

from __future__ import annotations

import dataclasses
import os
import socket
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from flstore.codec import decode
from flstore.errors import StoreError, UpdateNotFoundError
from flstore.persistence import ObjectStore
from flstore.persistence.again import ATTEMPTS
from flstore.testing.faulty_fs import Fault, FaultPlan
from flstore.testing.services import S3Server
from tests.persistence.unsteady import WAYS, unsteady


@pytest.fixture
def plan(tmp_path: Path) -> FaultPlan:
    return FaultPlan(str(tmp_path / "plan"))


@pytest.fixture
def faulty(plan: FaultPlan, tmp_path: Path) -> ObjectStore:
    return ObjectStore(plan.url(tmp_path / "root"), plan.storage_options)


def test_every_way_to_read_outlives_two_failures(faulty: ObjectStore, plan: FaultPlan, an_update: Any) -> None:
    key, data = an_update()
    faulty.put(key, data)
    faulty.put_metadata("job", 3, {"7": {"loss": 0.5}})
    reads: list[tuple[str, Any]] = [
        ("read", lambda: decode(faulty.get(key), key=key)),
        ("read", lambda: faulty.checksum(key)),
        ("read", lambda: faulty.get_metadata("job", 3)),
        ("list", lambda: faulty.rounds("job")),
        ("list", lambda: faulty.clients("job", 3)),
        ("list", lambda: faulty.files()),
    ]
    for operation, read in reads:
        before = read()
        with plan.stage(Fault("fail", operation, times=2)):
            assert read() == before
    assert len(plan.strikes()) == 2 * len(reads)


def test_a_store_that_never_answers_is_given_up_and_says_after_how_much(
    faulty: ObjectStore, plan: FaultPlan, an_update: Any
) -> None:
    key, data = an_update()
    faulty.put(key, data)
    with (
        plan.stage(Fault("fail", "read")),
        pytest.raises(StoreError, match=rf"cannot read update of client '7'.* \(tried {ATTEMPTS} times in \d+ s\)"),
    ):
        faulty.get(key)
    assert len(plan.strikes()) == ATTEMPTS


def test_what_will_not_pass_is_not_tried_again(tmp_path: Path, an_update: Any, monkeypatch: Any) -> None:
    objects = ObjectStore(tmp_path / "root")
    reads = []
    monkeypatch.setattr(objects._files, "read", lambda path: reads.append(path) or os.stat(tmp_path / "none"))
    with pytest.raises(UpdateNotFoundError):
        objects.get(an_update()[0])
    assert len(reads) == 1


@pytest.mark.services
@pytest.mark.parametrize("way", WAYS)
def test_on_s3(rclone: S3Server, way: str, an_update: Any) -> None:
    bucket = rclone.create_bucket(f"bucket-{uuid.uuid4().hex[:12]}")
    with unsteady(rclone.endpoint_url) as network:
        server = dataclasses.replace(rclone, endpoint_url=network.url)
        config = {**server.storage_options["config_kwargs"], "read_timeout": 0.5}
        objects = ObjectStore(bucket, {**server.storage_options, "config_kwargs": config})
        key, data = an_update()
        objects.put(key, data)
        objects.put_metadata("job", 3, {"7": {"loss": 0.5}})
        reads: list[Any] = [lambda: bytes(objects.get(key)), lambda: objects.get_metadata("job", 3)]
        for read in [*reads, lambda: objects.clients("job", 3)][: 3 if way == "503" else 1]:
            before = read()
            network.way, network.left = way, 3  # one more than the client library outlives by itself
            assert read() == before
            assert network.left == 0


@pytest.mark.services
def test_an_s3_server_that_is_not_there_is_given_up(rclone: S3Server) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        options = {**rclone.storage_options, "endpoint_url": f"http://127.0.0.1:{taken.getsockname()[1]}"}
        objects = ObjectStore("s3://bucket/x", options)
        began = time.monotonic()
        with pytest.raises(StoreError, match=rf"list the rounds of job 'job' below s3://bucket/x: .*tried {ATTEMPTS}"):
            objects.rounds("job")
        assert time.monotonic() - began < 75, "the promise of flstore.persistence.again"

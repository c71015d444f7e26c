"""The right to write: locks that the kernel releases, leases that go stale by the server's clock."""

from __future__ import annotations

import subprocess
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flstore.errors import WriterExistsError
from flstore.persistence import ObjectStore, remove, verify
from flstore.persistence.claim import claim, place
from flstore.persistence.files import LocalFiles
from flstore.persistence.lease import Lease
from flstore.persistence.local_lock import LocalLock
from flstore.processes import Process
from flstore.testing.services import S3Server

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(params=["rclone", "swift"])
def remote(request: pytest.FixtureRequest) -> ObjectStore:
    """An empty root on each S3 server in turn."""
    server: S3Server = request.getfixturevalue(request.param)
    bucket = server.create_bucket(f"claim-{uuid.uuid4().hex[:12]}")
    return ObjectStore(f"{bucket}/root", server.storage_options)


def lease(objects: ObjectStore, lease_s: float = 60, takeover: bool = False) -> Lease:
    return Lease(objects._files, objects.root, "job", takeover=takeover, lease_s=lease_s)


# --- local ----------------------------------------------------------------------------------------------------------


def test_epochs_only_grow_and_a_takeover_is_noticed(tmp_path: Path) -> None:
    root = str(tmp_path)
    first = LocalLock(root, "job")
    with pytest.raises(WriterExistsError, match="job 'job'"):
        LocalLock(root, "job")
    second = LocalLock(root, "job", takeover=True)
    with pytest.raises(WriterExistsError, match="has taken over"):
        first.check()
    first.release()
    second.check()
    with pytest.raises(WriterExistsError):
        LocalLock(root, "job")
    second.release()
    second.release()
    third = LocalLock(root, "job")
    assert [lock.term.epoch for lock in (first, second, third)] == [1, 2, 3]
    assert len({lock.term.lineage for lock in (first, second, third)}) == 1
    third.release()


def test_many_at_once_make_one_writer(tmp_path: Path) -> None:
    def attempt(_: int) -> LocalLock | None:
        try:
            return LocalLock(str(tmp_path), "job")
        except WriterExistsError:
            return None

    with ThreadPoolExecutor(16) as threads:
        won = [lock for lock in threads.map(attempt, range(64)) if lock is not None]
    assert len(won) == 1
    won[0].release()


def test_what_a_killed_writer_leaves_is_no_obstacle_and_no_stray(tmp_path: Path) -> None:
    code = f"""
from flstore.persistence.local_lock import LocalLock
LocalLock({str(tmp_path)!r}, "job")
print("locked", flush=True)
input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(WriterExistsError, match=f"process {holder.pid} on"):
            LocalLock(str(tmp_path), "job")
        holder.kill()
    (tmp_path / "job=job" / ".writer.new").write_bytes(b"killed while it took over")
    lock = LocalLock(str(tmp_path), "job")
    assert lock.term.epoch == 2
    lock.release()
    objects = ObjectStore(tmp_path)
    assert (objects.rounds("job"), list(objects.listing("job"))) == ([], [])
    found = verify(tmp_path, progress=False)
    assert (found.objects, found.stray, found.temporaries, found.ok) == (0, [], [], True)


def test_a_job_that_was_removed_while_it_is_written(tmp_path: Path) -> None:
    first = LocalLock(str(tmp_path), "job")
    objects = ObjectStore(tmp_path)
    objects.put_metadata("job", 1, {"7": {"loss": 1.0}})
    remove(objects, "job", progress=False)
    first.check()
    (tmp_path / "job=job" / ".writer.lock").unlink()
    first.check()
    second = LocalLock(str(tmp_path), "job")
    assert second.term.lineage != first.term.lineage, "its epochs are others"
    with pytest.raises(WriterExistsError):
        first.check()
    first.release()
    second.release()


def test_one_place_has_one_name(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "root")
    here = place(ObjectStore(tmp_path / "root"), "job")
    assert here == place(ObjectStore(tmp_path / "link"), "job") == place(ObjectStore(f"file://{tmp_path}/root/"), "job")
    assert here != place(ObjectStore(tmp_path / "root"), "other")


def test_memory(tmp_path: Path) -> None:
    objects = ObjectStore(f"memory://{tmp_path.name}")
    assert [claim(objects, "job").term.epoch for _ in range(3)] == [1, 2, 3]


# --- leases ---------------------------------------------------------------------------------------------------------


@pytest.mark.services
def test_a_lease_on_s3(remote: ObjectStore) -> None:
    first = lease(remote)
    remote.put_metadata("job", 1, {"7": {"loss": 1.0}})
    with pytest.raises(WriterExistsError, match=f"process {first.term.pid} on"):
        lease(remote)
    assert remote.rounds("job") == [1]
    assert verify(remote.root, remote.spec["storage_options"], progress=False).stray == []
    first.release()
    second = claim(remote, "job")
    assert isinstance(second, Lease)
    assert (second.term.epoch, second.term.lineage) == (2, first.term.lineage)
    second.release()


@pytest.mark.services
def test_a_taken_over_lease_is_noticed_at_the_next_renewal(remote: ObjectStore) -> None:
    first = lease(remote, lease_s=0.6)
    second = lease(remote, takeover=True)
    first._renewer.join(20)
    with pytest.raises(WriterExistsError, match="has taken over"):
        first.check()
    first.release()
    second.check()
    with pytest.raises(WriterExistsError):
        lease(remote)
    second.release()


@pytest.mark.services
def test_a_taken_over_lease_is_noticed_when_it_is_next_checked(remote: ObjectStore) -> None:
    first = lease(remote)
    first.check()
    second = lease(remote, takeover=True)
    waited = threading.Event()
    for _ in range(200):
        try:
            first.check()
        except WriterExistsError:
            break
        waited.wait(0.02)
    else:
        raise AssertionError("it never looked")
    first.release()
    second.check()
    second.release()


@pytest.mark.services
def test_a_lease_that_is_not_renewed_goes_stale_by_the_servers_clock(remote: ObjectStore) -> None:
    first = lease(remote)
    first._ended.set()  # it stops to renew, as if its machine were gone; its process is known to live here
    waited = threading.Event()
    for _ in range(100):
        try:
            second = lease(remote, lease_s=1)
            break
        except WriterExistsError:
            waited.wait(0.1)
    else:
        raise AssertionError("it never went stale")
    assert second.term.epoch == 2
    second.release()


@pytest.mark.services
def test_a_lease_of_a_process_that_was_killed_here_is_taken_at_once(rclone: S3Server) -> None:
    root = f"{rclone.create_bucket(f'claim-{uuid.uuid4().hex[:12]}')}/root"
    code = f"""
from flstore.persistence import ObjectStore
from flstore.persistence.claim import claim
claim(ObjectStore({root!r}, {rclone.storage_options!r}), "job")
print("leased", flush=True)
input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "leased\n"
        objects = ObjectStore(root, rclone.storage_options)
        with pytest.raises(WriterExistsError):
            claim(objects, "job")
        holder.kill()
    second = claim(objects, "job")
    assert second.term.epoch == 2
    second.release()


def test_without_a_clock_a_lease_that_does_not_move_is_stale(tmp_path: Path) -> None:
    files = LocalFiles(str(tmp_path))
    first = Lease(files, "root", "job", lease_s=0.3)
    with pytest.raises(WriterExistsError):
        Lease(files, "root", "job", lease_s=0.9)
    first._ended.set()
    first._renewer.join(20)
    second = Lease(files, "root", "job", lease_s=0.3)
    assert second.term.epoch == 2
    second.release()


# --- processes ------------------------------------------------------------------------------------------------------


def test_a_process_that_ended_is_gone_and_its_number_may_come_again() -> None:
    me = Process.this()
    assert not me.is_gone
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        birth = me.birth.rpartition(" ")[0]
        assert Process(me.host, other.pid, f"{birth} 1").is_gone, "another process has the number now"
        assert not Process("elsewhere", other.pid, "another-boot pid:[1] 1").is_gone, "nothing is known of it"
        assert not Process("elsewhere", other.pid, "").is_gone
        other.kill()
    assert Process(me.host, other.pid, f"{birth} 1").is_gone

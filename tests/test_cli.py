"""The command ``flstore`` as a shell runs it: real processes, on folders and S3, with a writer at work and without."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flstore import FLStore, __version__
from flstore.arguments import OPTIONS, rounds
from flstore.cli import main
from flstore.errors import InvalidParameterError
from flstore.persistence import ObjectStore
from flstore.types import Key, Kind
from tests.servers import bucket
from tests.store.conftest import CLIENTS, fill

REPOSITORY = Path(__file__).parents[1]


def flstore(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flstore", *arguments], capture_output=True, text=True, check=False, timeout=120,
        cwd=cwd, env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
    )  # fmt: skip


def answer(*arguments: str, **environment: str) -> Any:
    """What a command prints as JSON; it must have worked."""
    done = flstore(*arguments, "--json", **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The one line that a command says when it ends with this status; in this process, which starts faster."""

    def ask(status: int, *arguments: str, **environment: str) -> str:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        capsys.readouterr()
        assert main(arguments) == status
        said = capsys.readouterr()
        assert said.out == ""
        (line,) = said.err.splitlines()
        assert line.startswith("flstore: ")
        return line

    return ask


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A root with five rounds that no store is open on."""
    root = str(tmp_path_factory.mktemp("closed"))
    with FLStore.local(functions=1, memory="64MiB", root=root) as store:
        fill(store, range(1, 6))
    return root


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FLStore]:
    """A store that this process has open."""
    with FLStore.local(functions=1, memory="64MiB", root=str(tmp_path_factory.mktemp("written")), job="a b") as store:
        fill(store, range(1, 3))
        store.flush()
        yield store


# --- what it prints -------------------------------------------------------------------------------------------------


def test_status_without_a_writer(closed: str) -> None:
    done = flstore("status", closed)
    assert done.returncode == 0, done.stderr
    assert "holds   5 rounds, latest 5; 5 clients" in done.stdout
    assert "no cache function is alive" in done.stdout
    found = answer("status", closed)
    assert (found["rounds"], found["clients"], found["functions"]) == (5, CLIENTS, [])


def test_status_while_a_store_is_open_shows_its_functions(written: FLStore) -> None:
    found = answer("status", written.root)
    assert (found["job"], found["rounds"]) == ("a b", 2)
    assert [f["name"] for f in found["functions"]] == ["function-0"]
    assert found["functions"][0]["used_bytes"] == written.status().functions[0].used_bytes > 0


def test_rounds(closed: str) -> None:
    listed = answer("rounds", closed)
    assert [r["round"] for r in listed["rounds"]] == [0, 1, 2, 3, 4, 5]
    assert listed["rounds"][3] | {"size_bytes": 0} == {
        "round": 3, "clients": CLIENTS, "size_bytes": 0, "aggregate": True, "metadata": True,
    }  # fmt: skip
    sizes = ObjectStore(closed).contents("default", 3)
    assert listed["rounds"][3]["size_bytes"] == sum(sizes[0].values()) + (sizes[1] or 0)
    text = flstore("rounds", closed).stdout.splitlines()
    assert text[0].startswith("Job default: 6 rounds, ")
    assert text[2].split() == ["0", "0", *text[2].split()[2:4], "yes", "-"]
    assert len(text) == 8


def test_verify_says_by_its_status_whether_all_is_whole(closed: str, tmp_path: Path) -> None:
    found = answer("verify", closed)
    assert (found["objects"], found["damaged"]) == (36, [])
    damaged = tmp_path / "damaged"
    shutil.copytree(closed, damaged)
    path = damaged / "job=default" / "round=00000003" / "update" / "client=c1.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    done = flstore("verify", str(damaged), "--json")
    assert done.returncode == 3
    (damage,) = json.loads(done.stdout)["damaged"]
    assert damage["key"] == {"job": "default", "kind": "update", "round": 3, "client": "c1"}
    assert "1 of 36 objects are damaged" in done.stderr
    assert "Traceback" not in done.stderr


def test_verify_shows_no_progress_bar_where_nobody_looks(closed: str) -> None:
    assert flstore("verify", closed).stderr == ""


def test_a_request_without_a_writer_is_answered_by_the_process_itself(closed: str) -> None:
    found = answer("request", closed, "clustering", "--round", "3", "--param", "k=2")
    with FLStore.local(functions=1, memory="64MiB", root=closed) as store:
        expected = store.request("clustering", round=3, k=2).value
    assert found["value"]["labels"] == expected.labels.tolist()
    assert found["value"]["inertia"] == pytest.approx(expected.inertia)
    assert (found["record"]["functions"], found["record"]["misses"]) == (["reader"], CLIENTS + 1)
    done = flstore("request", closed, "lineage", "--client", "c1", "--rounds", "1-2,4")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Result of lineage\n")
    assert "answered in this process" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_request_while_a_store_is_open_runs_on_its_functions(written: FLStore) -> None:
    found = answer("request", written.root, "cosine_similarity", "--round", "2", "--job", "a b")
    assert found["record"]["functions"] == ["function-0"]
    assert found["value"]["clients"] == written.clients(2)


@pytest.mark.services
def test_a_root_on_s3_with_options_from_the_environment_and_the_command_line(rclone: Any, refusal: Any) -> None:
    root = bucket(rclone)["root"] + "/runs"
    with FLStore.local(functions=1, memory="64MiB", root=root, storage_options=rclone.storage_options) as store:
        fill(store, range(1, 3))
    secret = {OPTIONS: json.dumps(rclone.storage_options)}
    assert [r["round"] for r in answer("rounds", root, **secret)["rounds"]] == [0, 1, 2]
    assert answer("verify", root, **secret)["objects"] == 15
    found = answer("request", root, "cosine_similarity", "-r", "2", **secret)
    assert found["value"]["clients"] == [f"c{i}" for i in range(CLIENTS)]
    said = refusal(1, "status", root, "-o", "secret=not-the-secret-at-all", **secret)
    assert "not-the-secret-at-all" not in said
    assert rclone.secret not in said


# --- what it refuses ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "arguments", "message"),
    [
        (1, ["status", "{nowhere}"], "no job of FLStore below"),
        (1, ["verify", "{nowhere}"], "no job of FLStore below"),
        (1, ["rounds", "{root}", "--job", "other"], "nothing of job 'other'.*jobs: default"),
        (1, ["request", "{root}", "clustering", "--round", "30"], "no updates of round 30; nearest rounds: 3, 4, 5"),
        (2, ["request", "{root}", "clusterng", "--round", "3"], "Did you mean 'clustering'"),
        (2, ["request", "{root}", "clustering", "--round", "3", "-p", "k=0"], "k=0 is out of range"),
        (2, ["request", "{root}", "clustering", "--round", "3", "-p", "k"], "--param takes NAME=VALUE"),
        (2, ["request", "{root}", "lineage", "--rounds", "4-2"], "rounds and ranges like 1,4-6, got '4-2'"),
        (2, ["request", "{root}", "clustering", "--round", "three"], "'three' is not a valid integer"),
        (2, ["status"], "Missing argument 'ROOT'"),
        (2, ["stats", "{root}"], "No such command 'stats'"),
        (2, ["status", "bogus://x"], "no store can be opened on bogus://x"),
        (2, ["reproduce", "--scale", "huge"], "no scale 'huge'; there are: laptop, paper, smoke"),
    ],
)
def test_what_does_not_work_is_said_in_one_line(
    closed: str, tmp_path: Path, refusal: Any, status: int, arguments: list[str], message: str
) -> None:
    filled = [a.format(root=closed, nowhere=tmp_path / "nowhere") for a in arguments]
    said = refusal(status, *filled)
    assert re.search(message, said), said
    assert not (tmp_path / "nowhere").exists()


def test_of_several_jobs_one_has_to_be_chosen(tmp_path: Path, refusal: Any) -> None:
    for job in ("a", "b"):
        ObjectStore(tmp_path).put_metadata(job, 1, {"c": {"loss": 0.5}})
    assert "several jobs; choose one with --job: a, b" in refusal(2, "rounds", str(tmp_path))
    assert answer("rounds", str(tmp_path), "--job", "b")["job"] == "b"


def test_secrets_are_in_no_message(refusal: Any) -> None:
    assert "hush" not in refusal(2, "status", "bogus://user:hush@host/bucket?sig=hush")
    assert "hush" not in refusal(2, "status", "memory://x", "--option", "hush")
    assert OPTIONS in refusal(2, "status", "memory://x", **{OPTIONS: "hush"})


def test_a_process_ends_with_the_status_and_the_line(closed: str) -> None:
    done = flstore("request", closed, "clustering", "--round", "30")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("flstore: job 'default' has no updates of round 30")
    assert len(done.stderr.splitlines()) == 1


def test_somebody_who_stops_reading_sees_no_traceback(closed: str) -> None:
    command = [sys.executable, "-m", "flstore", "rounds", closed]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, **pipes) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == 1
    assert "Traceback" not in said


# --- the command itself ---------------------------------------------------------------------------------------------


def test_the_console_script_is_this_program() -> None:
    scripts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    module, _, name = scripts["flstore"].partition(":")
    assert getattr(importlib.import_module(module), name)(["--version"]) == 0
    done = flstore("--version")
    assert (done.stdout, done.returncode) == (f"flstore {__version__}\n", 0)
    helped = flstore()
    assert helped.returncode == 0
    assert all(name in helped.stdout for name in ("status", "verify", "rounds", "request", "reproduce"))


def test_reproduce_runs_snakemake_in_the_checkout(tmp_path: Path) -> None:
    done = flstore("reproduce", "--dry-run", "--experiments", "tab03", "--json", cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["scale"], said["dry_run"]) == ("smoke", True)
    assert "tab03" in done.stderr
    laptop = flstore("reproduce", "--dry-run", "--experiments", "tab03", "--scale", "laptop", "--json", cwd=REPOSITORY)
    ledger = json.loads(laptop.stdout)["ledger"]
    assert ledger["page"] == str(REPOSITORY / "results" / "laptop" / "ledger.html")
    assert sum(ledger["verdicts"].values()) == 61
    shutil.copytree(REPOSITORY / "flstore", tmp_path / "site" / "flstore", ignore=shutil.ignore_patterns("*.pyc"))
    away = flstore("reproduce", cwd=tmp_path, PYTHONPATH=str(tmp_path / "site"))
    assert (away.returncode, away.stdout) == (2, "")
    assert "not in a checkout" in away.stderr


def test_rounds_are_numbers_and_ranges() -> None:
    assert rounds(None) is None
    assert rounds("3") == [3]
    assert rounds(" 1-3, 7") == [1, 2, 3, 7]
    for wrong in ("", "1,", "a", "-3", "1-99999999"):
        with pytest.raises(InvalidParameterError, match="--rounds"):
            rounds(wrong)


def test_keys_are_objects_in_json() -> None:
    from flstore.display.as_json import plain

    assert plain(Key("j", Kind.AGGREGATE, 1)) == {"job": "j", "kind": "aggregate", "round": 1, "client": None}

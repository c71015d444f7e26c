"""The benchmark harness: it runs what is asked for and writes figures for programs. No timing is asserted."""

from __future__ import annotations

import importlib
import json
from dataclasses import fields
from pathlib import Path

import pytest

from benchmarks import report, timing
from benchmarks.__main__ import LATEST, LONG, NAMES, main
from benchmarks.rows import Row, timed

ROW_TYPES = {
    "name": str,
    "value": (int, float, str),
    "unit": str,
    "peer": str,
    "ratio": (int, float, type(None)),
    "goal": str,
    "met": (bool, type(None)),
    "note": str,
    "quartiles": (list, type(None)),
    "repetitions": int,
}


def check_document(content: dict) -> None:
    assert set(content) == {"format", "results"}
    assert content["format"] == report.FORMAT
    for result in content["results"]:
        assert set(result) == {
            "benchmark", "time", "commit", "modified", "machine", "versions", "took_s", "rows",
        }  # fmt: skip
        assert result["machine"]["cores"] >= 1
        assert result["machine"]["memory_bytes"] > 1 << 20
        assert {"flstore", "python", "numpy"} <= set(result["versions"])
        names = [row["name"] for row in result["rows"]]
        assert len(set(names)) == len(names) > 0
        for row in result["rows"]:
            assert set(row) == set(ROW_TYPES) == {f.name for f in fields(Row)}
            assert all(isinstance(row[name], kind) for name, kind in ROW_TYPES.items()), row
            assert bool(row["peer"]) == (row["ratio"] is not None)
            assert bool(row["goal"]) == (row["met"] is not None)
            if row["quartiles"] is not None:
                low, high = row["quartiles"]
                assert low <= row["value"] <= high


def test_a_run_prints_a_table_and_writes_every_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    before = LATEST.read_bytes() if LATEST.exists() else None
    assert main(["import_time", "--quick", "--output", str(tmp_path / "out.json")]) == 0
    content = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    check_document(content)
    (result,) = content["results"]
    package = result["rows"][0]
    assert (package["name"], package["unit"], package["repetitions"]) == ("import_time: import flstore", "s", 2)
    assert package["goal"].endswith("without torch, flwr and distributed")
    table = capsys.readouterr().out
    assert all(row["name"] in table for row in result["rows"])
    assert (LATEST.read_bytes() if LATEST.exists() else None) == before


def test_a_quick_run_does_not_replace_figures(capsys: pytest.CaptureFixture[str]):
    before = LATEST.read_bytes() if LATEST.exists() else None
    main(["import_time", "--quick"])
    assert (LATEST.read_bytes() if LATEST.exists() else None) == before
    assert "written to" not in capsys.readouterr().err


def test_a_result_takes_the_place_of_the_one_before(tmp_path: Path):
    path, environment = tmp_path / "latest.json", {"time": "now"}
    for name, value in (("gram", 1.0), ("replay", 2.0), ("gram", 3.0)):
        report.update(path, report.result(name, environment, [Row(name, value)], 0.5), NAMES)
    results = json.loads(path.read_text(encoding="utf-8"))["results"]
    assert [(r["benchmark"], r["rows"][0]["value"]) for r in results] == [("replay", 2.0), ("gram", 3.0)]
    path.write_text('{"format": 1}', encoding="utf-8")
    with pytest.raises(ValueError, match="format 1, not 2"):
        report.update(path, report.result("gram", environment, [], 0.5), NAMES)


def test_replay_says_how_many_accesses_a_second():
    rows = importlib.import_module("benchmarks.replay").run(quick=True)
    *rates, memory = rows
    assert {row.unit for row in rates} == {"accesses/s"}
    assert all(isinstance(row.value, float) and row.value > 0 and row.ratio is not None for row in rates)
    assert memory.unit == "MiB"


def test_overheads_are_counted_at_a_thousand_requests():
    rows = importlib.import_module("benchmarks.overheads").run(quick=True)
    by_name = {row.name: row for row in rows}
    tracker = by_name["overheads: memory of the tracker, 1,000 concurrent requests"]
    assert 0 < tracker.value < 1
    assert tracker.peer == "the paper's 0.19 MB"
    assert all(row.goal for row in rows if row.unit == "us at 99 %")


def test_every_benchmark_has_committed_figures():
    content = json.loads(LATEST.read_text(encoding="utf-8"))
    check_document(content)
    assert [result["benchmark"] for result in content["results"] if result["benchmark"] not in LONG] == list(NAMES)


def test_an_unknown_benchmark_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stopped:
        main(["grams"])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert "'grams'" in said
    assert all(name in said for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_can_be_run(name: str):
    assert callable(importlib.import_module(f"benchmarks.{name}").run)


def test_ways_are_timed_in_turn_and_warmed_up():
    order: list[str] = []
    spreads = timing.interleaved(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")}, repetitions=3, warm_up=1
    )
    assert order == ["a", "b"] * 4
    assert {name: spread.repetitions for name, spread in spreads.items()} == {"a": 3, "b": 3}


def test_a_spread_is_the_median_with_quartiles():
    assert timing.Spread.of([5.0, 1.0, 3.0, 2.0, 4.0]) == timing.Spread(3.0, 2.0, 4.0, 5)


def test_a_duration_becomes_milliseconds_a_ratio_and_a_verdict():
    spread = timing.Spread(0.002, 0.001, 0.003, 7)
    row = timed("a", spread, peer="b", against=timing.Spread(0.004, 0, 0, 7), at_most=0.4)
    assert (row.value, row.unit, row.ratio, row.met) == (2.0, "ms", 0.5, False)
    assert (row.quartiles, row.repetitions, row.goal) == ((1.0, 3.0), 7, "at most 0.4 x the peer")
    assert timed("a", spread, peer="b", against=0.004, at_most=0.5).met is True
    assert timed("a", spread).met is None


@pytest.mark.parametrize("odd", [{"goal": "fast"}, {"met": True}, {"peer": "x"}, {"ratio": 2.0}])
def test_a_row_with_half_of_a_comparison_is_refused(odd: dict):
    with pytest.raises(ValueError, match="give both or none"):
        Row("a", 1.0, "ms", **odd)


def test_the_table_shows_a_missed_goal():
    text = report.table([Row("a", 1234.5, "ms", goal="at most 1 ms", met=False), Row("b", "none")])
    assert "1,234 ms" in text
    assert "MISSED" in text.splitlines()[2]
    assert "MISSED" not in text.splitlines()[3]

"""Bars are shown in a terminal, and nowhere else unless somebody looks there."""

from __future__ import annotations

import io
import sys

import pytest

from flstore.display import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "show", "seen"), [(Terminal, True, True), (Terminal, False, False), (io.StringIO, True, False)]
)
def test_a_bar_is_shown_where_somebody_looks(
    monkeypatch: pytest.MonkeyPatch, stream: type[io.StringIO], show: bool, seen: bool
) -> None:
    monkeypatch.setattr(sys, "stderr", shown := stream())
    monkeypatch.setattr(progress, "PATIENCE_S", 0)
    assert list(progress.progress_bar("abc", total=3, what="letters", unit="letter", show=show)) == ["a", "b", "c"]
    with progress.counter(total=5, done=2, what="rounds", unit="round", show=show) as bar:
        bar.update(3)
    assert ("3/3" in shown.getvalue()) is seen
    assert ("5/5" in shown.getvalue()) is seen


def test_what_is_done_at_once_shows_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", shown := Terminal())
    with progress.counter(total=1, what="rounds", unit="round", show=True) as bar:
        bar.update(1)
    assert shown.getvalue() == ""

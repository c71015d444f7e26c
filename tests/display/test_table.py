from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest

from flstore.display import table

EVIL = "<script>alert(1)</script>"


@dataclass(frozen=True, repr=False)
class Scores(table.Tabular):
    clients: list
    of: str = "delta"
    k: int | None = None
    inertia: float = 0.5
    hidden: int = field(default=7, repr=False)

    def frame(self):
        return pd.DataFrame({"score": np.arange(len(self.clients)) / 2}, index=pd.Index(self.clients, name="client"))


def test_a_result_shows_its_single_fields_and_its_table(read):
    value = Scores(["a", "b"])
    page = read(value._repr_html_())
    assert [row for row in page.rows if row[0] in {"of", "k", "inertia", "a", "b", "hidden"}] == [
        ["of", "delta"],
        ["k", "None"],
        ["inertia", "0.5"],
        ["a", "0.0"],
        ["b", "0.5"],
    ]
    assert table.text(value).splitlines() == [
        "Scores",
        "  of       delta",
        "  k        None",
        "  inertia  0.5",
        "        score",
        "client",
        "a         0.0",
        "b         0.5",
    ]


def test_only_the_first_rows_and_columns_are_shown_and_it_says_so(read):
    many = Scores([f"c{i}" for i in range(50)])
    page = read(table.html(many))
    assert ["c19", "9.5"] in page.rows
    assert ["c20", "10.0"] not in page.rows
    assert "the first 20 of 50 rows" in page.words
    assert table.text(many).splitlines()[-1] == "the first 20 of 50 rows"
    wide = pd.DataFrame(np.zeros((300, 400)))
    assert len(table.html(wide)) < 60_000
    assert table.text(wide).endswith("the first 20 of 300 rows, 20 of 400 columns")


def test_what_users_named_is_escaped_wherever_a_table_can_hold_it(read):
    frame = pd.DataFrame({EVIL: [EVIL]}, index=pd.MultiIndex.from_tuples([(EVIL, 1)], names=[EVIL, "round"]))
    frame.columns.name = EVIL
    page = read(table.html(frame))
    assert "script" not in page.tags
    assert page.words.count(EVIL) == 5
    assert "script" not in read(table.html(Scores([EVIL], of=EVIL))).tags


def test_a_value_without_a_table_is_its_repr_shortened(read):
    assert "<pre>{&#39;a&#39;: &#39;&lt;b&gt;&#39;}</pre>" in table.html({"a": "<b>"})
    assert table.text({"a": 1}) == "dict\n{'a': 1}"
    assert len(table.text("x" * 10_000)) < 2100
    assert table.text(Scores) == f"type\n{Scores!r}"


def test_terminal_codes_are_not_passed_on():
    assert "\x1b" not in table.text(Scores(["a\x1b[2J"], of="\x1b[31m"))


def test_the_repr_is_the_text_twin():
    value = Scores(["a"])
    assert repr(value) == table.text(value)


def test_a_table_is_asked_for_where_there_is_none():
    with pytest.raises(NotImplementedError, match="Tabular is to be shown by its table"):
        repr(table.Tabular())

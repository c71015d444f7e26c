import re
from dataclasses import replace

import numpy as np
import pytest

from flstore import FLStore
from flstore.display.status import CLOSED, NO_FUNCTIONS, NO_REQUESTS, html, text
from flstore.status import ClassStatus, FunctionStatus, Status

MIB = 1 << 20
STATUS = Status(
    root="s3://KEY:SECRET@host/bucket",
    job="digits",
    policy="tailored",
    closed=False,
    rounds=12,
    clients=50,
    latest_round=13,
    pending_bytes=3 * MIB,
    functions=(
        FunctionStatus("function-0", True, 8 * MIB, 2 * MIB, 1, 2, 0, (3, 4, 5, 9)),
        FunctionStatus("function-1", False, 8 * MIB, 8 * MIB, 1200, 1, 60, ()),
    ),
    classes=(ClassStatus("P2", 3, 9, 1, 2, 0.0123), ClassStatus("P4", 1, 0, 0, 0, float("nan"))),
)
EMPTY = Status("memory://a", "default", "lru", False, 0, 0, None, 0, (), ())


def test_html_states_every_fact(read):
    page = read(html(STATUS))
    assert page.facts() == {
        "job": "digits",
        "root": "s3://host/bucket",
        "policy": "tailored",
        "holds": "12 rounds, latest 13; 50 clients",
        "writes": "3.00 MiB not yet durable",
    }
    assert page.rows[5:] == [
        ["function", "state", "memory", "updates", "aggregates", "metadata", "rounds"],
        ["function-0", "alive", "2.00 MiB of 8.00 MiB (25.0 %)", "1", "2", "0", "3-5, 9"],
        ["function-1", "not alive", "8.00 MiB of 8.00 MiB (100.0 %)", "1,200", "1", "60", "-"],
        ["class", "requests", "hits", "late hits", "misses", "hit ratio", "median latency"],
        ["P2", "3", "9", "1", "2", "75.0 %", "12.3 ms"],
        ["P4", "1", "0", "0", "0", "-", "-"],
    ]
    assert [value for _, name, value in page.attributes if name == "style"] == ["width:25.0%", "width:100.0%"]


def test_text_states_the_same_facts():
    assert text(STATUS).splitlines() == [
        "FLStore",
        "  job     digits",
        "  root    s3://host/bucket",
        "  policy  tailored",
        "  holds   12 rounds, latest 13; 50 clients",
        "  writes  3.00 MiB not yet durable",
        "functions",
        "  function-0  alive  [###.........] 2.00 MiB of 8.00 MiB (25.0 %)",
        "    1 update, 2 aggregates, 0 metadata; rounds 3-5, 9",
        "  function-1  not alive  [############] 8.00 MiB of 8.00 MiB (100.0 %)",
        "    1,200 updates, 1 aggregate, 60 metadata; rounds -",
        "requests",
        "  class  requests  hits  late hits  misses  hit ratio  median latency",
        "  P2            3     9          1       2     75.0 %         12.3 ms",
        "  P4            1     0          0       0          -               -",
    ]


def test_copies_and_functions_that_leave_are_shown(read):
    first, second = STATUS.functions
    status = replace(STATUS, functions=(replace(first, copies=2), replace(second, alive=True, leaving=True)))
    rows = {row[0]: row for row in read(html(status)).rows}
    assert rows["function"][-2:] == ["copies", "rounds"]
    assert rows["function-0"][-2:] == ["2", "3-5, 9"]
    assert rows["function-1"][1] == "leaving"
    assert "    1 update, 2 aggregates, 0 metadata; rounds 3-5, 9; 2 of them copies" in text(status).splitlines()


def test_an_empty_store_says_so(read):
    page = read(html(EMPTY))
    assert page.facts()["holds"] == "0 rounds; 0 clients"
    assert page.facts()["writes"] == "everything is durable"
    for said in (NO_FUNCTIONS, NO_REQUESTS):
        assert [said] in page.rows
        assert f"  {said}" in text(EMPTY).splitlines()


def test_a_closed_store_says_so(read):
    closed = replace(STATUS, closed=True, functions=tuple(replace(f, alive=False) for f in STATUS.functions))
    page = read(html(closed))
    assert CLOSED in page.words
    assert [row[1] for row in page.rows if row[0].startswith("function-")] == ["stopped", "stopped"]
    assert f"  {CLOSED}" in text(closed).splitlines()
    assert text(closed).count("stopped") == 3
    assert CLOSED not in html(STATUS) + text(STATUS)


def test_names_are_escaped_and_bring_no_script(read):
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
    status = replace(
        STATUS, job=evil, root=evil, policy=evil, functions=(replace(STATUS.functions[0], name=evil),),
        classes=(replace(STATUS.classes[0], policy_class=evil),),
    )  # fmt: skip
    page = read(html(status))
    assert page.words.count(evil) == 5
    assert {"script", "img"}.isdisjoint(page.tags)
    assert {name for _, name, _ in page.attributes} <= {"class", "scope", "style", "colspan"}


def test_terminal_codes_are_not_passed_on():
    status = replace(STATUS, job="a\x1b[2Jb\nc")
    assert "\x1b" not in text(status)
    assert "  job     a\ufffd[2Jb\ufffdc" in text(status).splitlines()


def test_styles_are_scoped_and_know_light_and_dark():
    css = re.search(r"<style>(.*?)</style>", html(STATUS), re.DOTALL).group(1)
    assert "@media (prefers-color-scheme: dark)" in css
    for name in ('[data-jp-theme-light="true"]', '[data-jp-theme-light="false"]', "var(--jp-layout-color0"):
        assert name in css
    rules = re.findall(r"([^{}]+)\{", css.replace("@media (prefers-color-scheme: dark) {", ""))
    assert rules
    assert all(".flstore" in part for rule in rules for part in rule.split(","))
    assert not re.search(r"url\(|@import|https?:", css)


def test_many_rounds_stay_small():
    functions = tuple(
        FunctionStatus(f"function-{i}", True, 1 << 40, 1 << 39, 200_000, 1000, 200_000, tuple(range(i % 2, 2000, 2)))
        for i in range(64)
    )
    status = replace(STATUS, rounds=1000, clients=200_000, functions=functions)
    assert len(html(status)) < 200_000
    assert "1, 3, 5, ..., 1995, 1997, 1999" in text(status)


def test_text_fits_in_100_columns():
    long = FunctionStatus(
        "f" * 300, True, 1023 << 40, 1023 << 40, 10**9, 10**9, 10**9, tuple(range(10**6, 10**6 + 50, 2))
    )
    status = replace(STATUS, root="/" + "r" * 500, job="j" * 500, functions=(long,))
    assert max(map(len, text(status).splitlines())) < 100


@pytest.fixture(scope="module")
def store():
    with FLStore.local(functions=1, memory="64MiB", root="memory://display-status", job="a<b") as store:
        yield store


def test_a_real_store_shows_itself(store, read):
    before = read(store._repr_html_())
    assert before.facts() | {"holds": "0 rounds; 0 clients", "job": "a<b"} == before.facts()
    assert [NO_REQUESTS] in before.rows
    for r in (1, 2):
        store.ingest(
            r, {f"c{i}": {"w": np.full(64, i + r, "f4")} for i in range(3)}, aggregate={"w": np.zeros(64, "f4")}
        )
    store.flush()
    store.request("cosine_similarity", round=2)
    status = store.status()
    page = read(html(status))
    assert page.facts()["holds"] == "2 rounds, latest 2; 3 clients"
    assert page.facts()["writes"] == "everything is durable"
    asked = next(row for row in page.rows if row[0] == "P2")
    assert asked[1] == "1"
    assert sum(int(n) for n in asked[2:5]) == 4
    assert repr(status) == text(status)
    for cell in (*page.facts().values(), *asked, *(row[2] for row in page.rows if row[0].startswith("function-"))):
        assert cell in text(status)

import math

import pytest

from flstore.display import words


@pytest.mark.parametrize(
    ("numbers", "shown"),
    [
        ([], "-"),
        ([7], "7"),
        ([3, 4, 5, 6, 7], "3-7"),
        ([9, 3, 4, 5, 4], "3-5, 9"),
        (range(1, 1001), "1-1000"),
        (range(0, 12, 2), "0, 2, 4, 6, 8, 10"),
        (range(0, 14, 2), "0, 2, 4, ..., 8, 10, 12"),
    ],
)
def test_rounds_are_ranges(numbers, shown):
    assert words.ranges(numbers) == shown


@pytest.mark.parametrize(
    ("ratio", "shown"),
    [(0.0, "0.0 %"), (1.0, "100.0 %"), (0.99999, "99.9 %"), (0.00001, "0.1 %"), (1 / 3, "33.3 %"), (math.nan, "-")],
)
def test_only_all_is_everything_and_only_nothing_is_zero(ratio, shown):
    assert words.percent(ratio) == shown


@pytest.mark.parametrize(
    ("root", "shown"),
    [
        ("/data/a?b@c", "/data/a?b@c"),
        ("s3://bucket/prefix", "s3://bucket/prefix"),
        ("s3://KEY:SECRET@host:9000/bucket", "s3://host:9000/bucket"),
        ("redis://:pa@ss@host/0", "redis://host/0"),
        ("abfs://c@account/x?sig=SECRET&se=1", "abfs://account/x"),
        ("simplecache::https://user:SECRET@host/x", "simplecache::https://host/x"),
    ],
)
def test_a_location_has_no_credentials(root, shown):
    assert words.location(root) == shown


def test_counts_have_the_right_number():
    assert [words.count(n, noun) for n, noun in ((1, "miss"), (2, "miss"), (1, "hit"), (1200, "hit"))] == [
        "1 miss",
        "2 misses",
        "1 hit",
        "1,200 hits",
    ]


def test_control_characters_cannot_reach_a_terminal():
    assert words.printable("a\x1b[31mb\nc") == "a\ufffd[31mb\ufffdc"


def test_long_values_go_on_below_themselves():
    lines = words.listed([("root", "x" * 150), ("job", "a")])
    assert all(len(line) < 100 for line in lines)
    assert "".join(line[8:] for line in lines[:2]) == "x" * 150
    assert lines[2] == "  job   a"


def test_tables_are_aligned():
    lines = words.aligned(["class", "n"], [["P2", "1"], ["P4", "1,000"]])
    assert lines == ["  class      n", "  P2         1", "  P4     1,000"]

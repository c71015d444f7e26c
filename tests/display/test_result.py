import numpy as np
import pytest

from flstore import FLStore
from flstore.display import result, table
from flstore.engine import RequestRecord
from flstore.results import Receipt, Result


def record(**changes) -> RequestRecord:
    values = {
        "request": 1, "system": "FLStore", "job": "digits", "workload": "clustering", "policy_class": "P2", "round": 3,
        "client": "c<1>", "status": "done", "hits": 9, "late_hits": 1, "misses": 2,
        "functions": ["function-0", "function-1"],
        "bytes_moved": 2 << 20, "queue_s": 0.001, "fetch_s": 0.002, "compute_s": 0.0305, "latency_s": 0.04,
    }  # fmt: skip
    return RequestRecord(**{**values, **changes})


FACTS = {
    "about": "job digits, round 3, client c<1>",
    "class": "P2",
    "system": "FLStore",
    "functions": "function-0, function-1",
    "objects": "9 hits, 1 late hit, 2 misses",
    "moved": "2.00 MiB",
    "fetch": "2.0 ms",
    "queue": "1.0 ms",
    "compute": "30.5 ms",
    "latency": "40.0 ms",
}


def test_html_and_text_state_the_same_facts(read):
    answer = Result({"labels": "<b>"}, record())
    page = read(result.html(answer))
    assert page.facts() == FACTS
    assert "Result of clustering" in page.words
    assert "{'labels': '<b>'}" in page.words
    assert result.text(answer).splitlines() == [
        "Result of clustering",
        *(f"  {label:<11}{value}" for label, value in FACTS.items()),
        "dict",
        "{'labels': '<b>'}",
    ]


def test_an_error_is_shown(read):
    answer = Result(None, record(status="failed", error="StoreError: <gone>", round=None, client=None, functions=[]))
    page = read(result.html(answer))
    assert "StoreError: <gone>" in page.words
    assert page.facts()["about"] == "job digits"
    assert page.facts()["functions"] == "-"
    assert "  error  StoreError: <gone>" in result.text(answer).splitlines()


def test_many_functions_are_counted():
    names = [f"f{i}" for i in range(25)]
    assert result.text(Result(1, record(functions=names))).count("f9 and 15 more") == 1


def test_a_receipt_shows_what_is_new(read):
    receipt = Receipt(4, ("a", "<b>"), 2048)
    facts = {"new updates": "2", "clients": "a, <b>", "size": "2.00 kiB", "durable": "yes"}
    page = read(result.receipt_html(receipt))
    assert page.facts() == facts
    assert "Ingested into round 4" in page.words
    assert result.receipt_text(receipt).splitlines()[1:] == [f"  {label:<13}{value}" for label, value in facts.items()]


@pytest.fixture(scope="module")
def answer():
    with FLStore.local(functions=1, memory="64MiB", root="memory://display-result") as store:
        rng = np.random.default_rng(0)
        store.ingest(1, {f"c{i}": {"w": rng.normal(size=64).astype("f4")} for i in range(25)})
        yield store.request("malicious_filtering", round=1, of="model")


def test_a_real_answer_shows_its_table(answer, read):
    page = read(result.html(answer))
    frame = answer.value.frame()
    shown = [row[0] for row in page.rows if row[0].startswith("c") and row[0][1:].isdigit()]
    assert shown == list(frame.index[:20])
    assert "the first 20 of 25 rows" in page.words
    assert page.facts()["method"] == "cosine"
    text = result.text(answer)
    assert table.text(answer.value) in text
    assert all(value in text for value in page.facts().values())

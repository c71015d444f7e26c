import pandas as pd

from flstore.display import outcome
from flstore.simulator import Outcome


def test_html_and_text_state_the_same_facts(read):
    found = Outcome(
        "p2<", 19990, 0, 10, pd.DataFrame(), loads=20000, resident_peak_bytes=3 << 20, bytes_from_store=2048
    )
    facts = {
        "accesses": "20,000",
        "hits": "19,990",
        "late hits": "0",
        "misses": "10",
        "hit ratio": "99.9 %",
        "loads": "20,000",
        "from the store": "2.00 kiB",
        "peak resident": "3.00 MiB",
    }
    page = read(outcome.html(found))
    assert page.facts() == facts
    assert "Outcome of replaying with policy p2<" in page.words
    lines = [f"  {label:<16}{value}" for label, value in facts.items()]
    assert outcome.text(found).splitlines() == ["Outcome of replaying with policy p2<", *lines]


def test_an_empty_trace_has_no_hit_ratio(read):
    assert read(outcome.html(Outcome("lru", 0, 0, 0, pd.DataFrame()))).facts()["hit ratio"] == "-"

"""A request on its way ends once, whoever is first."""

import time
from typing import Any

import pytest

from flstore.engine import RequestRecord
from flstore.errors import StoreClosedError
from flstore.results import Question
from flstore.workloads.base import Scope
from flstore.workloads.cosine_similarity import CosineSimilarity


class Interrupted(RequestRecord):
    """A record that lets another thread's work happen while an end is being noted."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "status" and value != "running":
            self.meanwhile()

    def meanwhile(self) -> None:
        pass


@pytest.mark.parametrize("first", ["finish", "fail"])
def test_an_end_that_is_being_noted_is_not_noted_twice(first: str) -> None:
    record = Interrupted(1, "FLStore", "job", "cosine_similarity", "P2")
    question = Question(CosineSimilarity(), Scope("job"), [], None, record, time.perf_counter())
    record.meanwhile = lambda: question.fail(StoreClosedError("the store was closed"))  # type: ignore[method-assign]
    if first == "finish":
        question.finish("answer")
        assert question.future.result(0).value == "answer"
        assert (record.status, record.error) == ("done", "")
    else:
        question.fail(ValueError("broken"))
        with pytest.raises(ValueError, match="broken"):
            question.future.result(0)
        assert record.error == "ValueError: broken"
    question.finish("late")
    question.fail(ValueError("later"))
    assert record.status == ("done" if first == "finish" else "failed")

"""Policies by name, and what is said about names and parameters that do not exist."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import pytest

from flstore import policies
from flstore.errors import InvalidParameterError, UnknownNameError
from flstore.policies import LRU, P1, P2, P3, P4, Policy, Tailored
from flstore.types import Unwant, Want


class Nothing(Policy):
    name: ClassVar[str] = "nothing"

    def decide(self, event: Any, view: Any) -> Iterable[Want | Unwant]:
        return ()


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that is put back afterwards."""
    monkeypatch.setattr(policies, "_POLICIES", dict(policies._POLICIES))


def test_the_papers_policies_have_their_names():
    known = {"tailored": Tailored, "p1": P1, "p2": P2, "p3": P3, "p4": P4, "lru": LRU}
    promised = "tailored tailored-limited p1 p2 p3 p4 lru fifo lfu random static adaptive belady"
    assert policies.names()[:13] == promised.split()
    assert {name: policies.get(name) for name in known} == known
    assert len(policies.names()) == len(set(policies.names()))
    assert [policies.get(name).name for name in policies.names()] == policies.names()


def test_a_name_makes_a_fresh_policy_with_its_parameters():
    first, second = policies.make("p2", window=3), policies.make("p2", window=3)
    assert isinstance(first, P2)
    assert first.window == 3
    assert first is not second
    instance = P2()
    assert policies.make(instance) is instance


@pytest.mark.parametrize(("name", "nearest"), [("tailord", "tailored"), ("LRU", None), ("p22", "p2")])
def test_an_unknown_name_is_told_the_nearest_one(name: str, nearest: str | None):
    for call in (policies.get, policies.make):
        with pytest.raises(UnknownNameError) as caught:
            call(name)
        message = str(caught.value)
        assert f"no policy named {name!r}" in message
        assert (f"Did you mean {nearest!r}?" in message) if nearest else ("Did you mean" not in message)
        assert all(known in message for known in policies.names())


def test_an_unknown_parameter_is_told_the_known_ones():
    with pytest.raises(
        InvalidParameterError, match=r"'tailored' has no parameter 'windows'; it has: .*window.*cursors"
    ):
        policies.make("tailored", windows=3)


def test_an_instance_takes_no_parameters():
    with pytest.raises(InvalidParameterError, match=r"'p2' is an instance already.*window"):
        policies.make(P2(), window=3)


@pytest.mark.usefixtures("registry")
def test_a_registered_policy_is_known_by_its_name():
    assert policies.register(Nothing) is Nothing
    assert policies.names()[-1] == "nothing"
    assert isinstance(policies.make("nothing"), Nothing)
    assert policies.register(Nothing) is Nothing  # a cell that runs twice
    with pytest.raises(InvalidParameterError, match="'nothing' has no parameter 'size'; it has: none"):
        policies.make("nothing", size=1)


@pytest.mark.usefixtures("registry")
def test_a_name_is_given_once():
    policies.register(Nothing)
    another = type("Another", (Nothing,), {})
    with pytest.raises(InvalidParameterError, match="policy named 'nothing' already: Nothing"):
        policies.register(another)
    assert policies.get("nothing") is Nothing


@pytest.mark.usefixtures("registry")
def test_a_class_that_is_defined_again_takes_the_place_of_the_old_one_only_under_another_name():
    again = type("P2", (P2,), {"name": "p2"})
    with pytest.raises(InvalidParameterError, match="'p2'"):
        policies.register(again)
    assert policies.get("p2") is P2


@pytest.mark.parametrize(
    "what",
    [object, Nothing(), dict, type("Nameless", (Policy,), {}), "lru"],
    ids=["class", "policy", "dict", "nameless", "word"],
)
def test_only_policies_with_a_name_can_be_registered(what: Any):
    before = policies.names()
    with pytest.raises(InvalidParameterError, match="not a Policy subclass with a name"):
        policies.register(what)
    assert policies.names() == before


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("p1", {"last": -1}, "last must not be negative, got -1"),
        ("p2", {"window": 0}, "window must be at least 1 round, got 0"),
        ("p3", {"cursors": 0}, "cursors must be at least 1, got 0"),
        ("p4", {"rounds": 0}, "rounds must be at least 1, got 0"),
        ("tailored", {"window": -2}, "window must be at least 1 round, got -2"),
        ("tailored", {"last": -1}, "last must not be negative"),
        ("tailored", {"rounds": 0}, "rounds must be at least 1"),
        ("tailored", {"cursors": 0}, "cursors must be at least 1"),
        ("lru", {"fill": "write-through"}, "fill must be one of write-around, write-allocate, got 'write-through'"),
        ("fifo", {"fill": ""}, "fill must be one of write-around, write-allocate, got ''"),
        ("lfu", {"fill": 1}, "fill must be one of write-around, write-allocate, got 1"),
        ("tailored-limited", {"share": 0}, "share must be above 0 and at most 1, got 0"),
        ("tailored-limited", {"share": 1.1}, r"share must be above 0 and at most 1, got 1\.1"),
        ("random", {"window": 0}, "window must be at least 1 round, got 0"),
        ("static", {"policy_class": "P5"}, "policy_class must be one of P1, P2, P3, P4, got 'P5'"),
        ("adaptive", {"rate": 0}, "rate must be positive, got 0"),
        ("adaptive", {"drift": 1.0}, r"drift must be at least 0 and below 1, got 1\.0"),
        ("adaptive", {"cursors": 0}, "cursors must be at least 1, got 0"),
        ("belady", {}, "policy 'belady' needs 'future'; a replay makes it from its requests"),
    ],
)
def test_parameters_out_of_range_are_refused(name: str, params: dict[str, Any], message: str):
    with pytest.raises(InvalidParameterError, match=message):
        policies.make(name, **params)

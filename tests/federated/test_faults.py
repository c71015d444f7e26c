"""Faulty clients in the app: exactly those named, in exactly the way that was said, and nobody is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flstore.errors import InvalidParameterError, UnknownNameError
from flstore.federated import Fault, build, observe, run, state_arrays
from flstore.federated.faults import DEFAULT_STRENGTH, read_faults

FEW = {"model": "mobilenet_v3_small", "rounds": 1, "per_round": 3, "clients": 3, "max_batches": 1, "progress": False}


def one_round(store: Any, **more: Any) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, dict[str, Any]]]:
    """Updates and metadata, by client, of a round in which all three train."""
    store.observe = lambda strategy: observe(store, strategy)
    run(**FEW, store=store, **more)
    store.flush()
    return store.updates(1), store.metadata(1)


@pytest.fixture(scope="module")
def initial() -> dict[str, np.ndarray]:
    return state_arrays(build("mobilenet_v3_small"))


@pytest.fixture(scope="module")
def learned() -> list[str]:
    return [name for name, _ in build("mobilenet_v3_small").named_parameters()]


@pytest.fixture(scope="module")
def honest() -> dict[str, dict[str, np.ndarray]]:
    from tests.federated.conftest import RecordingStore

    return one_round(RecordingStore())[0]


@pytest.mark.parametrize("fault", ["label-flip", "noise:2", "sign-flip", "scaled:4"])
def test_only_the_named_client_is_faulty_and_as_said(fault, recording_store, honest, initial, learned):
    updates, metadata = one_round(recording_store, faults={"1": fault})
    for client in ("0", "2"):
        assert all(np.array_equal(updates[client][k], v) for k, v in honest[client].items())
    buffers = set(initial) - set(learned)
    if fault != "label-flip":
        assert all(np.array_equal(updates["1"][name], honest["1"][name]) for name in buffers)
    assert all(updates["1"][name].dtype == array.dtype for name, array in initial.items())
    before = np.concatenate([(honest["1"][k] - initial[k]).ravel() for k in learned]).astype(float)
    after = np.concatenate([(updates["1"][k] - initial[k]).ravel() for k in learned]).astype(float)
    if fault in ("sign-flip", "scaled:4"):
        np.testing.assert_allclose(after, {"sign-flip": -1, "scaled:4": 4}[fault] * before, atol=1e-6)
    elif fault == "noise:2":
        assert np.linalg.norm(after - before) == pytest.approx(2 * np.linalg.norm(before), rel=1e-3)
    else:
        assert before @ after < 0.9 * np.linalg.norm(before) * np.linalg.norm(after)
    kind = fault.partition(":")[0]
    assert kind not in str(metadata)


def test_a_straggler_is_honest_and_late(recording_store, honest):
    updates, metadata = one_round(recording_store, faults={"2": "straggler:0.4"})
    assert all(np.array_equal(updates[c][k], v) for c in honest for k, v in honest[c].items())
    assert metadata["2"]["duration_s"] >= 0.4
    assert metadata["2"]["reply_s"] >= 0.4


def test_labels_flip_end_to_end_or_in_part():
    labels, rng = np.arange(10), np.random.default_rng(0)
    assert Fault.of("label-flip").labels(labels, 10, rng).tolist() == list(range(9, -1, -1))
    many = np.zeros(1000, np.int64)
    assert 200 < np.count_nonzero(Fault.of("label-flip:0.25").labels(many, 10, rng)) < 300
    assert Fault.of("noise").labels(labels, 10, rng) is labels


def test_noise_on_a_tensor_that_did_not_change_is_none():
    still = {"w": np.ones(3, np.float32), "empty": np.ones(0, np.float32), "scalar": np.float32(2.0).reshape(())}
    spoiled = Fault.of("noise").spoil(still, still, np.random.default_rng(0))
    assert all(np.array_equal(spoiled[k], v) for k, v in still.items())


@pytest.mark.parametrize("kind", DEFAULT_STRENGTH)
def test_a_fault_is_read_with_its_usual_strength_or_another(kind: str):
    assert Fault.of(kind) == Fault(kind, DEFAULT_STRENGTH[kind])
    assert Fault.of(f"{kind}:0.5") == Fault(kind, 0.5)
    assert Fault.of(Fault(kind, 0.25)).strength == 0.25


@pytest.mark.parametrize(
    ("faults", "error", "message"),
    [
        ({"1": "sleepy"}, UnknownNameError, "no fault named 'sleepy'"),
        ({"1": "sign_flip"}, UnknownNameError, "Did you mean 'sign-flip'"),
        ({"1": "scaled:many"}, InvalidParameterError, "'many' of the fault 'scaled' is no number: write scaled:10.0"),
        ({"1": "scaled:-1"}, InvalidParameterError, "must be positive"),
        ({"1": "noise:nan"}, InvalidParameterError, "must be positive"),
        ({"1": "straggler:inf"}, InvalidParameterError, "finite"),
        ({"1": "label-flip:1.5"}, InvalidParameterError, "at most 1.0"),
        ({"3": "noise"}, InvalidParameterError, "names the clients 3; the ids of 3 clients are '0' to '2'"),
    ],
)
def test_faults_that_cannot_be(faults, error, message):
    with pytest.raises(error, match=message):
        run(**FEW, faults=faults)
    assert read_faults(None, 3) == {}

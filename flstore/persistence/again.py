"""Reads that are made again when a remote store does not answer, and for how long."""

from __future__ import annotations

from typing import Any

import tenacity

from flstore.errors import FLStoreError

ATTEMPTS = 4
PATIENCE_S = 30.0
"""No attempt begins later than this after the first."""
FIRST_PAUSE_S = 0.1
S3_TIMEOUTS_S = {"connect_timeout": 5, "read_timeout": 15}
"""Seconds of silence after which one S3 request counts as failed."""
S3_RETRIES = {"mode": "standard", "total_max_attempts": 2}
"""The client library itself repeats each S3 request once: throttled, 5xx, no answer, no connection.

With these numbers whatever is read from a store that nobody can reach fails within 75 seconds: PATIENCE_S, and two
time-outs of the last attempt with a pause between them.
"""

_FINAL = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)
_OF_THE_LINE = {"ConnectionError", "HTTPClientError", "ClientPayloadError", "IncompleteRead", "IncompleteReadError"}
"""Errors of client libraries that are no OSError and may pass."""


def may_pass(error: BaseException) -> bool:
    """Whether what a file system raised may have gone when it is asked again."""
    if isinstance(error, OSError):
        return not isinstance(error, (*_FINAL, FLStoreError))
    return any(cls.__name__ in _OF_THE_LINE for cls in type(error).__mro__)


def _give_up(state: tenacity.RetryCallState) -> Any:
    """Raise what the last attempt raised, with a note of how often and how long it was tried."""
    assert state.outcome is not None
    error = state.outcome.exception()
    assert error is not None
    error.add_note(f"tried {state.attempt_number} times in {state.seconds_since_start or 0:.0f} s")
    raise error


again = tenacity.retry(
    stop=tenacity.stop_after_attempt(ATTEMPTS) | tenacity.stop_after_delay(PATIENCE_S),
    wait=tenacity.wait_random_exponential(multiplier=FIRST_PAUSE_S, max=2, min=FIRST_PAUSE_S),
    retry=tenacity.retry_if_exception(may_pass),
    retry_error_callback=_give_up,
)
"""Takes a function that reads, and returns one that reads again when that may help. (Writes: see the writer.)"""


def s3_options(options: dict[str, Any]) -> dict[str, Any]:
    """Options for s3fs with time-outs and retries where the caller has none of his own."""
    config = dict(options.get("config_kwargs") or {})
    return {**options, "config_kwargs": {**S3_TIMEOUTS_S, "retries": S3_RETRIES, **config}}

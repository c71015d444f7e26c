"""Every error that FLStore raises on purpose.

Each derives from :class:`FLStoreError` and, where one fits, from the builtin that Python code would expect. Messages
name the value that was wrong, the limit it met and the way out. All of them survive pickling, because they travel
between processes: their constructors take the message alone.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class FLStoreError(Exception):
    """Base of all errors of this package.

    Attributes
    ----------
    key : flstore.types.Key or None
        The object that it is about, where that is one that was read; it travels with the error.
    """

    key: Any = None

    def __str__(self) -> str:
        # KeyError would print the repr of the message.
        return str(self.args[0]) if self.args else ""


class InvalidIdError(FLStoreError, ValueError):
    """A job or client id that cannot name an object (empty, or too long once encoded)."""


class InvalidUpdateError(FLStoreError, ValueError):
    """Tensors that cannot be a client update, or that differ from their round. Nothing of the call was kept."""


class InvalidParameterError(FLStoreError, ValueError):
    """A parameter of a workload, policy, trace or store that is unknown or out of range."""


class UnknownNameError(FLStoreError, KeyError):
    """No workload, policy or model has this name; the message lists those that exist and the nearest one."""

    @classmethod
    def of(cls, what: str, name: str, known: Iterable[str]) -> UnknownNameError:
        """Build the message for an unknown `name` of a `what` (``"workload"``, ``"policy"``, ...)."""
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return cls(f"There is no {what} named {name!r}.{hint} Known: {', '.join(names)}.")


class UpdateNotFoundError(FLStoreError, KeyError):
    """A round, client update, aggregate or metadata that neither memory nor the persistent store holds."""


class UpdateExistsError(FLStoreError, FileExistsError):
    """Another update is stored under the same (job, round, client). The stored one is untouched."""


class StoreError(FLStoreError, OSError):
    """The persistent store could not be read or written. May be retried."""


class CorruptObjectError(StoreError):
    """A stored object whose bytes are not those that were written (torn, truncated or altered)."""


class WriterExistsError(StoreError):
    """Another process writes this job below this root, or has taken it over. Nothing of the call was kept."""


class ReaderError(FLStoreError, RuntimeError):
    """A store that only asks (``FLStore.attach``) was told to take something in."""


class CapacityError(MemoryError, FLStoreError):  # this order: MemoryError's own __new__ must be that of its first base
    """Data that does not fit the memory of a cache function. What was ingested is persisted all the same."""


class ClusterError(FLStoreError, ConnectionError):
    """A Dask cluster that cannot be used: its scheduler does not answer, or its workers run other versions."""


class FunctionLostError(FLStoreError, ConnectionError):
    """A cache function went away while it was needed, and no other could take over. May be retried."""


class RequestTimeoutError(FLStoreError, TimeoutError):
    """A request was not answered by its deadline. It may still be running on a function."""


class RequestError(FLStoreError, RuntimeError):
    """A workload raised while it ran on a cache function; the message holds what it said."""


class NotStagedError(FLStoreError, RuntimeError):
    """A model that is held in parts cannot be run part by part; it is put together on one function instead."""


class StoreClosedError(FLStoreError, RuntimeError):
    """The store was closed; open it again to go on."""


class PolicyError(FLStoreError, RuntimeError):
    """A caching policy raised or asked for something impossible; names the event that caused it.

    The event was applied without the policy: `actions` is what was decided.
    """

    actions: tuple[Any, ...] = ()


class OptionalDependencyError(FLStoreError, ImportError):
    """A package that this feature needs is not installed; the message says how to install it."""

    @classmethod
    def of(cls, package: str, extra: str, feature: str) -> OptionalDependencyError:
        """Say that `feature` needs `package`, which comes with the extra `extra`."""
        return cls(f'{feature} needs the package {package!r}: pip install "flstore[{extra}]"')


# Names by which an error crosses from a cache function back to its caller (never as a pickle).
BY_NAME: dict[str, type[FLStoreError]] = {
    cls.__name__: cls
    for cls in (
        InvalidIdError, InvalidUpdateError, InvalidParameterError, UnknownNameError, UpdateNotFoundError,
        UpdateExistsError, StoreError, CorruptObjectError, CapacityError, ClusterError, FunctionLostError, RequestError,
        RequestTimeoutError, NotStagedError, StoreClosedError, PolicyError, OptionalDependencyError, WriterExistsError,
        ReaderError,
    )
}  # fmt: skip

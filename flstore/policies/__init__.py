"""Caching policies, by name. To add one, see CONTRIBUTING.md.

A package adds its own with the entry point group ``flstore.policies`` (name = "package.module:Class"), which is looked
at only when a name is not known here; a notebook with :func:`register`.
"""

from __future__ import annotations

import inspect
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from flstore.errors import InvalidParameterError, UnknownNameError
from flstore.policies.adaptive import Adaptive
from flstore.policies.base import Policy
from flstore.policies.belady import Belady
from flstore.policies.fifo import FIFO
from flstore.policies.lfu import LFU
from flstore.policies.lru import LRU
from flstore.policies.p1 import P1
from flstore.policies.p2 import P2
from flstore.policies.p3 import P3
from flstore.policies.p4 import P4
from flstore.policies.random import Random
from flstore.policies.static import Static
from flstore.policies.tailored import Tailored
from flstore.policies.tailored_limited import TailoredLimited

__all__ = [
    "FIFO", "LFU", "LRU", "P1", "P2", "P3", "P4", "Adaptive", "Belady", "Policy", "Random", "Static", "Tailored",
    "TailoredLimited", "get", "make", "make_live", "names", "register",
]  # fmt: skip

ENTRY_POINTS = "flstore.policies"
_BUILT_IN: tuple[type[Policy], ...] = (
    Tailored, TailoredLimited, P1, P2, P3, P4, LRU, FIFO, LFU, Random, Static, Adaptive, Belady,
)  # fmt: skip

# What is built in and what register() adds in this process. A registry by name has to remember.
_POLICIES: dict[str, type[Policy]] = {cls.name: cls for cls in _BUILT_IN}


def names() -> list[str]:
    """Names of all policies: those built in, those registered here, those of installed packages.

    Examples
    --------
    >>> names()[:3]
    ['tailored', 'tailored-limited', 'p1']
    """
    return [*_POLICIES, *(name for name in _points() if name not in _POLICIES)]


def get(name: str) -> type[Policy]:
    """The policy class called `name`.

    Parameters
    ----------
    name : str
        One of :func:`names`.

    Raises
    ------
    UnknownNameError
        There is none; the message has the nearest one.
    InvalidParameterError
        The package that offers it cannot be imported, or what it offers is no policy of that name.
    """
    if name in _POLICIES:
        return _POLICIES[name]
    point = _points().get(name)
    if point is None:
        raise UnknownNameError.of("policy", name, names())
    return _loaded(point)


def make(policy: str | Policy, **params: Any) -> Policy:
    """A fresh policy by name, or the given instance.

    Parameters
    ----------
    policy : str or Policy
        A name, or an instance (which takes no parameters here).
    **params
        Parameters of its constructor.

    Raises
    ------
    UnknownNameError
        No policy has this name.
    InvalidParameterError
        The policy has no such parameter, those that it has are named; or it cannot be made without one.
    """
    if isinstance(policy, Policy):
        if params:
            raise InvalidParameterError(
                f"{policy.name!r} is an instance already; give {sorted(params)} to its constructor"
            )
        return policy
    cls = get(policy)
    known = inspect.signature(cls).parameters
    unknown = sorted(set(params) - set(known))
    if unknown:
        raise InvalidParameterError(
            f"policy {policy!r} has no parameter {unknown[0]!r}; it has: {', '.join(known) or 'none'}"
        )
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    missing = [p.name for p in known.values() if p.kind in plain and p.default is p.empty and p.name not in params]
    if missing:
        hint = "; a replay makes it from its requests" if cls.needs_future else ""
        raise InvalidParameterError(f"policy {policy!r} needs {', '.join(map(repr, missing))}{hint}")
    return cls(**params)


def make_live(policy: str | Policy, **params: Any) -> Policy:
    """As :func:`make`, for a store that is asked while it runs: a policy that takes the future is refused.

    Parameters
    ----------
    policy : str or Policy
        One of :func:`names`, or an instance.
    **params
        Parameters of the policy, where it is named.
    """
    chosen = get(policy) if isinstance(policy, str) else policy
    if chosen.needs_future:
        usable = ", ".join(cls.name for cls in _POLICIES.values() if not cls.needs_future)
        raise InvalidParameterError(
            f"policy {chosen.name!r} decides by requests that are still to come, which a live store cannot know: use "
            f"it in flstore.simulator.replay, or one of {usable} here"
        )
    return make(policy, **params)


def register(cls: type[Policy]) -> type[Policy]:
    """Make a policy known by its ``name`` in this process; usable as a decorator.

    Parameters
    ----------
    cls : type
        A subclass of :class:`Policy`.
    """
    _check(cls, repr(cls))
    if _POLICIES.get(cls.name, cls) is not cls:
        raise InvalidParameterError(f"there is a policy named {cls.name!r} already: {_POLICIES[cls.name].__name__}")
    _POLICIES[cls.name] = cls
    return cls


def _check(cls: Any, what: str) -> None:
    if not (isinstance(cls, type) and issubclass(cls, Policy)) or not isinstance(getattr(cls, "name", None), str):
        raise InvalidParameterError(f"{what} is not a Policy subclass with a name")


def _points() -> dict[str, EntryPoint]:
    """What installed packages offer; built-in and registered policies go before."""
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def _loaded(point: EntryPoint) -> type[Policy]:
    where = f"the policy {point.name!r} of the package {point.dist.name if point.dist else '?'!r} ({point.value})"
    try:
        cls = point.load()
    except Exception as error:  # whatever the other package does when it is imported
        raise InvalidParameterError(f"{where} cannot be imported: {error!r}; mend or uninstall that package") from error
    _check(cls, where)
    if cls.name != point.name:
        raise InvalidParameterError(f"{where} calls itself {cls.name!r}; name and entry point must be the same")
    found: type[Policy] = cls
    return found

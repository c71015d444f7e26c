"""Caching policies, by name. To add one, see CONTRIBUTING.md."""

from __future__ import annotations

import inspect
from typing import Any

from flstore.errors import InvalidParameterError, UnknownNameError
from flstore.policies.base import Policy
from flstore.policies.lru import LRU
from flstore.policies.p1 import P1
from flstore.policies.p2 import P2
from flstore.policies.p3 import P3
from flstore.policies.p4 import P4
from flstore.policies.tailored import Tailored

__all__ = ["LRU", "P1", "P2", "P3", "P4", "Policy", "Tailored", "get", "make", "names", "register"]

_POLICIES: dict[str, type[Policy]] = {cls.name: cls for cls in (Tailored, P1, P2, P3, P4, LRU)}


def names() -> list[str]:
    """Names of all registered policies."""
    return list(_POLICIES)


def get(name: str) -> type[Policy]:
    """The policy class called `name`; ``UnknownNameError`` names the nearest one."""
    if name not in _POLICIES:
        raise UnknownNameError.of("policy", name, _POLICIES)
    return _POLICIES[name]


def make(policy: str | Policy, **params: Any) -> Policy:
    """A fresh policy by name, or the given instance.

    Parameters
    ----------
    policy : str or Policy
        A registered name, or an instance (which takes no parameters here).
    **params
        Parameters of its constructor.

    Raises
    ------
    UnknownNameError
        No policy has this name.
    InvalidParameterError
        The policy has no such parameter; those that it has are named.
    """
    if isinstance(policy, Policy):
        if params:
            raise InvalidParameterError(
                f"{policy.name!r} is an instance already; give {sorted(params)} to its constructor"
            )
        return policy
    cls = get(policy)
    known = list(inspect.signature(cls).parameters)
    unknown = sorted(set(params) - set(known))
    if unknown:
        raise InvalidParameterError(
            f"policy {policy!r} has no parameter {unknown[0]!r}; it has: {', '.join(known) or 'none'}"
        )
    return cls(**params)


def register(cls: type[Policy]) -> type[Policy]:
    """Make a policy known by its ``name``; usable as a decorator."""
    if not (isinstance(cls, type) and issubclass(cls, Policy)) or not isinstance(getattr(cls, "name", None), str):
        raise InvalidParameterError(f"{cls!r} is not a Policy subclass with a name")
    if _POLICIES.get(cls.name, cls) is not cls:
        raise InvalidParameterError(f"there is a policy named {cls.name!r} already: {_POLICIES[cls.name].__name__}")
    _POLICIES[cls.name] = cls
    return cls

"""Learns which class predicts a workload: for those that fit no class (section 4.4's future work).

How it learns, what it promises and what a user's feedback does is explained in ``ADAPTIVE.md`` beside this file.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

import numpy as np

from flstore.errors import InvalidParameterError
from flstore.policies.base import Policy, View
from flstore.policies.ghosts import Ghosts
from flstore.policies.hedge import FixedShare, clearing_price
from flstore.policies.p1 import P1
from flstore.policies.p2 import P2
from flstore.policies.p3 import P3
from flstore.policies.p4 import P4
from flstore.types import (
    Deleted,
    Derive,
    Event,
    Feedback,
    FunctionJoined,
    FunctionLost,
    Ingested,
    KeySet,
    PolicyClass,
    Requested,
    Unwant,
    Want,
)

_CLASSES = (*PolicyClass, None)  # None: follow no class, want nothing
_DOUBT = (0.01, 0.01, 0.01, 0.01, 0.05)  # first weights of what the workload does not declare
_UNSAID, _USEFUL, _USELESS = 0.4, 0.8, 0.0  # what a hit of a request is worth
_MOST_RENT = 0.5  # above what a hit is worth, so that a class that takes too much has to go
_REMEMBERED = 1000  # requests that feedback may still be about
_PRICED_EVERY = 8  # requests
_SHORT = 0.5  # least price when what is followed takes more than all memory, whatever it gains
_FADING = 0.99  # of how often a workload asks, from one price to the next
_SMOOTHING = 0.05  # of what each class shows, from one request to the next
_Class: TypeAlias = P1 | P2 | P3 | P4 | None
_Said: TypeAlias = Want | Unwant | Derive


@dataclass(slots=True)
class _Stream:
    """One workload of one job: what each class would hold for it, what was learned, and the class that is followed."""

    job: int
    workload: str
    ghosts: Ghosts
    learner: FixedShare
    followed: _Class
    keys: float = 0.0  # asked for, of late
    shows: list[float] = field(default_factory=lambda: [0.0] * len(_CLASSES))  # part of its keys held, by class
    takes: list[float] = field(default_factory=lambda: [0.0] * len(_CLASSES))  # part of all memory, by class


class Adaptive(Policy):
    """Follow, for each (job, workload), the class that the requests themselves speak for.

    Every request is a trial of all four classes: each gains the part of its keys that it would have held. Weights
    learn from the gains by fixed share (:class:`flstore.policies.hedge.FixedShare`), which has a regret bound also
    where the best class changes, and a new workload starts with the class that it declares. The class that is
    followed decides alone.

    Parameters
    ----------
    seed : int, default 0
        Of the draws.
    rate : float, default 1.0
        The learning rate: how much one request counts.
    drift : float, default 0.001
        How probable it is, at each request, that another class becomes the best.
    window, last, rounds, cursors : int
        Of the classes, as for :class:`~flstore.policies.Tailored`.
    """

    name: ClassVar[str] = "adaptive"

    def __init__(
        self,
        seed: int = 0,
        rate: float = 1.0,
        drift: float = 0.001,
        window: int = 10,
        last: int = 10,
        rounds: int = 10,
        cursors: int = 10_000,
    ) -> None:
        if not rate > 0:
            raise InvalidParameterError(f"rate must be positive, got {rate!r}")
        if not 0 <= drift < 1:
            raise InvalidParameterError(f"drift must be at least 0 and below 1, got {drift!r}")
        P1(last), P2(window), P3(cursors), P4(rounds)  # what is wrong with these is said before anything is decided
        self._rate, self._drift = rate, drift
        self._window, self._last, self._rounds, self._cursors = window, last, rounds, cursors
        self.seed = seed
        self._random = random.Random(seed)
        self._streams: dict[tuple[int, str], _Stream] = {}
        self._gains: dict[int, tuple[_Stream, tuple[float, ...], float]] = {}
        self._price = 0.0  # of all memory, in what hits are worth, for each key asked for
        self._keys = 1.0
        self._requests = 0

    def classes(self) -> dict[tuple[int, str], PolicyClass | None]:
        """The class that is followed for each (job, workload)."""
        return {at: _CLASSES[stream.learner.chosen] for at, stream in self._streams.items()}

    def decide(self, event: Event, view: View) -> Iterable[_Said]:
        """Judge the classes by the request, then let the one that is followed decide."""
        if isinstance(event, Requested):
            return self._requested(event, view)
        if isinstance(event, Feedback):
            return self._heard(event, view)
        if isinstance(event, Ingested):
            job = event.keys.job
            return [want for s in self._streams.values() if s.job == job for want in _ask(s, event, view)]
        if isinstance(event, Deleted):
            return [want for s in self._streams.values() for want in self._deleted(s, event, view)]
        if isinstance(event, FunctionJoined | FunctionLost):
            self._price = 0.0  # memory is another now
        return ()

    def _requested(self, event: Requested, view: View) -> Iterable[_Said]:
        stream = self._streams.get((event.job, event.workload))
        if stream is None:
            stream = self._new(event)
            stream.ghosts.see(event)
            return [*self._arm(stream, view), *_ask(stream, event, view)]
        shares = (*stream.ghosts.shares(event, view), 0.0)
        self._weigh(stream, event, shares, view)
        gains = [_UNSAID * share for share in shares]
        if self._price:
            rent = self._price * self._keys / stream.keys
            gains = [
                gain / max(1.0, takes) - min(_MOST_RENT, rent * takes)
                for gain, takes in zip(gains, stream.takes, strict=True)
            ]
        changed = stream.learner.reward(gains)
        if max(shares) > 0:
            self._gains[event.request] = (stream, shares, _UNSAID)
            if len(self._gains) > _REMEMBERED:
                del self._gains[next(iter(self._gains))]
        stream.ghosts.see(event)
        if not changed:
            return _ask(stream, event, view)
        return [*self._change(stream, view), *_ask(stream, event, view)]

    def _new(self, event: Requested) -> _Stream:
        prior = list(_DOUBT)
        prior[_CLASSES.index(event.policy_class)] += 1 - sum(_DOUBT)
        learner = FixedShare(prior, self._rate, self._drift, self._random)
        ghosts = Ghosts(event.job, self._last, self._window, self._rounds, self._cursors)
        at = (event.job, event.workload)
        keys = sum(map(len, event.keys))
        self._streams[at] = _Stream(*at, ghosts, learner, self._make(learner.chosen, at), keys)
        return self._streams[at]

    def _make(self, chosen: int, at: tuple[int, str]) -> _Class:
        chosen_class = _CLASSES[chosen]
        if chosen_class is PolicyClass.P1:
            return P1(self._last, (self.name, chosen_class, *at))
        if chosen_class is PolicyClass.P2:
            return P2(self._window)
        if chosen_class is PolicyClass.P3:
            return P3(self._cursors)
        return None if chosen_class is None else P4(self._rounds, (self.name, chosen_class, *at))

    def _weigh(self, stream: _Stream, event: Requested, shares: tuple[float, ...], view: View) -> None:
        """Note what the classes show, and now and then what they take, and what memory is worth by that."""
        stream.keys += sum(map(len, event.keys))
        stream.shows = [old + _SMOOTHING * (new - old) for old, new in zip(stream.shows, shares, strict=True)]
        self._requests += 1
        if self._requests % _PRICED_EVERY:
            return
        capacity = max(1, view.capacity_bytes)
        for each in self._streams.values():
            each.takes = [taken / capacity for taken in each.ghosts.footprints(view)] + [0.0]
            each.keys *= _FADING
        self._keys = sum(each.keys for each in self._streams.values())
        price = clearing_price(
            [
                [(each.keys / self._keys * shows / max(1.0, takes), min(1.0, takes))
                 for shows, takes in zip(each.shows, each.takes, strict=True)]
                for each in self._streams.values()
            ]
        )  # fmt: skip
        taken = sum(each.takes[each.learner.chosen] for each in self._streams.values())
        self._price = _UNSAID * max(price, _SHORT if taken > 1 else 0.0)

    def _change(self, stream: _Stream, view: View) -> list[_Said]:
        """Let go of what the class wanted that was followed, and bring the other one to where it would stand."""
        gone = [] if stream.followed is None else stream.followed.release()
        stream.followed = self._make(stream.learner.chosen, (stream.job, stream.workload))
        return [*gone, *self._arm(stream, view)]

    def _arm(self, stream: _Stream, view: View) -> Iterator[_Said]:
        chosen, followed = _CLASSES[stream.learner.chosen], stream.followed
        if chosen is None or followed is None:
            return
        asked = stream.ghosts.past(chosen)
        past = tuple(there for keys in asked if len(there := _existing(keys, view)))
        if past:
            yield from followed.decide(Requested(0, stream.job, stream.workload, chosen, None, None, past), view)
        if isinstance(followed, P1 | P4):
            yield from followed.follow(stream.job, view)

    def _deleted(self, stream: _Stream, event: Deleted, view: View) -> Iterable[_Said]:
        mine = tuple(keys for keys in event.keys if keys.job == stream.job)
        if not mine:
            return ()
        stream.ghosts.forget(event)
        return _ask(stream, Deleted(mine), view)

    def _heard(self, event: Feedback, view: View) -> list[_Said]:
        """A hit of a request that was of use counts twice as much as one of which nothing is said, else not at all."""
        known = self._gains.get(event.request)
        if known is None:
            return []
        stream, gains, counted = known
        counts = _USEFUL if event.useful else _USELESS
        self._gains[event.request] = (stream, gains, counts)
        if not stream.learner.reward([(counts - counted) * gain for gain in gains], drift=False):
            return []
        return self._change(stream, view)


def _ask(stream: _Stream, event: Event, view: View) -> Iterable[_Said]:
    return () if stream.followed is None else stream.followed.decide(event, view)


def _existing(keys: KeySet, view: View) -> KeySet:
    there = view.size(keys) > 0
    if there.all():
        return keys
    if isinstance(keys.clients, int):
        return KeySet(keys.job, keys.kind, np.asarray(keys.rounds)[there], keys.clients)
    return KeySet(keys.job, keys.kind, keys.rounds, keys.clients[there])

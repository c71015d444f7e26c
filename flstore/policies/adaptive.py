"""Learns which class predicts a workload: for those that fit no class (section 4.4's future work).

How it learns, what it promises and what a user's feedback does is explained in ``ADAPTIVE.md`` beside this file.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

from flstore.errors import InvalidParameterError
from flstore.policies.base import Policy, View
from flstore.policies.ghosts import Ghosts
from flstore.policies.hedge import FixedShare
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
    PolicyClass,
    Requested,
    Unwant,
    Want,
)

_CLASSES = tuple(PolicyClass)
_DOUBT = 0.01  # first weight of each class that the workload does not declare
_UNSAID, _USEFUL, _USELESS = 0.5, 1.0, 0.0  # what a hit of a request is worth
_REMEMBERED = 1000  # requests that feedback may still be about
_SMOOTHING = 0.1  # of what a class delivers of what it promises
_Class: TypeAlias = P1 | P2 | P3 | P4
_Said: TypeAlias = Want | Unwant | Derive


@dataclass(slots=True)
class _Stream:
    """One workload of one job: what each class would hold for it, what was learned, and the class that is followed."""

    job: int
    workload: str
    ghosts: Ghosts
    learner: FixedShare
    followed: _Class
    delivers: list[float] = field(default_factory=lambda: [1.0] * len(_CLASSES))


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
        self._random = random.Random(seed)
        self._streams: dict[tuple[int, str], _Stream] = {}
        self._gains: dict[int, tuple[_Stream, tuple[float, ...], float]] = {}

    def classes(self) -> dict[tuple[int, str], PolicyClass]:
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
            return [want for s in self._streams.values() if s.job == job for want in s.followed.decide(event, view)]
        if isinstance(event, Deleted):
            return [want for s in self._streams.values() for want in self._deleted(s, event, view)]
        if isinstance(event, FunctionJoined | FunctionLost):
            for stream in self._streams.values():
                stream.delivers = [1.0] * len(_CLASSES)  # memory is another now
        return ()

    def _requested(self, event: Requested, view: View) -> Iterable[_Said]:
        stream = self._streams.get((event.job, event.workload))
        if stream is None:
            stream = self._new(event)
            stream.ghosts.see(event)
            return [*self._arm(stream, view), *stream.followed.decide(event, view)]
        shares = stream.ghosts.shares(event, view)
        self._measure(stream, event, shares[stream.learner.chosen], view)
        gains = tuple([share * part for share, part in zip(shares, stream.delivers, strict=True)])
        changed = stream.learner.reward([_UNSAID * gain for gain in gains])
        if max(gains) > 0:
            self._gains[event.request] = (stream, gains, _UNSAID)
            if len(self._gains) > _REMEMBERED:
                del self._gains[next(iter(self._gains))]
        stream.ghosts.see(event)
        if not changed:
            return stream.followed.decide(event, view)
        return [*self._change(stream, view), *stream.followed.decide(event, view)]

    def _new(self, event: Requested) -> _Stream:
        prior = [_DOUBT] * len(_CLASSES)
        prior[_CLASSES.index(event.policy_class)] = 1 - _DOUBT * (len(_CLASSES) - 1)
        learner = FixedShare(prior, self._rate, self._drift, self._random)
        ghosts = Ghosts(event.job, self._last, self._window, self._rounds, self._cursors)
        at = (event.job, event.workload)
        self._streams[at] = _Stream(*at, ghosts, learner, self._make(learner.chosen, at))
        return self._streams[at]

    def _make(self, chosen: int, at: tuple[int, str]) -> _Class:
        match _CLASSES[chosen]:
            case PolicyClass.P1:
                return P1(self._last, (self.name, PolicyClass.P1, *at))
            case PolicyClass.P2:
                return P2(self._window)
            case PolicyClass.P3:
                return P3(self._cursors)
            case _:
                return P4(self._rounds, (self.name, PolicyClass.P4, *at))

    @staticmethod
    def _measure(stream: _Stream, event: Requested, promised: float, view: View) -> None:
        """Compare what the followed class would hold, given the memory for it, with what is held."""
        if not promised:
            return
        held = [view.held(keys) for keys in event.keys]
        share = sum(int(h.sum()) for h in held) / sum(map(len, held))
        chosen = stream.learner.chosen
        stream.delivers[chosen] += _SMOOTHING * (min(1.0, share / promised) - stream.delivers[chosen])

    def _change(self, stream: _Stream, view: View) -> list[_Said]:
        """Let go of what the class wanted that was followed, and bring the other one to where it would stand."""
        gone = stream.followed.release()
        stream.followed = self._make(stream.learner.chosen, (stream.job, stream.workload))
        return [*gone, *self._arm(stream, view)]

    def _arm(self, stream: _Stream, view: View) -> Iterator[_Said]:
        chosen, followed = _CLASSES[stream.learner.chosen], stream.followed
        past = tuple(keys for keys in stream.ghosts.past(chosen) if view.size(keys).all())
        if past:
            yield from followed.decide(Requested(0, stream.job, stream.workload, chosen, None, None, past), view)
        if isinstance(followed, P1 | P4):
            yield from followed.follow(stream.job, view)

    def _deleted(self, stream: _Stream, event: Deleted, view: View) -> Iterable[_Said]:
        mine = tuple(keys for keys in event.keys if keys.job == stream.job)
        if not mine:
            return ()
        stream.ghosts.forget(event)
        return stream.followed.decide(Deleted(mine), view)

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

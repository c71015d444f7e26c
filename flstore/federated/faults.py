"""Clients that do their work wrong, each in one of the ways that debugging and filtering are to find."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flstore.errors import InvalidParameterError, UnknownNameError

DEFAULT_STRENGTH = {"label-flip": 1.0, "noise": 3.0, "sign-flip": 1.0, "scaled": 10.0, "straggler": 1.0}
"""The ways to be faulty, and how much of it there is when nothing else is said."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a client.

    Attributes
    ----------
    kind : str
        ``"label-flip"``: class c of k is trained as class k - 1 - c. ``"noise"``: normal noise is added to each tensor
        of the update (what it changed). ``"sign-flip"``: the update points the other way. ``"scaled"``: it is
        multiplied. ``"straggler"``: the client is honest, and answers late.
    strength : float
        For ``noise`` the norm of the noise in units of the norm of the update, tensor by tensor; for ``sign-flip`` and
        ``scaled`` the factor; for ``straggler`` the seconds that it really waits before it answers; for ``label-flip``
        the share of the labels that is flipped.

    Examples
    --------
    >>> Fault.of("scaled:5")
    Fault(kind='scaled', strength=5.0)
    """

    kind: str
    strength: float

    def __post_init__(self) -> None:
        if self.kind not in DEFAULT_STRENGTH:
            raise UnknownNameError.of("fault", self.kind, DEFAULT_STRENGTH)
        most = 1.0 if self.kind == "label-flip" else float("inf")
        if not 0 < self.strength <= most or self.strength == float("inf"):
            raise InvalidParameterError(
                f"the strength {self.strength} of the fault {self.kind!r} must be positive, finite and at most {most}; "
                f"usual is {DEFAULT_STRENGTH[self.kind]}"
            )

    @classmethod
    def of(cls, text: str | Fault) -> Fault:
        """Read ``"kind"`` or ``"kind:strength"``; a fault is returned as it is.

        Raises
        ------
        UnknownNameError
            There is no such kind.
        InvalidParameterError
            The strength is no number, or out of range.
        """
        if isinstance(text, Fault):
            return text
        kind, _, strength = text.partition(":")
        if kind not in DEFAULT_STRENGTH:
            raise UnknownNameError.of("fault", kind, DEFAULT_STRENGTH)
        try:
            return cls(kind, float(strength) if strength else DEFAULT_STRENGTH[kind])
        except ValueError as error:
            if isinstance(error, InvalidParameterError):
                raise
            raise InvalidParameterError(
                f"the strength {strength!r} of the fault {kind!r} is no number: write {kind}:{DEFAULT_STRENGTH[kind]}"
            ) from None

    def labels(self, labels: NDArray[np.int64], classes: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """The labels that the client trains on: those given, unless this is a label flip."""
        if self.kind != "label-flip":
            return labels
        if self.strength == 1.0:
            return classes - 1 - labels
        flipped = rng.random(len(labels)) < self.strength
        return np.where(flipped, classes - 1 - labels, labels)

    def spoil(
        self,
        before: Mapping[str, NDArray[Any]],
        after: Mapping[str, NDArray[Any]],
        rng: np.random.Generator,
        names: Collection[str] | None = None,
    ) -> dict[str, NDArray[Any]]:
        """The model that the client sends, from the one it got and the one it trained.

        Parameters
        ----------
        before, after : mapping of str to ndarray
            Tensors by name, with equal names and shapes.
        rng : numpy.random.Generator
            Of the noise.
        names : collection of str, optional
            Tensors that are spoiled; default all. Those of a network are its parameters: a variance that batch
            normalisation keeps would turn negative, and the network's answers NaN.

        Returns
        -------
        dict of str to ndarray
            With the dtypes of `after`.
        """
        spoiled = dict(after)
        for name in after if names is None else names:
            delta = after[name] - before[name]
            if self.kind == "sign-flip":
                delta = -self.strength * delta
            elif self.kind == "scaled":
                delta = self.strength * delta
            elif self.kind == "noise":
                noise = rng.normal(size=delta.shape)
                if delta.size:
                    delta = delta + self.strength * np.linalg.norm(delta) / np.linalg.norm(noise) * noise
            else:
                continue
            spoiled[name] = (before[name] + delta).astype(after[name].dtype)
        return spoiled

    @property
    def delay_s(self) -> float:
        """Seconds that the client waits before it answers."""
        return self.strength if self.kind == "straggler" else 0.0


def read_faults(faults: Mapping[str, str | Fault] | None, clients: int) -> dict[str, Fault]:
    """Faults by client id, checked.

    Parameters
    ----------
    faults : mapping of str to str or Fault, optional
        By client id ("0", "1", ...), as :meth:`Fault.of` reads them.
    clients : int
        Number of clients.

    Raises
    ------
    InvalidParameterError
        There is no such client.
    UnknownNameError
        There is no such fault.

    Examples
    --------
    >>> read_faults({"3": "label-flip", "7": "straggler:0.5"}, clients=10)["7"].delay_s
    0.5
    """
    known = {str(i) for i in range(clients)}
    strangers = sorted(set(map(str, faults or {})) - known)
    if strangers:
        raise InvalidParameterError(
            f"faults names the clients {', '.join(strangers)}; the ids of {clients} clients are '0' to '{clients - 1}'"
        )
    return {str(client): Fault.of(fault) for client, fault in (faults or {}).items()}

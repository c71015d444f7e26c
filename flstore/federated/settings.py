"""How each network is trained so that it learns the digits, and why so: one table, which :func:`run` reads."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from flstore.errors import InvalidParameterError, UnknownNameError

OPTIMIZERS = ("sgd", "adamw")


@dataclass(frozen=True, slots=True)
class Settings:
    """How clients train, and for how long.

    Attributes
    ----------
    rounds : int
        Rounds after which the network gets clearly more than 80 % of the held-out digits right, when 10 of 50 clients
        train in each.
    optimizer : {"sgd", "adamw"}
        Each client makes a new one in each round: what it remembers does not travel.
    lr : float
        Learning rate.
    momentum : float
        Of SGD; AdamW has its usual ones.
    weight_decay : float
        Of either.
    epochs : int
        Passes over the client's images in a round.
    batch_size : int
        About so many images a step: a client's images are cut into even batches.
    clip_norm : float
        Gradients with a larger norm are scaled down to it; infinite for never.
    """

    rounds: int = 8
    optimizer: str = "sgd"
    lr: float = 0.05
    momentum: float = 0.0
    weight_decay: float = 0.0
    epochs: int = 2
    batch_size: int = 16
    clip_norm: float = math.inf

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise UnknownNameError.of("optimizer", self.optimizer, OPTIMIZERS)
        for name in ("rounds", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise InvalidParameterError(f"{name}={getattr(self, name)} must be at least 1")
        if not 0 < self.lr < math.inf:
            raise InvalidParameterError(f"lr={self.lr} must be positive and finite; 0.05 suits resnet18 with SGD")
        if not 0 <= self.momentum < 1:
            raise InvalidParameterError(f"momentum={self.momentum} must be at least 0 and below 1; 0.9 is a usual one")
        if not 0 <= self.weight_decay < math.inf or not self.clip_norm > 0:
            raise InvalidParameterError(
                f"weight_decay={self.weight_decay}, clip_norm={self.clip_norm}: the norm must be positive (infinite "
                "for none), the decay not negative and finite"
            )

    def config(self) -> dict[str, Any]:
        """What a client is told of it, under the names of Flower's configurations; the rounds are the server's.

        Without ``clip-norm`` when that is infinite, because not every format of metadata can hold it.
        """
        clip = {"clip-norm": float(self.clip_norm)} if self.clip_norm < math.inf else {}
        return {
            "optimizer": self.optimizer,
            "lr": float(self.lr),
            "momentum": float(self.momentum),
            "weight-decay": float(self.weight_decay),
            "epochs": self.epochs,
            "batch-size": self.batch_size,
            **clip,
        }


def settings_for(
    model: str, settings: Settings | None = None, *, rounds: int | None = None, lr: float | None = None
) -> Settings:
    """What a run takes: the settings given or those of the model's name, with what was said apart from them.

    Raises
    ------
    UnknownNameError
        There are no settings for the model, and none were given.
    InvalidParameterError
        A number out of range.
    """
    if settings is None:
        if model not in SETTINGS:
            raise UnknownNameError.of("model", model, SETTINGS)
        settings = SETTINGS[model]
    said: dict[str, Any] = {name: value for name, value in (("rounds", rounds), ("lr", lr)) if value is not None}
    return replace(settings, **said)


# The order of the paper. What each network needs beside this is in models._suit_clients.
SETTINGS = {
    # SGD that trains resnet18 gives 0.10 after six rounds here: forty blocks of depthwise layers have gradients of very
    # different sizes, and a rate that moves some of them makes the others diverge. AdamW gives each weight its own.
    "efficientnet_v2_s": Settings(rounds=12, optimizer="adamw", lr=5e-4),
    # Shallow and with normal convolutions, so that the plainest there is suffices.
    "resnet18": Settings(rounds=8, lr=0.05),
    # Twice the rate: its last layer starts with weights of size 0.01, and for the first ten rounds it moves little.
    "mobilenet_v3_small": Settings(rounds=20, lr=0.1),
    # A transformer needs many small steps. Its layers normalise over channels, not over a batch: batches of four give
    # four times as many steps from the same images, where batches of 16 learned nothing in two rounds at 3e-4. The
    # norm is clipped because the first gradients of a new AdamW are large in every round of every client.
    "swin_v2_t": Settings(rounds=14, optimizer="adamw", lr=2e-4, batch_size=4, clip_norm=1.0),
}
"""How each of :data:`~flstore.federated.MODELS` is trained; with these all pass 0.8 on the held-out digits."""

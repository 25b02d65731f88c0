"""What differs between online methods in a trainer: how it trains, and what it measures for a hyper-step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from selftune.data.drawn import Drawn
from selftune.data.nested import moved
from selftune.methods.reports import Hypergradient
from selftune.methods.work_orders import Train
from selftune.shapes import Float, Tensor
from selftune.training.lower_level import LowerLevel

Measures = dict[str, Float[Tensor, ""]]
"""Numbers on the device, by name."""


class HypergradientEstimator(ABC):
    """One method's way to train a network and to see how its validation loss answers the hyperparameters.

    Args:
        lower: the network, its regularizers and its optimizer.
        settings: the estimator's own, as its orders carry them.
    """

    differentiates: ClassVar[bool] = True
    """Whether it differentiates the training loss in the hyperparameters."""
    looks_back: ClassVar[bool] = True
    """Whether a hypergradient looks at training batches, so that a loop of one's own has to keep some."""
    moves: ClassVar[bool] = True
    """Whether hyperparameters move by what it finds, so that each of them has to have an effect."""
    lower: LowerLevel
    values: Mapping[str, Any]
    """The hyperparameters of the cycle, by name."""
    unconstrained: Float[Tensor, "n"]
    """The same as one unconstrained vector."""
    hyper_step: int
    """The number of the hyper-step that the cycle leads to."""

    def __init__(self, lower: LowerLevel, settings: Mapping[str, Any]) -> None:
        self.lower = lower

    def begin(self, order: Train) -> None:
        """A cycle begins; a method that has more to say than ``Train`` holds has orders of a class of its own."""
        both = order.values.constrained, order.values.unconstrained
        constrained, self.unconstrained = moved(both, self.lower.device)
        self.values = self.lower.space.unpack(constrained)
        self.hyper_step = order.values.version

    def train(self, number: int) -> Float[Tensor, ""]:
        """One training step; returns its loss, detached."""
        loss = self.lower.train(number, self.values)
        self.after_step(number, self.lower.batches.at(number))
        return loss

    def after_step(self, number: int, drawn: Drawn) -> None:  # noqa: B027
        """What the estimator does after every training step, on the same batch."""

    @abstractmethod
    def hypergradient(self, number: int) -> tuple[Hypergradient, Measures]:
        """What the method moves by, and measures such as ``validation_loss``: all of it on the device.

        Nothing in it should wait for the device; who asked looks at everything at once (``training/look.py``).
        ``number`` is that of the next training step.
        """

    @property
    def responding(self) -> frozenset[str] | None:
        """Names of the parameters that respond to the hyperparameters; None where no response is fitted."""
        return None

    def close(self) -> None:  # noqa: B027
        """Gives the network's layers their own classes back, where they were changed."""

    def export(self, state: dict[str, Tensor], unconstrained: Float[Tensor, "n"] | None) -> None:  # noqa: B027
        """At the end: turns the trained tensors, by name, into those of the plain network, in place."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that later steps and hypergradients depend on, beside the network."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027
        """Goes on where ``state_dict`` was taken."""

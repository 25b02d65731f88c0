"""Augmentations that move the pixels of images by an affine map, one per example."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from selftune.objectives.common.magnitude import Magnitude
from selftune.objectives.mathematics.warping import Images, Map, composed, warped

from selftune.hyperparameters import Choice, Hyperparameter
from selftune.networks.precision import widened
from selftune.regularization.regularizer import Order
from selftune.regularization.step import Step
from selftune.shapes import Tensor

PADDING = Hyperparameter("padding", Choice(("zeros", "border", "reflection")), "zeros", online=False, smooth=False)
"""What lies outside of an image."""

_LAST = "_last_warp"


@dataclass(frozen=True)
class _Warp:
    """How the images of a step came from others."""

    source: Images
    places: Map
    padding: str
    images: Tensor


class Warp(Magnitude):
    """Base of what moves pixels.

    Those that follow each other in a step act as one map on the images before the first of them: every
    interpolation blurs, and what left the image would be lost. ``warped`` leaves what is not moved as it is.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"inputs", "images", "real_inputs"})
    order: ClassVar[Order] = "geometry"

    @abstractmethod
    def places(self, step: Step) -> Map:
        """The maps of this step, one per example."""

    def batch(self, step: Step) -> None:
        padding, places = self.value(step, "padding"), self.places(step)
        before: _Warp | None = step.__dict__.get(_LAST)
        source = step.inputs
        if before is not None and before.images is step.inputs and before.padding == padding:
            source, places = before.source, composed(before.places, places)
        step.inputs = warped(widened(source), places, padding).to(source.dtype)
        step.__dict__[_LAST] = _Warp(source, places, padding, step.inputs)

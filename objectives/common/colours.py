"""Augmentations that change the colours of images, which need to know what black and white are."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from selftune.objectives.common.magnitude import Magnitude

from selftune.errors import SettingError
from selftune.networks.precision import widened
from selftune.regularization.quantity import Quantity, quantities
from selftune.regularization.regularizer import Order
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor

if TYPE_CHECKING:
    from selftune.lower_level.objective import NetworkObjective

quantities.declare(
    Quantity(
        "pixel_range",
        ("ends", ...),
        "float",
        "the values of black and white: two numbers, or two for every channel, as rows",
    )
)

_SLACK = 0.02  # of the range: what rounding and interpolation add


class Colours(Magnitude):
    """Base of what changes colours: pixels become numbers in [0, 1], are changed, and go back to their range."""

    needs: ClassVar[frozenset[str]] = frozenset({"inputs", "images", "real_inputs", "pixel_range"})
    order: ClassVar[Order] = "colour"
    of_colours: ClassVar[bool] = False
    """Whether it needs red, green and blue, so that grey images are refused."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._checked = False

    def bind(self, objective: NetworkObjective, offered: frozenset[str] | None = None) -> None:
        super().bind(objective, offered)
        channels = objective.inputs(objective.example(1)).shape[1]
        if self.of_colours and channels != 3:
            raise SettingError(
                "",
                f"{self.name} needs images with three channels, red, green and blue, but these have {channels};"
                " leave it out",
            )

    @abstractmethod
    def change(
        self, pixels: Float[Tensor, "batch channels height width"], amount: Float[Tensor, "batch"]
    ) -> Float[Tensor, "batch channels height width"]:
        """The pixels, in [0, 1], with other colours; an amount of zero leaves them as they are."""

    def batch(self, step: Step) -> None:
        black, white = (_for_channels(end) for end in step.pixel_range.to(step.inputs.device))
        images = widened(step.inputs)
        if not self._checked:
            self._check(images, black, white)
        pixels = (images - black) / (white - black)
        changed = self.change(pixels, self.drawn(step).to(images))
        step.inputs = (black + (white - black) * changed).to(step.inputs.dtype)

    def _check(self, images: Tensor, black: Tensor, white: Tensor) -> None:
        """Refuses a range in which the first batch does not lie: all of it would become black or white.

        Raises:
            SettingError: naming both.
        """
        slack = _SLACK * (white - black).abs()
        if bool(((images < black - slack) | (images > white + slack)).any()):
            least, most = float(images.min()), float(images.max())
            raise SettingError(
                "",
                f"{self.name}: pixels lie between {least:.4g} and {most:.4g}, but the quantity pixel_range says"
                f" that black is {_shown(black)} and white {_shown(white)}; give the range of pixels as the batch"
                " has them",
            )
        self._checked = True


def _for_channels(end: Tensor) -> Tensor:
    return end.reshape(-1, 1, 1) if end.ndim else end


def _shown(end: Tensor) -> str:
    return ", ".join(f"{value:.4g}" for value in end.flatten().tolist())

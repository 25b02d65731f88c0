"""Denoising by smoothed total variation: its weight and its smoothing length are learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from selftune.objectives.common.denoising import STEEPEST, Denoising, load_pairs

from selftune.hyperparameters import Hyperparameter, Positive
from selftune.lower_level.objective import tasks
from selftune.lower_level.smooth_objective import Constants, Tree
from selftune.shapes import Float, Tensor

STRENGTH = "total_variation.strength"
SMOOTHING = "total_variation.smoothing"
Pictures = Float[Tensor, "pictures height width"]


@dataclass
class TotalVariationDenoising(Denoising):
    """Regularizer ``0.5 strength sum sqrt(difference^2 + smoothing^2)`` over vertical and horizontal differences.

    Differences are those between neighbouring pixels, none across the border. Hyperparameters:
    ``total_variation.strength`` and ``total_variation.smoothing``, both tuned as logarithms.

    Args:
        train_crops, validation_crops, test_crops: crops per split.
        crop: rows and columns of a crop.
        noise: standard deviation of the noise, for pixels in [0, 1].
        file: Parquet file of crops (columns ``image``, PNG files as bytes, and ``split``) that replaces
            scikit-image's photographs; it decides count and size of the crops.
        seed: decides the crops and the noise.
        dtype, device: of all tensors.

    Raises:
        SettingError: if a setting is out of range, the device is not there, or the file cannot be used.

    >>> task = TotalVariationDenoising(train_crops=1, validation_crops=1, test_crops=1, crop=16)
    >>> task.parameters()["pictures"].shape
    torch.Size([1, 16, 16])
    """

    train_crops: int = 8
    validation_crops: int = 4
    test_crops: int = 4
    crop: int = 64
    noise: float = 0.1
    file: str | None = None
    seed: int = 0
    dtype: Literal["float64", "float32"] = "float64"
    device: str = "cpu"

    def __post_init__(self) -> None:
        counts = {"train": self.train_crops, "validation": self.validation_crops, "test": self.test_crops}
        pairs = load_pairs(counts, self.crop, self.noise, self.seed, self.file, self.dtype, self.device)
        super().__init__(pairs)
        self.hyperparameters = (
            Hyperparameter(STRENGTH, Positive((1e-4, 10.0)), 1e-2, tuned=True, shared=True),
            Hyperparameter(SMOOTHING, Positive((1e-4, 1.0)), 1e-2, tuned=True, shared=True),
        )

    def regularizer(self, x: Pictures, values: Mapping[str, Any]) -> Float[Tensor, ""]:
        squared = values[SMOOTHING] ** 2
        sizes = [torch.sqrt(difference.square() + squared).sum() for difference in _differences(x)]
        variation: Tensor = 0.5 * values[STRENGTH] * sum(sizes)
        return variation

    def regularizer_gradient(self, x: Pictures, values: Mapping[str, Any]) -> Pictures:
        squared = values[SMOOTHING] ** 2
        slopes = (d * torch.rsqrt(d.square() + squared) for d in _differences(x))
        gradient: Tensor = 0.5 * values[STRENGTH] * _adjoint(*slopes)
        return gradient

    def regularizer_product(self, x: Pictures, values: Mapping[str, Any]) -> Callable[[Pictures], Pictures]:
        squared = values[SMOOTHING] ** 2
        scale = 0.5 * values[STRENGTH] * squared
        rows, columns = (scale * (d.square() + squared).pow(-1.5) for d in _differences(x))

        def product(v: Pictures) -> Pictures:
            down, right = _differences(v)
            return _adjoint(rows * down, columns * right)

        return product

    def constants(self, values: Mapping[str, Any], slopes: Mapping[str, Tensor]) -> Constants:
        strength, smoothing = float(values[STRENGTH]), float(values[SMOOTHING])
        squared_norm = 8.0  # of the map from pictures to their differences; its rows have norm sqrt(2)
        columns = (
            float(slopes.get(STRENGTH, 0.0)) / smoothing,
            float(slopes.get(SMOOTHING, 0.0)) * strength / smoothing**2,
        )
        return Constants(
            strong_convexity=1 / self.count,
            smoothness=(1 + 0.5 * strength * squared_norm / smoothing) / self.count,
            hessian_lipschitz=0.5 * strength * squared_norm * 2**0.5 * STEEPEST / smoothing**2 / self.count,
            jacobian_lipschitz=0.5 * squared_norm * (columns[0] ** 2 + columns[1] ** 2) ** 0.5 / self.count,
            upper_smoothness=1 / self.count,
            upper_convex=True,
            certified=True,
        )

    def jacobian_norm(self, parameters: Tree, values: Mapping[str, Any], slopes: Mapping[str, Tensor]) -> float:
        strength, smoothing = values[STRENGTH], values[SMOOTHING]
        differences = _differences(parameters["pictures"])
        columns = []
        if STRENGTH in slopes:
            by_strength = (d * torch.rsqrt(d.square() + smoothing**2) for d in differences)
            columns.append(0.5 * slopes[STRENGTH] * _adjoint(*by_strength))
        if SMOOTHING in slopes:
            by_smoothing = (-smoothing * d * (d.square() + smoothing**2).pow(-1.5) for d in differences)
            columns.append(0.5 * strength * slopes[SMOOTHING] * _adjoint(*by_smoothing))
        if not columns:
            return 0.0
        jacobian = torch.stack([column.reshape(-1) for column in columns]) / self.count
        norm: float = float(torch.linalg.eigvalsh(jacobian @ jacobian.T)[-1].clamp(min=0)) ** 0.5
        return norm


tasks.register("total_variation_denoising", TotalVariationDenoising)


def _differences(x: Pictures) -> tuple[Tensor, Tensor]:
    return x.diff(dim=1), x.diff(dim=2)


def _adjoint(rows: Tensor, columns: Tensor) -> Pictures:
    """The transpose of ``_differences``."""
    return -(F.pad(rows, (0, 0, 1, 1)).diff(dim=1) + F.pad(columns, (1, 1)).diff(dim=2))

"""Denoising by a field of experts: its filters, their weights and smoothing lengths are learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from selftune.objectives.common.denoising import STEEPEST, Denoising, load_pairs

from selftune.errors import SettingError
from selftune.hyperparameters import Hyperparameter, Interval, Positive
from selftune.lower_level.objective import tasks
from selftune.lower_level.smooth_objective import Constants
from selftune.shapes import Float, Tensor

STRENGTH = "field_of_experts.strength"
WEIGHTS = "field_of_experts.weights"
SMOOTHING = "field_of_experts.smoothing"
FILTERS = "field_of_experts.filters"
Pictures = Float[Tensor, "pictures height width"]


@dataclass
class FieldOfExpertsDenoising(Denoising):
    """Regularizer ``0.5 strength sum_e weights_e sum sqrt((filter_e * x)^2 + smoothing_e^2)``.

    The filters respond where they fit into the picture; padding would repeat border pixels and with them enlarge
    the curvature. Hyperparameters: ``field_of_experts.strength``, ``.weights`` and ``.smoothing`` (one per
    expert), tuned as logarithms, and ``.filters`` (all entries).

    Strong convexity, smoothness and the Lipschitz constant of the Hessian are proven. That of the Jacobian would
    be for pictures with no larger patches than the noisy ones; the Jacobian's norm is estimated: not certified.

    Args:
        experts: number of filters.
        filter_size: their rows and columns.
        train_crops, validation_crops, test_crops: crops per split.
        crop: rows and columns of a crop.
        noise: standard deviation of the noise, for pixels in [0, 1].
        file: Parquet file of crops (columns ``image``, PNG files as bytes, and ``split``) that replaces
            scikit-image's photographs; it decides count and size of the crops.
        seed: decides the crops, the noise and the first filters (random, of mean zero).
        dtype, device: of all tensors.

    Raises:
        SettingError: if a setting is out of range, the device is not there, or the file cannot be used.

    Sources: "Fields of Experts", Roth and Black, 2009; in this form arXiv 2308.10098.

    >>> task = FieldOfExpertsDenoising(experts=2, train_crops=1, validation_crops=1, test_crops=1, crop=16)
    >>> [len(h.names) for h in task.hyperparameters]
    [1, 2, 2, 50]
    """

    experts: int = 8
    filter_size: int = 5
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
        if self.experts < 1:
            raise SettingError("experts", f"must be at least 1, got {self.experts}")
        counts = {"train": self.train_crops, "validation": self.validation_crops, "test": self.test_crops}
        pairs = load_pairs(counts, self.crop, self.noise, self.seed, self.file, self.dtype, self.device)
        side = min(pairs["train"].true.shape[1:])
        if not 2 <= self.filter_size <= side:
            raise SettingError(
                "filter_size", f"must be from 2 to the crop's {side} pixels, got {self.filter_size}"
            )
        super().__init__(pairs)
        patches = self.noisy.unfold(1, self.filter_size, 1).unfold(2, self.filter_size, 1)
        self._largest_patch = float(patches.square().sum(dim=(-2, -1)).max()) ** 0.5
        self.hyperparameters = self._hyperparameters()

    def _hyperparameters(self) -> tuple[Hyperparameter, ...]:
        k, size = self.experts, self.filter_size
        generator = torch.Generator().manual_seed(self.seed)
        xavier = (2 / (size**2 + k * size**2)) ** 0.5
        filters = xavier * torch.randn(k, size, size, generator=generator, dtype=torch.float64)
        filters = filters - filters.mean(dim=(1, 2), keepdim=True)
        experts = tuple(str(expert) for expert in range(k))
        entries = tuple(f"{e}:{i}:{j}" for e in range(k) for i in range(size) for j in range(size))

        def tuned(name: str, domain: Any, value: Any, parts: tuple[str, ...] = ()) -> Hyperparameter:
            return Hyperparameter(name, domain, value, parts, tuned=True, shared=True)

        return (
            tuned(STRENGTH, Positive((1e-4, 10.0)), 0.05),
            tuned(WEIGHTS, Positive((3e-4, 7.0)), (0.05,) * k, experts),
            tuned(SMOOTHING, Positive((3e-4, 1.0)), (0.03,) * k, experts),
            tuned(FILTERS, Interval(sweep=(-1.0, 1.0)), tuple(filters.flatten().tolist()), entries),
        )

    def _experts(self, values: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """Filters (experts, 1, k, k), factors and squared smoothing lengths (experts, 1, 1)."""
        filters = values[FILTERS].view(self.experts, 1, self.filter_size, self.filter_size)
        factors = 0.5 * values[STRENGTH] * values[WEIGHTS]
        return filters, factors[:, None, None], values[SMOOTHING].square()[:, None, None]

    def regularizer(self, x: Pictures, values: Mapping[str, Any]) -> Float[Tensor, ""]:
        filters, factors, squared = self._experts(values)
        return (factors * torch.sqrt(F.conv2d(x[:, None], filters).square() + squared)).sum()

    def regularizer_gradient(self, x: Pictures, values: Mapping[str, Any]) -> Pictures:
        filters, factors, squared = self._experts(values)
        responses = F.conv2d(x[:, None], filters)
        slopes = factors * responses * torch.rsqrt(responses.square() + squared)
        return F.conv_transpose2d(slopes, filters)[:, 0]

    def regularizer_product(self, x: Pictures, values: Mapping[str, Any]) -> Callable[[Pictures], Pictures]:
        filters, factors, squared = self._experts(values)
        curvatures = factors * squared * (F.conv2d(x[:, None], filters).square() + squared).pow(-1.5)

        def product(v: Pictures) -> Pictures:
            return F.conv_transpose2d(curvatures * F.conv2d(v[:, None], filters), filters)[:, 0]

        return product

    def constants(self, values: Mapping[str, Any], slopes: Mapping[str, Tensor]) -> Constants:
        filters, factors, _ = self._experts(values)
        factors, smoothing, weights = factors.flatten(), values[SMOOTHING], values[WEIGHTS]
        # a filter that responds where it fits is a part of a circular one, whose norm its transform gives
        spectra = torch.fft.rfft2(filters[:, 0], s=self.noisy.shape[1:]).abs().square()
        norms = spectra.amax(dim=(1, 2)).sqrt()
        lengths = filters.flatten(1).norm(dim=1)

        def largest(weighting: Tensor) -> float:
            return float((weighting[:, None, None] * spectra).sum(dim=0).max())

        by_filter = factors * norms * (2 * self.filter_size + STEEPEST * norms * self._largest_patch / smoothing)
        columns = (
            slopes[STRENGTH] * largest(0.5 * weights / smoothing) if STRENGTH in slopes else None,
            slopes[WEIGHTS] * 0.5 * values[STRENGTH] * norms**2 / smoothing if WEIGHTS in slopes else None,
            slopes[SMOOTHING] * factors * norms**2 / smoothing**2 if SMOOTHING in slopes else None,
            by_filter / smoothing if FILTERS in slopes else None,
        )
        jacobian = sum(float(column.square().sum()) for column in columns if column is not None) ** 0.5
        return Constants(
            strong_convexity=1 / self.count,
            smoothness=(1 + largest(factors / smoothing)) / self.count,
            hessian_lipschitz=largest(factors * STEEPEST * lengths / smoothing**2) / self.count,
            jacobian_lipschitz=jacobian / self.count,
            upper_smoothness=1 / self.count,
            upper_convex=True,
            certified=False,
        )


tasks.register("field_of_experts_denoising", FieldOfExpertsDenoising)

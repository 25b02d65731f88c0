"""Denoising as a bilevel problem: below, a picture close to the noisy one; above, its distance to the true one."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from selftune.objectives.data.photographs import Pairs, bundled_crops, crops_in

from selftune.data import SPLITS
from selftune.errors import SettingError
from selftune.hypergradients.lower_solvers import AcceleratedGradient
from selftune.hypergradients.oracle import Oracle
from selftune.hyperparameters import Space
from selftune.lower_level.smooth_objective import SmoothObjective, Tree, check_device
from selftune.shapes import Float, Tensor

Pictures = Float[Tensor, "pictures height width"]

STEEPEST = 0.8587
"""Largest |third derivative| of sqrt(t^2 + 1), at t = 1/2 (rounded up): 48 / 5^2.5."""

# of every pixel on average, in units of white: far below what a peak signal-to-noise ratio of 60 dB can see
_ACCURACY = 1e-4

MOST_CROPS = 10_000  # of the few photographs that are cut into them


class Denoising(SmoothObjective):
    """Pictures x minimise ``(0.5 |x - noisy|^2 + regularizer(x)) / N``; judged by ``0.5 |x - true|^2 / N``.

    N is the number of pictures of the training split, on which both levels live. The validation and the test
    split hold other photographs: they measure how well what was learned carries over. Peak signal-to-noise
    ratios are averages over a split, in decibel, for pixels in [0, 1].

    Source: "An adaptively inexact first-order method for bilevel optimization with application to hyperparameter
    learning" (arXiv 2308.10098), its denoising problems.

    Args:
        pairs: pictures of the splits train, validation and test.
    """

    def __init__(self, pairs: Mapping[str, Pairs]) -> None:
        self._pairs = dict(pairs)
        self._show("train")

    def _show(self, split: str) -> None:
        """Makes this split the one that both levels are about."""
        self.noisy, self.true = self._pairs[split].noisy, self._pairs[split].true
        self.count = len(self.noisy)

    @abstractmethod
    def regularizer(self, x: Pictures, values: Mapping[str, Any]) -> Float[Tensor, ""]:
        """The regularizer, summed over the pictures."""

    @abstractmethod
    def regularizer_gradient(self, x: Pictures, values: Mapping[str, Any]) -> Pictures:
        """Its gradient in x."""

    @abstractmethod
    def regularizer_product(self, x: Pictures, values: Mapping[str, Any]) -> Callable[[Pictures], Pictures]:
        """v -> its Hessian at x times v."""

    def parameters(self) -> dict[str, Tensor]:
        return {"pictures": self.noisy.clone()}

    def lower(self, parameters: Tree, values: Mapping[str, Any]) -> Float[Tensor, ""]:
        x = parameters["pictures"]
        return (0.5 * (x - self.noisy).square().sum() + self.regularizer(x, values)) / self.count

    def upper(self, parameters: Tree, values: Mapping[str, Any]) -> Float[Tensor, ""]:
        return 0.5 * (parameters["pictures"] - self.true).square().sum() / self.count

    def lower_gradient(self, parameters: Tree, values: Mapping[str, Any]) -> Tree:
        x = parameters["pictures"]
        return {"pictures": (x - self.noisy + self.regularizer_gradient(x, values)) / self.count}

    def hessian_product(self, parameters: Tree, values: Mapping[str, Any]) -> Callable[[Tree], Tree]:
        product = self.regularizer_product(parameters["pictures"], values)
        return lambda v: {"pictures": (v["pictures"] + product(v["pictures"])) / self.count}

    def metrics(self, parameters: Tree, values: Mapping[str, Any]) -> dict[str, float]:
        """Of every split ``<split>_psnr`` and ``<split>_psnr_noisy``; solves two lower levels."""
        measured = {}
        for split in SPLITS:
            pairs = self._pairs[split]
            measured[f"{split}_psnr_noisy"] = psnr(pairs.noisy, pairs.true)
            measured[f"{split}_psnr"] = psnr(self._restored(split, parameters, values), pairs.true)
        return measured

    def pictures(self, parameters: Tree, values: Mapping[str, Any]) -> dict[str, Pictures]:
        """``noisy``, ``restored`` and ``true`` of the test split; solves its lower level."""
        pairs = self._pairs["test"]
        return {"noisy": pairs.noisy, "restored": self._restored("test", parameters, values), "true": pairs.true}

    def _restored(self, split: str, parameters: Tree, values: Mapping[str, Any]) -> Pictures:
        if split == "train":
            return parameters["pictures"]
        other = copy.copy(self)
        other._show(split)
        fixed = [
            replace(h, value=values[h.name].tolist(), tuned=False) if h.tuned else h for h in self.hyperparameters
        ]
        oracle = Oracle(other, Space(fixed))
        tolerance = _ACCURACY * other.noisy.numel() ** 0.5
        solution = AcceleratedGradient().solve(oracle, oracle.start_u(), oracle.start_x(), tolerance)
        return oracle.unravel(solution.x)["pictures"]


def psnr(pictures: Pictures, true: Pictures) -> float:
    """Peak signal-to-noise ratio in decibel for pixels in [0, 1], averaged over the pictures.

    >>> round(psnr(torch.full((1, 4, 4), 0.1), torch.zeros(1, 4, 4)), 6)
    20.0
    """
    mean_square = (pictures - true).square().mean(dim=(1, 2))
    return float((-10 * torch.log10(mean_square)).mean())


def load_pairs(
    counts: Mapping[str, int], crop: int, noise: float, seed: int, file: str | None, dtype: str, device: str
) -> dict[str, Pairs]:
    """Pairs of the three splits as the settings of a denoising task ask for them.

    Raises:
        SettingError: if a count, the crop or the noise is out of range, the device is not there, or the file
            cannot be used.
    """
    for split in SPLITS:
        if counts[split] < 1:
            raise SettingError(f"{split}_crops", f"must be at least 1, got {counts[split]}")
        if counts[split] > MOST_CROPS:
            raise SettingError(f"{split}_crops", f"must be at most {MOST_CROPS}, got {counts[split]}")
    if crop < 8:
        raise SettingError("crop", f"must be at least 8 pixels, got {crop}")
    if not 0 < noise < float("inf"):
        raise SettingError("noise", f"must be a positive number, got {noise}")
    check_device(device)
    crops = bundled_crops(counts, crop, seed) if file is None else crops_in(file)
    pairs = {}
    for index, split in enumerate(SPLITS):
        pair = Pairs.with_noise(crops[split], noise, seed=len(SPLITS) * seed + index)
        like = {"dtype": getattr(torch, dtype), "device": device}
        pairs[split] = Pairs(pair.true.to(**like), pair.noisy.to(**like))
    return pairs

"""Noise of the size of a quantisation step, mixed over the bit widths in competition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from selftune.hyperparameters import Choice, Hyperparameter
from selftune.networks.inventory import Layer
from selftune.registries.reference import Reference
from selftune.regularization.layer_noise import input_obstacle
from selftune.regularization.regularizer import register
from selftune.regularization.reparameterization import Reparameterization
from selftune.regularization.step import Step
from selftune.shapes import Float, Int, Tensor


def quantization_noise(
    values: Float[Tensor, "*shape"],
    noise: Float[Tensor, "bits *shape"],
    shares: Float[Tensor, "bits"],
    bits: Int[Tensor, "bits"],
) -> Float[Tensor, "*shape"]:
    """Mix of the values (share ``1 / (n + 1)`` for n bit widths) and one noisy copy of them per bit width.

    The copies carry no gradient to the values; the gradient of the mix reaches the shares. The shares are divided
    by their sum plus the values' own share, so the weights of the mix need not add up to one.

    Args:
        noise: one draw per entry and bit width, of standard deviation 1/2 (Gaussian) or uniform in [-1/2, 1/2];
            it is scaled by the quantisation step ``(max - min) / (2 ** bits - 1)`` of the whole tensor.
        shares: mixing weights of the bit widths, not negative.
        bits: bit widths, at least 1.

    Source: "QuantNAS for super resolution: searching for efficient quantization-friendly architectures against
    quantization noise" (arXiv 2208.14839).

    >>> x, noise = torch.tensor([0.0, 3.0]), torch.tensor([[0.5, -0.5]])
    >>> quantization_noise(x, noise, torch.tensor([0.5]), torch.tensor([2]))  # half of x, half of x + noise
    tensor([0.2500, 2.7500])
    """
    own = 1 / (len(bits) + 1)
    weights = shares / (shares.sum() + own)
    fixed = values.detach()
    steps = (fixed.amax() - fixed.amin()) / (torch.exp2(bits.to(values.dtype)) - 1)
    mix: Tensor = own * values + weights.sum() * fixed + torch.tensordot(weights * steps, noise, dims=1)
    return mix


@register
class QuantizationNoise(Reparameterization):
    """Noise of the size of quantisation steps on the weights of layers and on what they see, while they train.

    ``bits`` lists the bit widths in competition; their shares are trained with the network, a softmax for every
    layer. Evaluation and the exported network are free of it: rounding is left to whoever deploys the network.
    ``parts`` says which layers; by default all but the last one.
    """

    name = "quantization_noise"
    family = "structure"
    kind = "augment"
    reference = Reference(
        "QuantNAS for super resolution: searching for efficient quantization-friendly architectures against "
        "quantization noise",
        "2208.14839",
    )
    hyperparameters = (
        Hyperparameter("bits", Choice(("4,8", "2,4,8", "4", "8")), "4,8", online=False, smooth=False),
        Hyperparameter("noise", Choice(("gaussian", "uniform")), "gaussian", online=False, smooth=False),
    )

    _bits: Tensor | None = None
    whole_batch = one_process = "its noise is as large as the range of what layers see of the whole batch"

    def default_layers(self, layers: tuple[str, ...]) -> tuple[str, ...]:
        return layers[:-1] or layers

    def obstacle(self, layer: Layer) -> str:
        return super().obstacle(layer) or input_obstacle(layer)

    def tensors(self, weight: Tensor, values: Mapping[str, Any]) -> dict[str, Tensor]:
        return {"share_logits": weight.new_zeros(len(values["bits"].split(",")))}

    def attach(self, network: nn.Module) -> None:
        super().attach(network)
        for layers in self.layers.values():
            for layer in layers:
                network.get_submodule(layer).register_forward_pre_hook(_NoisyInputs(self))

    def weight(self, original: Tensor, values: Mapping[str, Any], extra: Any, step: Step | None) -> Tensor:
        return original if step is None else self.noisy(original, extra.share_logits, step, None)

    def noisy(
        self, values: Float[Tensor, "*shape"], logits: Tensor, step: Step, examples: int | None
    ) -> Float[Tensor, "*shape"]:
        """The mix of a tensor with its noisy copies, of shares softmax(logits).

        Args:
            examples: the axis of the copies, one after the other, that runs over examples; None for a weight.
        """
        bits = self._bits_on(values.device)
        shape = (len(bits), *values.shape)
        uniform = self.bound["noise"].value == "uniform"
        drawn = step.rand(*shape, examples=examples) if uniform else step.randn(*shape, examples=examples)
        noise = drawn - 0.5 if uniform else drawn / 2
        shares = torch.softmax(logits, dim=0)
        return quantization_noise(values, noise.to(values.dtype), shares.to(values.dtype), bits)

    def _bits_on(self, device: torch.device) -> Int[Tensor, "formats"]:
        """Copied to the device once: every copy of a step would hold up the device."""
        if self._bits is None or self._bits.device != device:
            self._bits = torch.tensor([int(bits) for bits in self.bound["bits"].value.split(",")], device=device)
        return self._bits


class _NoisyInputs:
    """The hook before one layer; a class, so that a network that carries it can be copied."""

    def __init__(self, regularizer: QuantizationNoise) -> None:
        self.regularizer = regularizer

    def __call__(self, module: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        step = self.regularizer.step
        if step is None:
            return None
        inputs, *others = arguments
        logits = module.parametrizations["weight"][0].share_logits
        return (self.regularizer.noisy(inputs, logits, step, examples=1), *others)

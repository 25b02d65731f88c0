"""Batch normalization: gamma and beta of each example's own; statistics are the batch's, or running ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from selftune.hypergradients.best_response.dual import parts
from selftune.hypergradients.best_response.normalization import batch_normalized
from selftune.hypergradients.best_response.rules.module_response import ModuleResponse
from selftune.hypergradients.best_response.rules.rule import Rule, responds
from selftune.shapes import Float, Tensor


@responds(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
class BatchNorm(Rule):
    """With z = (x - mean) / deviation, z dgamma_i + dbeta_i is x scaled and shifted channel by channel."""

    intercepted = False

    def forward(
        self, module: Any, response: ModuleResponse, input: Float[Tensor, "batch channels ..."]
    ) -> Float[Tensor, "batch channels ..."]:
        training = module.training or module.running_mean is None
        if response.linearized:
            running = module.running_mean, module.running_var
            output, mean, inverse = batch_normalized(
                input, *running, module.weight, module.bias, training, module.eps
            )
        else:
            output = type(module).forward(module, input)  # which moves the running statistics, once
            if training:
                axes = [axis for axis in range(input.ndim) if axis != 1]
                variance, mean = torch.var_mean(input, axes, correction=0)
            else:
                variance, mean = module.running_var, module.running_mean
            inverse = torch.rsqrt(variance + module.eps)
        return response.add(output, channels_rescaled(response, input, mean, inverse))


def channels_rescaled(
    response: ModuleResponse,
    input: Float[Tensor, "batch channels ..."],
    mean: Float[Tensor, "*batch channels"],
    inverse: Float[Tensor, "*batch channels"],
) -> Float[Tensor, "batch channels ..."] | None:
    """z dgamma_i + dbeta_i, where z = (input - mean) * inverse, of the input's value in a linearized pass."""
    gamma, beta = response.change("weight"), response.change("bias")
    value = parts(input)[0] if response.linearized else input
    shape = (-1, value.shape[1], *(1,) * (value.ndim - 2))
    if gamma is None:
        return None if beta is None else beta.view(shape)
    scale = gamma * inverse
    shift = -scale * mean if beta is None else beta - scale * mean
    return torch.add(value * scale.view(shape), shift.view(shape))

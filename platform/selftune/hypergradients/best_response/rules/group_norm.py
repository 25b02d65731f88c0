"""Group and instance normalization: gamma and beta of each example's own."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from selftune.hypergradients.best_response.normalization import batch_normalized, group_normalized
from selftune.hypergradients.best_response.rules.batch_norm import channels_rescaled
from selftune.hypergradients.best_response.rules.module_response import ModuleResponse
from selftune.hypergradients.best_response.rules.rule import Rule, responds
from selftune.shapes import Float, Tensor


@responds(nn.GroupNorm)
class GroupNorm(Rule):
    """Each group of channels has its statistics, those of every channel of it."""

    intercepted = False

    def forward(
        self, module: Any, response: ModuleResponse, input: Float[Tensor, "batch channels ..."]
    ) -> Float[Tensor, "batch channels ..."]:
        groups, repeats = module.num_groups, module.num_channels // module.num_groups
        if response.linearized:
            output, mean, inverse = group_normalized(input, groups, module.weight, module.bias, module.eps)
        else:
            output = type(module).forward(module, input)
            variance, mean = torch.var_mean(input.reshape(len(input), groups, -1), 2, correction=0)
            inverse = torch.rsqrt(variance + module.eps)
        of_channels = (each.repeat_interleave(repeats, 1) for each in (mean, inverse))
        return response.add(output, channels_rescaled(response, input, *of_channels))


@responds(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
class InstanceNorm(Rule):
    """A group per channel; running statistics in evaluation mode, if it has them."""

    intercepted = False

    def forward(
        self, module: Any, response: ModuleResponse, input: Float[Tensor, "batch channels ..."]
    ) -> Float[Tensor, "batch channels ..."]:
        own = module.training or not module.track_running_stats
        affine = module.weight, module.bias
        if response.linearized and own:
            output, mean, inverse = group_normalized(input, input.shape[1], *affine, module.eps)
        elif response.linearized:
            running = module.running_mean, module.running_var
            output, mean, inverse = batch_normalized(input, *running, *affine, False, module.eps)
        else:
            output = type(module).forward(module, input)
            if own:
                variance, mean = torch.var_mean(input.flatten(2), 2, correction=0)
            else:
                variance, mean = module.running_var, module.running_mean
            inverse = torch.rsqrt(variance + module.eps)
        return response.add(output, channels_rescaled(response, input, mean, inverse))

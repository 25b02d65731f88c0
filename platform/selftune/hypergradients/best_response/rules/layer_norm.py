"""Layer and root-mean-square normalization: gamma and beta of each example's own."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from selftune.hypergradients.best_response.dual import dual, parts
from selftune.hypergradients.best_response.normalization import layer_normalized, rms_normalized
from selftune.hypergradients.best_response.rules.module_response import ModuleResponse
from selftune.hypergradients.best_response.rules.rule import Rule, responds
from selftune.shapes import Float, Tensor


class _LastAxesNorm(Rule):
    """The output is z gamma_i + beta_i; z does not depend on the parameters."""

    any_batch_axis = True
    intercepted = False

    def _scaled(self, module: Any, response: ModuleResponse, normalized: Tensor) -> Tensor:
        weight, bias = module.weight, getattr(module, "bias", None)
        value, tangent = parts(normalized) if response.linearized else (normalized, None)
        output = value * weight if bias is None else torch.addcmul(bias, value, weight)
        if tangent is not None:
            output = dual(output, tangent * weight)
        gamma, beta = response.change("weight"), response.change("bias")
        change = None if gamma is None else value * response.along(gamma, value)
        if beta is not None:
            beta = response.along(beta, value)
            change = beta if change is None else change.add_(beta)
        return response.add(output, change)


@responds(nn.LayerNorm)
class LayerNorm(_LastAxesNorm):
    """Normalizes each example's last axes by their mean and deviation."""

    def forward(self, module: Any, response: ModuleResponse, input: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        shape, eps = module.normalized_shape, module.eps
        if response.linearized:
            return self._scaled(module, response, layer_normalized(input, shape, eps=eps))
        return self._scaled(module, response, F.layer_norm(input, shape, eps=eps))


@responds(nn.RMSNorm)
class RMSNorm(_LastAxesNorm):
    """Normalizes each example's last axes by their root mean square."""

    def forward(self, module: Any, response: ModuleResponse, input: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        shape, eps = module.normalized_shape, module.eps
        if response.linearized:
            return self._scaled(module, response, rms_normalized(input, shape, eps))
        return self._scaled(module, response, F.rms_norm(input, shape, eps=eps))

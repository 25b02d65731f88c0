"""Layers with per-example gates: the output of row i is W0_i x + b0_i + g_i (W_r,i x) + c_i b_r,i."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selftune.hypergradients.best_response.pair import Pair, pair
from selftune.networks.precision import typed_as
from selftune.shapes import Float


@dataclass(slots=True)
class Gate:
    """What one layer reads while gates are on.

    Args:
        weight: W_r, the R directions of all rows, in the shape and the type of the layer's weight.
        rows: g = V h, how far each example moves along each direction.
        bias: c * b_r with c = C h, what each example adds to each row; None without bias.
        linear: pass (value, tangent) pairs on instead of their sum.
        name: of the layer, for errors.
    """

    weight: Float[Tensor, "R*rows ..."]
    rows: Float[Tensor, "batch R*rows"]
    bias: Float[Tensor, "batch rows"] | None
    linear: bool
    name: str

    def check(self, input: Tensor) -> None:
        """The gates must belong to the examples of ``input``."""
        if self.rows.shape[0] not in (1, input.shape[0]):
            raise ValueError(
                f"layer {self.name!r} sees {input.shape[0]} examples and the hyperparameters have "
                f"{self.rows.shape[0]} rows; give one row per example"
            )


class GatedLinear(nn.Linear):
    """nn.Linear until a ``BestResponse`` switches gates on."""

    gate: Gate | None = None

    def forward(self, input: Tensor) -> Tensor:
        gate = self.gate
        if gate is None:
            return F.linear(input, self.weight, self.bias)
        value, tangent = (input.value, input.tangent) if type(input) is Pair else (input, None)
        gate.check(value)
        output = F.linear(value, self.weight, self.bias)
        response = typed_as(self._response(gate, value), output)  # gates are wider than half precision
        if not gate.linear:
            return output + response
        if tangent is not None and tangent.dim() == 2:
            response = torch.addmm(response, tangent, self.weight.t())
        elif tangent is not None:
            response = response.add_(F.linear(tangent, self.weight))
        return pair(output, response)

    def _response(self, gate: Gate, input: Tensor) -> Tensor:
        batch, middle, features = gate.rows.shape[0], (1,) * (input.dim() - 2), self.out_features
        directed, rows, bias = F.linear(input, gate.weight), gate.rows, gate.bias
        if bias is not None and middle:
            bias = bias.view(batch, *middle, features)
        if rows.shape[1] == features:
            if middle:
                rows = rows.view(batch, *middle, features)
            return directed * rows if bias is None else torch.addcmul(bias, directed, rows)
        rows = rows.view(batch, *middle, -1, features)
        response = (directed.view(*directed.shape[:-1], -1, features) * rows).sum(-2)
        return response if bias is None else response + bias


class _GatedConv(nn.modules.conv._ConvNd):
    gate: Gate | None = None

    def forward(self, input: Tensor) -> Tensor:
        gate = self.gate
        if gate is None:
            return self._conv_forward(input, self.weight, self.bias)
        value, tangent = (input.value, input.tangent) if type(input) is Pair else (input, None)
        gate.check(value)
        output = self._conv_forward(value, self.weight, self.bias)
        response = typed_as(self._response(gate, value), output)
        if not gate.linear:
            return output + response
        if tangent is not None:
            response = response.add_(self._conv_forward(tangent, self.weight, None))
        return pair(output, response)

    def _response(self, gate: Gate, input: Tensor) -> Tensor:
        batch, channels, flat = gate.rows.shape[0], self.out_channels, (1,) * (self.weight.dim() - 2)
        if gate.rows.shape[1] == channels:
            response = self._conv_forward(input, gate.weight, None) * gate.rows.view(batch, channels, *flat)
        else:
            response = self._several_directions(gate, input, flat)
        # Two operations in place of addcmul, which is slow where it broadcasts.
        return response if gate.bias is None else response.add_(gate.bias.view(batch, channels, *flat))

    def _several_directions(self, gate: Gate, input: Tensor, flat: tuple[int, ...]) -> Tensor:
        """All directions in one convolution; its output channels are ordered (group, direction, row)."""
        batch, groups, rows = gate.rows.shape[0], self.groups, self.out_channels // self.groups
        weight = gate.weight.view(-1, groups, rows, *gate.weight.shape[1:]).transpose(0, 1).flatten(0, 2)
        directed = self._conv_forward(input, weight, None)
        directed = directed.view(len(directed), groups, -1, rows, *directed.shape[2:])
        gates = gate.rows.view(batch, -1, groups, rows, *flat).transpose(1, 2)
        response: Tensor = (directed * gates).sum(2).flatten(1, 2)
        return response

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        raise NotImplementedError


class GatedConv1d(_GatedConv, nn.Conv1d):
    """nn.Conv1d until a ``BestResponse`` switches gates on."""

    _conv_forward = nn.Conv1d._conv_forward


class GatedConv2d(_GatedConv, nn.Conv2d):
    """nn.Conv2d until a ``BestResponse`` switches gates on."""

    _conv_forward = nn.Conv2d._conv_forward


GATED: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: GatedLinear,
    nn.Conv1d: GatedConv1d,
    nn.Conv2d: GatedConv2d,
}
"""Plain class -> the class it is swapped for."""

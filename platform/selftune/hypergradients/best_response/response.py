"""The response set of a converted network: what each hyperparameter does to the weights, to first order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from selftune.hypergradients.best_response.constants import constant_parameters, submodules_called
from selftune.hypergradients.best_response.layers import GATED, Gate
from selftune.hypergradients.best_response.pair import CURRENT, Linearization, total, unwrap
from selftune.hypergradients.best_response.report import ConversionReport, LayerReport
from selftune.networks.modes import constant_buffers
from selftune.networks.precision import typed_as, wide_type
from selftune.shapes import Float, Tensor

_PLAIN = {gated: plain for plain, gated in GATED.items()}


def _key(parameter: str) -> str:
    """Registered names may not contain dots."""
    return parameter.replace(".", "/")


class BestResponse(nn.Module):
    """W(h) = W0 + sum over r of (V_r h) * W_r, row by row, and b(h) = b0 + (C h) * b_r in a network's layers.

    W0 and b0, the elementary set, stay in the network under the names they had. The parameters of this module
    are the response set: ``gates`` (all V, then all C, one row per direction and output row, shape (rows, n)),
    ``bias_directions`` (all b_r) and ``directions`` (W_r of each layer, shape (R * D_out, ...)). They are in the
    widest type of the layers, and in float32 at least. h is measured from the current hyperparameters: h = 0 is
    the plain network. Made by ``convert``.

    Source: "Delta-STN: Efficient Bilevel Optimization for Neural Networks using Structured Response Jacobians"
    (arXiv 2010.13514); R > 1 is not in the paper.

    >>> from selftune.hypergradients.best_response import convert
    >>> model, inputs = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), torch.randn(8, 3)
    >>> response = convert(model, hyperparameters=2, example=inputs, generator=torch.Generator().manual_seed(0))
    >>> bool((response.linearized(torch.randn(8, 2), inputs) == model(inputs)).all())
    True
    """

    model: nn.Module
    gates: nn.Parameter
    bias_directions: nn.Parameter | None

    def __init__(
        self,
        model: nn.Module,
        layers: Mapping[str, nn.Module],
        ranks: Mapping[str, int],
        hyperparameters: int,
        generator: torch.Generator,
        report: tuple[LayerReport, ...],
    ) -> None:
        super().__init__()
        # Not registered: the network's parameters are the elementary set, not this module's.
        self.__dict__["model"] = model
        self._layers = {f"{name}." if name else "": layer for name, layer in layers.items()}
        self.hyperparameters = hyperparameters
        self.fallbacks: dict[str, str] = {}
        self.report = ConversionReport(report, self.fallbacks)
        self._weights = {f"{prefix}weight": layer for prefix, layer in self._layers.items()}
        self._biases = {f"{p}bias": layer for p, layer in self._layers.items() if layer.bias is not None}

        dtype = wide_type(*(layer.weight.dtype for layer in self._layers.values()))  # type: ignore[arg-type]
        self.directions = nn.ParameterDict()
        biases: list[Tensor] = []
        for (name, layer), rank in zip(self._weights.items(), ranks.values(), strict=True):
            weight: Any = layer.weight
            bound = weight[0].numel() ** -0.5  # kaiming_uniform with a = sqrt 5
            shape = (rank * weight.shape[0], *weight.shape[1:])
            self.directions[_key(name)] = nn.Parameter(_drawn(shape, bound, dtype, weight, generator))
            if layer.bias is not None:
                bias: Any = layer.bias
                biases.append(_drawn(weight.shape[:1], bound, dtype, bias, generator))
        self._weight_rows = [len(direction) for direction in self.directions.values()]
        self._bias_rows = [len(bias) for bias in biases]
        like: Any = next(iter(self._layers.values())).weight
        rows = sum(self._weight_rows) + sum(self._bias_rows)
        self.gates = nn.Parameter(torch.zeros(rows, hyperparameters, dtype=dtype, device=like.device))
        self.register_parameter("bias_directions", nn.Parameter(torch.cat(biases)) if biases else None)
        for layer in self._layers.values():
            layer.__class__ = GATED[type(layer)]

    @property
    def elementary(self) -> dict[str, nn.Parameter]:
        """W0 and b0 of the converted layers by their names in the network."""
        weights: dict[str, Any] = {name: layer.weight for name, layer in self._weights.items()}
        return weights | {name: layer.bias for name, layer in self._biases.items()}

    @property
    def responding(self) -> frozenset[str]:
        """Names of the parameters that respond: those of converted layers that are trained."""
        return frozenset(name for name, tensor in self.elementary.items() if tensor.requires_grad)

    def linearized(self, h: Float[Tensor, "batch n"], *args: Any, **kwargs: Any) -> Any:
        """f(x; W0) + J_w f(x; W0) · (W(h) - W0), differentiable in the response set and h; W0 is a constant.

        Args:
            h: one row per example, or one row for all.
            args, kwargs: of the network.

        Returns:
            What the network returns. Buffers, such as running statistics, stay as they are; ``detach()`` and
            ``torch.no_grad()`` inside the network make constants, as they do for gradients.

        Raises:
            ValueError: if h has the wrong shape.
            NotImplementedError: if an operation of the network cannot be linearised; the message says what to do.
        """
        pass_ = Linearization(torch.is_grad_enabled(), self.fallbacks)
        with constant_buffers(self.model), constant_parameters(self.model), self._gated(h, linear=True):
            token = CURRENT.set(pass_)
            try:
                output = self.model(*args, **kwargs)
            finally:
                CURRENT.reset(token)
        return unwrap(output, total)

    def perturbed(self, h: Float[Tensor, "batch n"], *args: Any, **kwargs: Any) -> Any:
        """f(x; W(h)) with the weights of row i for example i; ordinary autograd in h, the response set and W0.

        A pass like any other: norm layers in training mode update their statistics, unless it is made within
        ``selftune.networks.modes.constant_buffers(model)``.

        Args:
            h: one row per example, or one row for all.
            args, kwargs: of the network.

        Raises:
            ValueError: if h has the wrong shape.
        """
        with self._gated(h, linear=False):
            return self.model(*args, **kwargs)

    @contextmanager
    def _gated(self, h: Tensor, linear: bool) -> Iterator[None]:
        if h.dim() != 2 or h.shape[1] != self.hyperparameters:
            raise ValueError(f"h must have shape (batch, {self.hyperparameters}), got {tuple(h.shape)}")
        if not self._layers:
            raise RuntimeError("the best response was removed from this network; convert it again")
        h = h.to(self.gates.dtype)
        gates, bias_gates = torch.split(self.gates, [sum(self._weight_rows), sum(self._bias_rows)])
        rows = torch.split(F.linear(h, gates), self._weight_rows, 1)
        shifts: Iterator[Tensor] = iter(())
        if self.bias_directions is not None:
            # b_r goes to C (rows x n), which is smaller than C h (batch x rows).
            bias_gates = bias_gates * self.bias_directions[:, None]
            shifts = iter(torch.split(F.linear(h, bias_gates), self._bias_rows, 1))
        layers = self._layers.items()
        with submodules_called():
            try:
                for (name, layer), row, weight in zip(layers, rows, self.directions.values(), strict=True):
                    bias = None if layer.bias is None else next(shifts)
                    own: Any = layer.weight
                    layer.__dict__["gate"] = Gate(typed_as(weight, own), row, bias, linear, name)
                yield
            finally:
                for layer in self._layers.values():
                    layer.__dict__.pop("gate", None)

    def contract(self, gradients: Mapping[str, Tensor]) -> Float[Tensor, "n"]:
        """The hypergradient at h = 0: dL/dh of L(W(h)) for h shared by all examples.

        Sum over layers and rows i of <dL/dW0_i, W_r,i> V_i + dL/db0_i b_r,i C_i, so that one plain backward
        pass is all that a validation step needs.

        Args:
            gradients: dL/dW0 and dL/db0 of every converted layer under its name in ``elementary``.

        Raises:
            ValueError: if a gradient is missing.
        """
        missing = [name for name in (*self._weights, *self._biases) if gradients.get(name) is None]
        if missing:
            raise ValueError(f"no gradient for {', '.join(missing)}; give one for each name in elementary")
        parts = []
        for name, direction in zip(self._weights, self.directions.values(), strict=True):
            gradient = gradients[name].flatten(1).to(direction.dtype)
            directed = direction.view(-1, *gradient.shape)
            parts.append(torch.linalg.vecdot(directed, gradient).flatten())
        if self.bias_directions is not None:
            shifts = torch.cat([gradients[name] for name in self._biases]).to(self.gates.dtype)
            parts.append(shifts * self.bias_directions)
        return torch.cat(parts) @ self.gates

    def weights(self, h_row: Float[Tensor, "n"]) -> dict[str, Tensor]:
        """W(h) and b(h) of the converted layers by their names in the network; W0 and b0 are constants.

        Raises:
            ValueError: if ``h_row`` has the wrong shape.
        """
        if h_row.shape != (self.hyperparameters,):
            raise ValueError(f"h_row must have shape ({self.hyperparameters},), got {tuple(h_row.shape)}")
        moves = self.gates @ h_row.to(self.gates.dtype)
        *rows, shift = torch.split(moves, [*self._weight_rows, sum(self._bias_rows)])
        result: dict[str, Tensor] = {}
        for (name, layer), row, direction in zip(
            self._weights.items(), rows, self.directions.values(), strict=True
        ):
            weight: Any = layer.weight
            moved = direction.flatten(1) * row[:, None]
            result[name] = weight.detach() + moved.view(-1, *weight.shape).sum(0)
        if self.bias_directions is not None:
            shifts = torch.split(shift * self.bias_directions, self._bias_rows)
            for (name, layer), moved in zip(self._biases.items(), shifts, strict=True):
                bias: Any = layer.bias
                result[name] = bias.detach() + moved
        return result

    def remove(self) -> None:
        """Gives the plain network back: its layers get their classes again."""
        for layer in self._layers.values():
            layer.__class__ = _PLAIN[type(layer)]
        self._layers.clear()


def _drawn(shape: Any, bound: float, dtype: torch.dtype, tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Directions of a tensor, drawn where the generator lives, so that it gives the same ones on every device.

    A tensor that is not trained has none: directions of zero, to which gates of zero get no gradient, stay zero.
    """
    drawn = torch.empty(shape, dtype=dtype, device=generator.device)
    drawn.uniform_(-bound, bound, generator=generator)
    return drawn.mul_(tensor.requires_grad).to(tensor.device)

"""What a rule knows of the response of one module in one pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import nn

from selftune.hypergradients.best_response.dual import dual, parts
from selftune.networks.precision import typed_as
from selftune.shapes import Float, Tensor


@dataclass(slots=True)
class TensorResponse:
    """How one parameter tensor moves in one pass.

    Args:
        moves: V h, or (C h) * b_r of a vector, with a row per example (or one for all); None if it is looked up.
        directions: W_k, the R directions of all rows one after the other; None of a vector.
        gates: V of this and other weights.
        first: the first row of its own in ``gates``.
    """

    moves: Float[Tensor, "batch R*rows"] | None
    directions: Float[Tensor, "R*rows ..."] | None = None
    gates: Float[Tensor, "all n"] | None = None
    first: int = 0

    def change(self, value: Float[Tensor, "..."]) -> Float[Tensor, "batch ..."]:
        """W(h_i) - W0 of every example, where W0 is ``value``."""
        assert self.moves is not None
        if value.ndim <= 1:
            return self.moves if value.ndim else self.moves[:, 0]
        rows = self.moves.view(len(self.moves), -1, len(value), *(1,) * (value.ndim - 1))
        assert self.directions is not None
        return (rows * self.directions.view(-1, *value.shape)).sum(1)


@dataclass(slots=True)
class ModuleResponse:
    """The response of one module's parameters to the h of each example, by the parameters' names in the module.

    A parameter that the module does not have, or that does not respond, is legal everywhere: it contributes
    nothing. "batch" in shapes is the number of examples, or 1 where all have the same h.

    Args:
        module: the module.
        tensors: of its parameters that respond.
        h: one row per example, or one for all.
        linearized: whether outputs are dual numbers (see rule.py).
        batch_axis: which axis of the module's first input runs over the examples.
        without_examples: whether none does (see ``Rule.serves_without_examples``).
    """

    module: nn.Module
    tensors: Mapping[str, TensorResponse]
    h: Float[Tensor, "batch n"]
    linearized: bool
    batch_axis: int
    without_examples: bool = False

    def repeated(self, times: int, outer: bool) -> ModuleResponse:
        """The response where the first axis holds each example ``times`` times.

        Args:
            outer: whether the entries of an example follow one another.
        """

        def repeat(rows: Tensor) -> Tensor:
            return rows.repeat_interleave(times, 0) if outer else rows.repeat(times, 1)

        tensors = {
            name: replace(tensor, moves=None if tensor.moves is None else repeat(tensor.moves))
            for name, tensor in self.tensors.items()
        }
        return replace(self, tensors=tensors, h=repeat(self.h))

    def value(self, name: str | None) -> Tensor | None:
        """W0, the module's own parameter; None if it has none of this name."""
        if name is None:
            return None
        owner, _, leaf = name.rpartition(".")
        found: Tensor | None = getattr(self.module.get_submodule(owner) if owner else self.module, leaf)
        return found

    def moves(self, name: str | None) -> Float[Tensor, "batch R*rows"] | None:
        """V h of a weight: how far each example moves along each direction of each row."""
        tensor = self.tensors.get(name) if name is not None else None
        return None if tensor is None else tensor.moves

    def directions(self, name: str) -> Float[Tensor, "R*rows ..."]:
        """W_k of a weight that responds."""
        directions = self.tensors[name].directions
        assert directions is not None
        return directions

    def gates(self, name: str) -> Float[Tensor, "R*rows n"]:
        """V of a weight that responds."""
        tensor = self.tensors[name]
        assert tensor.gates is not None
        assert tensor.directions is not None
        return tensor.gates[tensor.first : tensor.first + len(tensor.directions)]

    def change(self, name: str | None) -> Float[Tensor, "batch ..."] | None:
        """W(h_i) - W0 of every example: for vectors and small tensors, because it is built. None if it stays."""
        tensor = self.tensors.get(name) if name is not None else None
        if tensor is None or tensor.moves is None:
            return None
        value = self.value(name)
        assert value is not None
        return tensor.change(value)

    def along(self, change: Float[Tensor, "batch ..."], like: Tensor) -> Tensor:
        """``change`` in a shape that broadcasts to ``like``, whose last axes are those after the batch."""
        if like.ndim == change.ndim:
            return change
        shape = [1] * (like.ndim - change.ndim + 1) + list(change.shape[1:])
        shape[self.batch_axis] = len(change)
        return change.view(shape)

    def add(self, output: Tensor, change: Tensor | None) -> Tensor:
        """The output of the plain module and its first-order change by the response, as the pass wants it.

        Args:
            output: in a linearized pass a dual number, if an input was.
            change: which shape it has or broadcasts to; may be wider than half precision.
        """
        if change is None:
            return output
        change = typed_as(change, output)
        if not self.linearized:
            return output + change
        value, tangent = parts(output)
        if tangent is not None:
            return dual(value, tangent + change)
        return dual(value, change if change.shape == value.shape else change.expand_as(value))

    def linear(
        self,
        input: Float[Tensor, "... features"],
        weight: str,
        bias: str | None = None,
        rows: slice | None = None,
    ) -> Float[Tensor, "... rows"]:
        """``F.linear(input, W(h_i), b(h_i))``, with examples along ``batch_axis`` of the input.

        Args:
            input: may be a dual number.
            weight, bias: names of the parameters.
            rows: of weight and bias, where a tensor holds several maps (``in_proj_weight``).
        """
        if not self.linearized:
            return self._linear(input, weight, bias, rows)
        with torch._C.DisableTorchFunction():  # torch has all derivatives that this needs
            return self._linear(input, weight, bias, rows)

    def _linear(self, input: Tensor, weight: str, bias: str | None, rows: slice | None) -> Tensor:
        kept = slice(None) if rows is None else rows
        plain, offset = self.value(weight), self.value(bias)
        assert plain is not None
        if rows is not None:
            plain, offset = plain[kept], None if offset is None else offset[kept]
        value, tangent = parts(input) if self.linearized else (input, None)
        output = F.linear(value, plain, offset)
        change = self._linear_change(value, weight, bias, kept)
        if change is None:
            return output if tangent is None else dual(output, F.linear(tangent, plain))
        change = typed_as(change, output)  # gates are wider than half precision
        if not self.linearized:
            return output + change
        if tangent is not None and tangent.dim() == 2 and tangent.dtype == change.dtype:
            change = torch.addmm(change, tangent, plain.t())
        elif tangent is not None:
            change = F.linear(tangent, plain).add_(change)
        return dual(output, change if change.shape == output.shape else change.expand_as(output))

    def _linear_change(self, input: Tensor, weight: str, bias: str | None, kept: slice) -> Tensor | None:
        shift, moves = self.change(bias), self.moves(weight)
        if shift is not None:
            shift = shift[:, kept] if kept != slice(None) else shift
            shift = self.along(shift, input)
        if moves is None:
            return shift
        plain = self.value(weight)
        assert plain is not None
        directions = self.directions(weight)
        if kept != slice(None):
            moves = moves.view(len(moves), -1, len(plain))[..., kept].flatten(1)
            directions = directions.view(-1, *plain.shape)[:, kept].flatten(0, 1)
            plain = plain[kept]
        directed, features = F.linear(input, typed_as(directions, plain)), len(plain)
        if moves.shape[1] == features:
            moves = self.along(moves, input)
            return directed * moves if shift is None else torch.addcmul(shift, directed, moves)
        several = directed.view(*directed.shape[:-1], -1, features)
        shape = [1] * several.ndim
        shape[self.batch_axis], shape[-2], shape[-1] = len(moves), several.shape[-2], features
        change = (several * moves.view(shape)).sum(-2)
        return change if shift is None else change + shift

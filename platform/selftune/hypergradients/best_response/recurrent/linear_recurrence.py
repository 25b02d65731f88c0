"""Linear recurrences over time with their adjoints, one node of the autograd graph each.

Everything that does not depend on the state before is computed for all time steps at once, outside. What is left
for every step is one product with the recurrent weight and a few operations of elements.
"""

from __future__ import annotations

from typing import Any

import torch

from selftune.shapes import Float, Tensor


class _LSTMRecurrence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, drive: Tensor, h: Tensor, c: Tensor, weight: Tensor, slopes: Tensor, keep: Tensor, out: Tensor
    ) -> tuple[Tensor, Tensor]:
        steps, batch, size = keep.shape
        hidden, cells = torch.empty_like(keep), torch.empty_like(keep)
        transposed, moved = weight.t().contiguous(), drive.new_empty(batch, 4 * size)
        to_cell, to_output = moved.view(batch, 4, size)[:, :3], moved[:, 3 * size :]
        for t in range(steps):
            torch.addmm(drive[t], h, transposed, out=moved).mul_(slopes[t])
            c = torch.addcmul(to_cell.sum(1), keep[t], c, out=cells[t])
            h = torch.addcmul(to_output, out[t], c, out=hidden[t])
        ctx.save_for_backward(weight, slopes, keep, out)
        ctx.set_materialize_grads(False)
        return hidden, cells

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, to_hidden: Tensor | None, to_cells: Tensor | None) -> Any:
        weight, slopes, keep, out = ctx.saved_tensors
        steps, batch, size = keep.shape
        if to_hidden is None:
            to_hidden = torch.zeros_like(keep)
        to_drive = torch.empty_like(slopes)
        gates, gate_slopes = to_drive.view(steps, batch, 4, size), slopes.view(steps, batch, 4, size)
        h, c = torch.zeros_like(keep[0]), torch.zeros_like(keep[0])
        for t in reversed(range(steps)):
            h = h + to_hidden[t]
            if to_cells is not None:
                c = c + to_cells[t]
            c = torch.addcmul(c, out[t], h)
            torch.mul(gate_slopes[t, :, :3], c[:, None], out=gates[t, :, :3])
            torch.mul(gate_slopes[t, :, 3], h, out=gates[t, :, 3])
            h, c = to_drive[t] @ weight, c * keep[t]
        return to_drive, h, c, None, None, None, None


def lstm_recurrence(
    drive: Float[Tensor, "time batch 4*hidden"],
    h: Float[Tensor, "batch hidden"],
    c: Float[Tensor, "batch hidden"],
    weight: Float[Tensor, "4*hidden hidden"],
    slopes: Float[Tensor, "time batch 4*hidden"],
    keep: Float[Tensor, "time batch hidden"],
    out: Float[Tensor, "time batch hidden"],
) -> tuple[Float[Tensor, "time batch hidden"], Float[Tensor, "time batch hidden"]]:
    """The recurrence a = slopes * (drive + W h), c <- keep * c + a_1 + a_2 + a_3, h <- out * c + a_4.

    All h and all c of it; linear, and differentiable once, in ``drive`` and in the ``h`` and ``c`` that it starts
    from. The others are constants.
    """
    result: tuple[Tensor, Tensor] = _LSTMRecurrence.apply(drive, h, c, weight, slopes, keep, out)  # type: ignore[no-untyped-call]
    return result


class _GatedRecurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, drive: Tensor, h: Tensor, weight: Tensor, slopes: Tensor, keep: Tensor | None) -> Tensor:
        steps, batch, size = drive.shape
        hidden, transposed = torch.empty_like(drive), weight.t().contiguous()
        moved = drive.new_empty(batch, len(weight))
        gates = moved.view(batch, -1, size)
        for t in range(steps):
            torch.mm(h, transposed, out=moved).mul_(slopes[t])
            if keep is None:
                h = torch.add(drive[t], moved, out=hidden[t])
            else:
                h = torch.addcmul(gates.sum(1), keep[t], h, out=hidden[t]).add_(drive[t])
        ctx.save_for_backward(weight, slopes, *(() if keep is None else (keep,)))
        return hidden

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, to_hidden: Tensor) -> Any:
        weight, slopes, *keep = ctx.saved_tensors
        steps, batch, size = to_hidden.shape
        to_drive = torch.empty_like(to_hidden)
        gates = slopes.view(steps, batch, -1, size)
        h = torch.zeros_like(to_drive[0])
        for t in reversed(range(steps)):
            hidden = torch.add(to_hidden[t], h, out=to_drive[t])
            h = (gates[t] * hidden[:, None]).flatten(1) @ weight
            if keep:
                h.addcmul_(keep[0][t], hidden)
        return to_drive, h, None, None, None


def gated_recurrence(
    drive: Float[Tensor, "time batch hidden"],
    h: Float[Tensor, "batch hidden"],
    weight: Float[Tensor, "gates*hidden hidden"],
    slopes: Float[Tensor, "time batch gates*hidden"],
    keep: Float[Tensor, "time batch hidden"] | None = None,
) -> Float[Tensor, "time batch hidden"]:
    """The recurrence h <- drive + keep * h + the sum over gates of slopes * (W h); without ``keep`` of one gate.

    All h of it; linear, and differentiable once, in ``drive`` and in the ``h`` that it starts from. The others are
    constants.
    """
    result: Tensor = _GatedRecurrence.apply(drive, h, weight, slopes, keep)  # type: ignore[no-untyped-call]
    return result

"""Delayed dropout: the schedule of a dropout rate that is switched on late."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from selftune.objectives.regularizers.supervision.dropout import Dropout, dropout

from selftune.hyperparameters import Hyperparameter, Interval, Unit
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import register
from selftune.regularization.step import Step, per_example
from selftune.shapes import Float, Tensor


def delayed_dropout(
    progress: Float[Tensor, "n"],
    rate: float | Float[Tensor, ""] = 0.1,
    start: float | Float[Tensor, ""] = 0.5,
    ramp: float | Float[Tensor, ""] = 0.0,
) -> Float[Tensor, "n"]:
    """The dropout rate at every time: 0 before ``start``, then ``rate``, reached at once or over ``ramp``.

    Args:
        progress: share of training done, in [0, 1].
        rate: final dropout rate, in [0, 1).
        start, ramp: in [0, 1], as shares of training.

    Source: "To Repeat or Not To Repeat: Insights from Scaling LLM under Token-Crisis" (arXiv 2305.13230);
    the form of the schedule is ours.

    >>> delayed_dropout(torch.tensor([0.25, 0.5, 0.75, 1.0]), rate=0.5, start=0.5, ramp=0.5)
    tensor([0.0000, 0.0000, 0.2500, 0.5000])
    """
    since = progress - start
    ramp = torch.as_tensor(ramp, dtype=progress.dtype, device=progress.device)
    rising = (since / ramp.where(ramp > 0, torch.ones_like(ramp))).clamp(0, 1)
    return rate * rising.where(ramp > 0, (since >= 0).to(progress.dtype))


@register
class DelayedDropout(Dropout):
    """Dropout before layers that is switched on after a share ``start`` of training, at once or over ``ramp``.

    ``parts`` names layers whose *inputs* are dropped; by default all but the first.
    """

    name = "delayed_dropout"
    reference = Reference("To Repeat or Not To Repeat: Insights from Scaling LLM under Token-Crisis", "2305.13230")
    hyperparameters = (
        Hyperparameter("rate", Interval(0.0, 0.95), 0.1, smooth=False),
        Hyperparameter("start", Unit(), 0.5, smooth=False),
        Hyperparameter("ramp", Unit(), 0.0, smooth=False),
    )
    needs = frozenset({"progress"})

    def on_input(self, inputs: Tensor, step: Step, values: Mapping[str, Any]) -> Tensor:
        progress = torch.full((), step.progress, device=inputs.device)
        rate = delayed_dropout(progress, values["rate"], values["start"], values["ramp"])
        return dropout(inputs, step.rand(*inputs.shape, examples=0), per_example(rate, inputs))

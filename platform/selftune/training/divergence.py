"""Losses that are not finite any more, said with where and with what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from selftune.shapes import Float, Tensor
from selftune.training.look import fetched

_MOST_PRINTED = 20  # values of a hyperparameter


class NotFinite(ArithmeticError):
    """The training loss or the hypergradient is not finite any more.

    Attributes:
        training_step: the first step at which it was so.
    """

    def __init__(self, message: str, training_step: int) -> None:
        super().__init__(message)
        self.training_step = training_step


def mean_loss(
    losses: Sequence[Float[Tensor, ""]],
    first_step: int,
    values: Mapping[str, Any],
    history: Sequence[Mapping[str, Tensor]] = (),
) -> float:
    """The mean loss of some training steps; nan of none.

    Args:
        losses: on the CPU.
        first_step: the number of the first of them.
        values: the hyperparameters at the end, by name.
        history: what regularizers added to each of the losses.

    Raises:
        NotFinite: if a loss is not finite.

    >>> mean_loss([torch.tensor(1.0), torch.tensor(2.0)], 0, {})
    1.5
    """
    if not losses:
        return float("nan")
    stacked = torch.stack(list(losses))
    bad = torch.nonzero(~torch.isfinite(stacked))
    if not len(bad):
        return float(stacked.mean())
    first = int(bad[0])
    blown_up = _blown_up(stacked.tolist(), first, history)
    raise NotFinite(
        f"the training loss is {float(stacked[first])} at training step {first_step + first}{blown_up} with"
        f" {_printed(values)}",
        first_step + first,
    )


@contextmanager
def blamed_on(
    losses: Sequence[Float[Tensor, ""]],
    first_step: int,
    values: Mapping[str, Any],
    history: Sequence[Mapping[str, Tensor]],
) -> Iterator[None]:
    """What fails within because weights are not finite any more is put down to the loss that was so first.

    Raises:
        NotFinite: in place of a ``RuntimeError``, where one of the losses is not finite; see ``mean_loss``.
    """
    try:
        yield
    except RuntimeError:
        mean_loss(fetched(losses), first_step, values, history)
        raise


def check_hypergradient(payload: Mapping[str, Tensor], training_step: int, values: Mapping[str, Any]) -> None:
    """Refuses what a method cannot move by.

    Raises:
        NotFinite: if some of it is not finite.
    """
    if not all(bool(torch.isfinite(tensor).all()) for tensor in payload.values()):
        raise NotFinite(
            f"the hypergradient is not finite after training step {training_step} with {_printed(values)}",
            training_step,
        )


def _blown_up(losses: Sequence[float], first: int, history: Sequence[Mapping[str, Tensor]]) -> str:
    """Says which regularizer's term made up most of the loss right before it was not finite any more."""
    terms = history[first - 1] if 0 < first <= len(history) else {}
    if not terms:
        return ""
    sizes = {name: float(term) for name, term in terms.items()}
    name = max(sizes, key=lambda name: abs(sizes[name]))
    if 2 * abs(sizes[name]) <= abs(losses[first - 1]):
        return ""
    return f", after {losses[first - 1]:.3g}, of which {name} is {sizes[name]:.3g},"


def _printed(values: Mapping[str, Any]) -> str:
    tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
    return ", ".join(f"{name} = {_numbers(value)}" for name, value in tensors.items())


def _numbers(value: Tensor) -> str:
    if value.numel() > _MOST_PRINTED:
        return f"{float(value.min()):.4g} to {float(value.max()):.4g}"
    return " ".join(f"{entry:.4g}" for entry in value.reshape(-1).tolist())

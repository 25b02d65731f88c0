"""Co-teaching: two networks choose each other's training examples."""

from __future__ import annotations

import torch

from selftune.shapes import Float, Tensor


def co_teaching(
    losses_first: Float[Tensor, "batch"],
    losses_second: Float[Tensor, "batch"],
    forget_rate: float | Float[Tensor, ""],
) -> tuple[Float[Tensor, "batch"], Float[Tensor, "batch"]]:
    """Weights 1 for the examples that the *other* network finds easiest, 0 for the share ``forget_rate``.

    The first result weighs the first network's losses. Of equal losses those of lower index are kept;
    ``floor((1 - forget_rate) * batch)`` examples remain.

    Args:
        forget_rate: in [0, 1], about the share of wrong labels.

    Source: "Compressing Features for Learning with Noisy Labels" (arXiv 2206.13140) and "Co-teaching: Robust
    Training of Deep Neural Networks with Extremely Noisy Labels" (arXiv 1804.06872, algorithm 1).

    >>> co_teaching(torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.3, 0.2, 0.1]), 0.5)
    (tensor([0., 0., 1.]), tensor([1., 0., 0.]))
    """
    return _easiest(losses_second, forget_rate), _easiest(losses_first, forget_rate)


def _easiest(losses: Float[Tensor, "batch"], forget_rate: float | Float[Tensor, ""]) -> Float[Tensor, "batch"]:
    batch = len(losses)
    # (1 - 0.9) * 10 must count as 1 in the precision in which the rate is given
    slack = batch * torch.finfo(forget_rate.dtype).eps if isinstance(forget_rate, Tensor) else 1e-9
    ranks = losses.detach().argsort(stable=True).argsort() + 1
    return (ranks <= (1 - forget_rate) * batch + slack).to(losses.dtype)

"""Mixed Barlow Twins: mixed inputs should have mixed features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from selftune.objectives.mathematics.draws import symmetric_beta

from selftune.hyperparameters import Hyperparameter, Positive
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
from selftune.shapes import Float, Int, Tensor


def mixed_barlow_twins(
    mixed: Float[Tensor, "n dim"],
    view_a: Float[Tensor, "n dim"],
    view_b: Float[Tensor, "n dim"],
    mix: float | Float[Tensor, ""],
    permutation: Int[Tensor, "n"],
    eps: float = 1e-5,
) -> Float[Tensor, ""]:
    """How far the cross-correlations of mixed inputs with both views are from the mixed cross-correlations.

    The features ``mixed`` belong to the inputs ``mix * a + (1 - mix) * b[permutation]``. All three are
    standardised column by column. Half the squared Frobenius norms, summed over both views.

    Args:
        mix: share of the first view, in [0, 1].
        permutation: whom of the second view each row was mixed with.
        eps: positive, added to the variances.

    Raises:
        ValueError: if there is a single row.

    Source: "Guarding Barlow Twins Against Overfitting with Mixed Samples" (arXiv 2312.02151).

    >>> a, b = torch.tensor([[1.0], [-1.0]]), torch.tensor([[-1.0], [1.0]])
    >>> mixed_barlow_twins(a, a, b, 0.5, torch.tensor([0, 1]))
    tensor(1.0000)
    """
    m, a, b = (F.batch_norm(view, None, None, training=True, eps=eps) for view in (mixed, view_a, view_b))
    # correlations are linear in either side, so that the three of each view need one product
    residual = m - mix * a - (1 - mix) * b[permutation]
    return 0.5 * (residual.T @ torch.cat([a, b], dim=1) / len(m)).square().sum()


@register
class MixedBarlowTwins(Regularizer):
    """Asks for mixed embeddings of mixed views; goes with ``barlow_twins``, whose views it mixes.

    One ``mix ~ Beta(alpha, alpha)`` per batch. Embeddings are the network's outputs.
    """

    name = "mixed_barlow_twins"
    family = "representation"
    kind = "penalty"
    reference = Reference("Guarding Barlow Twins Against Overfitting with Mixed Samples", "2312.02151")
    hyperparameters = (
        Hyperparameter("strength", Positive(sweep=(0.005, 0.5)), 0.05),
        Hyperparameter("alpha", Positive(sweep=(0.1, 2.0)), 1.0, shared=True),
    )
    needs = frozenset({"inputs", "second_inputs", "view_a", "view_b", "real_inputs"})

    def penalty(self, step: Step) -> Float[Tensor, ""]:
        mix = symmetric_beta(step, self.value(step, "alpha")).to(step.inputs)
        permutation = step.permutation()
        inputs = mix * step.inputs + (1 - mix) * step.second_inputs[permutation]
        mixed = step.asks.pass_through(step, inputs).logits
        return mixed_barlow_twins(mixed, step.view_a, step.view_b, mix, permutation)

"""Hessian alignment: equal gradients and equal curvature of a linear softmax head across domains."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from selftune.objectives.mathematics.domains import averaging_matrix

from selftune.hyperparameters import Hyperparameter, Integer, Positive
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
from selftune.shapes import Float, Int, Tensor


def hessian_gradient_alignment(
    features: Float[Tensor, "batch dim"],
    weight: Float[Tensor, "classes dim"],
    bias: Float[Tensor, "classes"],
    targets: Int[Tensor, "batch"],
    domains: Int[Tensor, "batch"],
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Mean squared distances of the domains' Hessian-gradient products and gradients from those of the mean loss.

    Gradients and Hessians are those of the mean cross-entropy of a domain in the head's weight and bias. What
    domains are compared with is the gradient, and the Hessian times the gradient, of the mean over domains; it
    gets no gradient.

    Returns:
        The Hessian term and the gradient term.

    Source: "Understanding Hessian Alignment for Domain Generalization" (arXiv 2308.11778), its method HGP.

    >>> features, zeros = torch.tensor([[1.0], [-1.0]]), torch.zeros(2)
    >>> hessian_gradient_alignment(features, zeros[:, None], zeros, torch.tensor([0, 0]), torch.tensor([0, 1]))
    (tensor(0.6250), tensor(0.5000))
    """
    head = _Head(features, weight, bias, targets)
    averaging = averaging_matrix(domains, features)
    gradients = head.gradients(averaging)
    products = head.hessian_products(averaging, gradients)
    everywhere = averaging.mean(dim=0, keepdim=True)
    product = head.hessian_products(everywhere, gradients.mean(dim=0, keepdim=True))
    return _spread(products, product), _spread(gradients, gradients.mean(dim=0))


def hessian_diagonal_alignment(
    features: Float[Tensor, "batch dim"],
    weight: Float[Tensor, "classes dim"],
    bias: Float[Tensor, "classes"],
    targets: Int[Tensor, "batch"],
    domains: Int[Tensor, "batch"],
    probes: Float[Tensor, "draws parameters"],
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Mean squared distances of the domains' Hessian diagonals and gradients from those of the mean loss.

    Diagonals are Hutchinson's estimates, means over the probes z of ``z * (H z)``; all domains share the probes.

    Args:
        probes: random signs; parameters are the weight, row by row, then the bias.

    Returns:
        The Hessian term and the gradient term.

    Source: "Understanding Hessian Alignment for Domain Generalization" (arXiv 2308.11778), its method Hutchinson.

    >>> features, zeros, domains = torch.tensor([[1.0], [3.0]]), torch.zeros(2), torch.tensor([0, 1])
    >>> probes = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 4)  # all signs: the diagonal is exact
    >>> hessian_diagonal_alignment(features, zeros[:, None], zeros, domains, domains, probes)
    (tensor(2.), tensor(2.5000))
    """
    head = _Head(features, weight, bias, targets)
    averaging = averaging_matrix(domains, features)
    classes, dim = weight.shape
    z = torch.cat([probes[:, :-classes].reshape(-1, classes, dim), probes[:, -classes:, None]], dim=2)
    curvatures = head.curvatures(torch.einsum("kcm,im->kic", z, head.inputs))
    # first over probes, then over examples: what lies between is no larger than the examples' gradients
    per_example = torch.einsum("kcm,kic->icm", z, curvatures) * head.inputs[:, None] / len(z)
    diagonals = torch.einsum("ei,icm->ecm", averaging, per_example)
    gradients = head.gradients(averaging)
    return _spread(diagonals, diagonals.mean(dim=0)), _spread(gradients, gradients.mean(dim=0))


class _Head:
    """Closed forms of cross-entropy's derivatives in a linear head; the bias is the weight of a constant input."""

    def __init__(self, features: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> None:
        self.inputs = F.pad(features, (0, 1), value=1.0)
        self.probs = torch.softmax(F.linear(features, weight, bias), dim=1)
        self.residuals = self.probs - F.one_hot(targets, len(weight)).to(self.probs)

    def gradients(self, averaging: Float[Tensor, "e batch"]) -> Float[Tensor, "e classes dim+1"]:
        return torch.einsum("ei,ic,im->ecm", averaging, self.residuals, self.inputs)

    def hessian_products(
        self, averaging: Float[Tensor, "e batch"], directions: Float[Tensor, "e classes dim+1"]
    ) -> Float[Tensor, "e classes dim+1"]:
        tangents = torch.einsum("ecm,im->eic", directions, self.inputs)
        return torch.einsum("ei,eic,im->ecm", averaging, self.curvatures(tangents), self.inputs)

    def curvatures(self, tangents: Float[Tensor, "*n batch classes"]) -> Float[Tensor, "*n batch classes"]:
        """Hessian of the cross-entropy in the logits, ``diag(p) - p p^T``, times changes of the logits."""
        return self.probs * (tangents - (self.probs * tangents).sum(dim=-1, keepdim=True))


def _spread(values: Tensor, centre: Tensor) -> Tensor:
    return (values - centre.detach()).square().flatten(1).sum(dim=1).mean()


_REFERENCE = Reference("Understanding Hessian Alignment for Domain Generalization", "2308.11778")


@register
class HessianGradientAlignment(Regularizer):
    """Equal gradients (``beta``) and Hessian-gradient products (``alpha``) of the last layer across domains."""

    name = "hessian_gradient_alignment"
    family = "adaptation"
    kind = "penalty"
    reference = _REFERENCE
    hyperparameters = (
        Hyperparameter("alpha", Positive(sweep=(1e-5, 10.0)), 1e-3),
        Hyperparameter("beta", Positive(sweep=(1e-4, 100.0)), 5e-3),
    )
    needs = frozenset({"features", "head", "labels", "domains"})
    risk = "domains"
    waits = "it has a row of averages for every domain of the batch"

    def penalty(self, step: Step) -> Float[Tensor, "*batch"]:
        weight, bias = step.head
        terms = hessian_gradient_alignment(step.features, weight, bias, step.labels, step.domains)
        return _weighted(self, step, *terms)


@register
class HessianDiagonalAlignment(Regularizer):
    """Equal gradients (``beta``) and Hessian diagonals (``alpha``) of the last layer across domains.

    Diagonals are estimated with ``draws`` random sign vectors, drawn anew in every step.
    """

    name = "hessian_diagonal_alignment"
    family = "adaptation"
    kind = "penalty"
    reference = _REFERENCE
    hyperparameters = (
        Hyperparameter("alpha", Positive(sweep=(1e-5, 10.0)), 1e-3),
        Hyperparameter("beta", Positive(sweep=(1e-4, 100.0)), 5e-3),
        Hyperparameter("draws", Integer(1, 1000), 300, online=False, smooth=False, swept=False),
    )
    needs = frozenset({"features", "head", "labels", "domains"})
    risk = "domains"
    waits = "it has a row of averages for every domain of the batch"

    def penalty(self, step: Step) -> Float[Tensor, "*batch"]:
        weight, bias = step.head
        probes = 2.0 * (step.rand(self.bound["draws"].value, weight.numel() + bias.numel()) < 0.5) - 1
        terms = hessian_diagonal_alignment(
            step.features, weight, bias, step.labels, step.domains, probes.to(weight)
        )
        return _weighted(self, step, *terms)


def _weighted(
    regularizer: Regularizer, step: Step, hessians: Tensor, gradients: Tensor
) -> Float[Tensor, "*batch"]:
    total: Tensor = regularizer.value(step, "alpha") * hessians + regularizer.value(step, "beta") * gradients
    return total

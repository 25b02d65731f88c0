"""One arm of a search over hyperparameter steps: trained from a common state, judged, perhaps differentiated."""

from __future__ import annotations

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from selftune.hypergradients.stochastic.linear_systems import conjugate_gradient
from selftune.lower_level.lanczos import lanczos
from selftune.lower_level.losses import Losses
from selftune.methods.reports import ProximalHypergradient
from selftune.methods.work_orders import TrainArm, TrainStayArm
from selftune.networks.modes import evaluating
from selftune.networks.precision import widened
from selftune.shapes import Float, Int, Tensor
from selftune.training.lower_level import LowerLevel, validation_measures

_CHUNK = 4096  # validation examples per forward pass
_RELATIVE_CURVATURE = 1e-2  # smallest curvature of the proximal problem, in units of the largest Ritz value


class Arm:
    """Training from the current state at given hyperparameters, as an order says.

    The lower level is the proximal one, h_a(x) = h(x, u) + gamma/2 |x - a|^2, with a the weights at the start;
    gamma 0 trains the plain one. Two arms that start from one state and have the same order differ in nothing.

    Args:
        lower: the network in its state at the start.
        order: what is trained and judged; a hypergradient takes that of the arm that stays.

    Raises:
        SettingError: if the training loss is not a differentiable function of a tuned hyperparameter.
    """

    def __init__(self, lower: LowerLevel, order: TrainArm) -> None:
        self.lower = lower
        self.order = order
        self.values = lower.space.unpack(order.values.constrained.to(lower.device))
        self._gamma = order.gamma
        self._parameters: list[Tensor] = [p for p in lower.parameters.values() if p.requires_grad]
        self._anchor = [p.detach().clone() for p in self._parameters] if self._gamma else []

    def train(self, number: int) -> Float[Tensor, ""]:
        """One training step; returns the loss without the proximal term, detached."""
        if not self._gamma:
            return self.lower.train(number, self.values)
        with torch.no_grad():
            pulls = torch._foreach_sub(self._parameters, self._anchor)
            torch._foreach_mul_(pulls, self._gamma)
        with self.lower.descent.adding(self._parameters, pulls):
            return self.lower.train(number, self.values)

    # Judgement ---------------------------------------------------------------------------------------

    def _samples(self) -> tuple[Int[Tensor, "m"], Int[Tensor, "rest"]]:
        """Validation examples that judge the arms, and others that the hypergradient may see.

        They are apart: a step along the gradient of a sample lowers the loss of that sample whether or not it
        lowers the loss of others, and a test on it would accept noise.
        """
        lower = self.lower
        generator = lower.streams("validation", self.order.sample)
        examples = lower.sources.validation_examples
        order = torch.randperm(examples, generator=generator, device=lower.device)
        judges = number_of_judges(examples, self.order.samples)
        rest = order[judges:]
        return order[:judges], rest[: lower.objective.validation_batch_size or len(rest)]

    @torch.no_grad()
    def losses(self) -> tuple[Float[Tensor, "m"], dict[str, Float[Tensor, ""]]]:
        """Losses of the examples that judge, and means of all measures of them, on the device."""
        lower = self.lower
        index, _ = self._samples()
        parts: list[dict[str, Tensor]] = []
        for chunk in torch.split(index, _CHUNK):
            batch = lower.sources.validation_rows(chunk)
            losses, metrics = lower.judgement(batch)
            parts.append(
                {name: _of_examples(each, len(chunk)) for name, each in {"loss": losses, **metrics}.items()}
            )
        measures = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        loss = measures.pop("loss")
        return loss, validation_measures(Losses(loss), {name: Losses(values) for name, values in measures.items()})

    # Hypergradient -----------------------------------------------------------------------------------

    def hypergradient(self, number: int) -> ProximalHypergradient:
        """-J^T (H + gamma I)^-1 grad g at the current weights, and what was met on the way.

        H and J are those of one batch, that of training step ``number``, with its random draws. gamma is
        2 max(0, -smallest Ritz value) + mu_0, estimated here: H + gamma I has no eigenvalue below mu_0 if none of
        H is below -2 max(0, -smallest Ritz value), which is likely, not known.
        """
        lower, order = self.lower, self.order
        assert isinstance(order, TrainStayArm)
        parameters = self._parameters
        b = self._upper_gradient()
        u = order.values.unconstrained.detach().clone().to(lower.device).requires_grad_()
        with sdpa_kernel(SDPBackend.MATH):  # the other kernels of attention have no second derivatives
            loss = lower.smooth_loss(number, u, "hypergradient")
        gradient = _flat(torch.autograd.grad(loss, parameters, create_graph=True, materialize_grads=True))

        def product(v: Tensor) -> Tensor:
            columns = torch.autograd.grad(gradient, parameters, v, retain_graph=True, materialize_grads=True)
            return lower.group.mean(_flat(columns))

        start = lower.streams("hypergradient", number)
        smallest, largest = (float(value) for value in lanczos(product, b, order.lanczos_steps, start))
        curvature = order.curvature
        if curvature is None:
            curvature = _RELATIVE_CURVATURE * max(largest, -smallest)
        gamma = 2 * max(0.0, -smallest) + curvature
        q, residual = conjugate_gradient(product, b, order.system_steps, damping=gamma)
        (mixed,) = torch.autograd.grad(gradient, [u], q, materialize_grads=True)
        mixed = lower.group.mean(mixed)
        return ProximalHypergradient(
            hypergradient=-mixed,
            ritz_min=smallest,
            ritz_max=largest,
            gamma=gamma,
            residual=float(residual),
        )

    def _upper_gradient(self) -> Float[Tensor, "p"]:
        lower = self.lower
        batch = lower.sources.validation_rows(self._samples()[1])
        with evaluating(lower.network):  # on the way back as well, where checkpoints run modules again
            losses, _ = lower.judgement(batch)
            gradients = torch.autograd.grad(losses.mean(), self._parameters, materialize_grads=True)
            return lower.group.mean(_flat(gradients)).detach()


def number_of_judges(examples: int, asked: int | None) -> int:
    """How many of the validation examples judge the arms; None asks for half. At least one is left for the rest.

    >>> number_of_judges(100, None), number_of_judges(100, 80), number_of_judges(100, 200)
    (50, 80, 99)
    """
    return min(asked or examples // 2, examples - 1)


def _of_examples(losses: Losses, examples: int) -> Float[Tensor, "batch"]:
    """One number per example, whose plain mean is that of the losses: heavy examples have large ones."""
    values, weights = losses.of_examples(examples)
    return values if weights is None else values * weights * (examples / weights.sum())


def _flat(tensors: tuple[Tensor, ...]) -> Float[Tensor, "p"]:
    return torch.cat([widened(tensor).reshape(-1) for tensor in tensors])

"""Derivatives of a smooth objective against finite differences, before anything relies on them."""

from __future__ import annotations

from collections.abc import Callable

import torch

from selftune.errors import SettingError
from selftune.hypergradients.oracle import Oracle
from selftune.hypergradients.proximal import ProximalStep
from selftune.lower_level.smooth_objective import SmoothObjective
from selftune.shapes import Tensor

_SPREAD = 0.1  # of the point around the start, where a start of zeros would hide what multiplies the parameters
_SEED = 7


def check_derivatives(objective: SmoothObjective) -> None:
    """Compares every first and second derivative that methods use, along one random direction, with differences.

    A wrong closed form, or a hyperparameter whose graph is cut (by ``float``, ``.item()``, ``.detach()``), would
    lead a search astray without an error. Costs some thirty evaluations of the two levels. The error of a
    difference is estimated from a second one at twice the distance, so that levels with sharp bends pass.

    Raises:
        SettingError: naming the function, with both numbers.

    >>> from selftune.objectives.tasks.quadratic_bilevel import QuadraticBilevel
    >>> class Wrong(QuadraticBilevel):
    ...     def lower_gradient(self, parameters, values):
    ...         return {"x": 2 * super().lower_gradient(parameters, values)["x"]}
    >>> check_derivatives(QuadraticBilevel())
    >>> check_derivatives(Wrong())
    Traceback (most recent call last):
    ...
    selftune.errors.SettingError: lower_gradient: contradicts lower, which changes by ... per unit along a random
    direction and not by ...; correct it, or leave it out to have it derived
    """
    oracle = Oracle(objective)
    u = oracle.start_u()
    x = oracle.start_x()
    generator = torch.Generator().manual_seed(_SEED)

    def normal(like: Tensor) -> Tensor:
        drawn: Tensor = torch.randn(len(like), generator=generator, dtype=torch.float64).to(like)
        return drawn

    size = max(1.0, float(x.square().mean().sqrt())) if oracle.n else 1.0
    x = x + _SPREAD * size * normal(x)
    v, w = size * normal(x), normal(u)
    tree = oracle.unravel(x)

    def lower(at: Tensor) -> Tensor:
        return objective.lower(oracle.unravel(at), oracle.values(u)).detach().reshape(1)

    def level(at: Tensor, where: Tensor) -> Tensor:
        return x.new_tensor([oracle.upper(at, where)])

    derived = objective.lower_gradient(tree, oracle.values(u)) is None
    hint = (
        "compute it by torch operations alone, without float(), .item(), .detach() or numpy"
        if derived
        else "correct it, or leave it out to have it derived"
    )
    gradient = oracle.grad_x(x, u)
    name = "lower" if derived else "lower_gradient"
    _compare(name, "lower", lower, x, v, torch.dot(gradient, v).reshape(1), hint)
    closed = objective.hessian_product(tree, oracle.values(u)) is not None
    _compare(
        "hessian_product" if closed else name,
        "the gradient of lower",
        lambda at: oracle.grad_x(at, u),
        x,
        v,
        oracle.hvp(x, u)(v),
        "correct it, or leave it out to have it derived" if closed else hint,
    )
    if oracle.d:
        cut = (
            "compute it from the values of the hyperparameters by torch operations alone, without float(), .item()"
        )
        _compare(
            name,
            "the gradient of lower in the hyperparameters",
            lambda at: oracle.grad_x(x, at),
            u,
            w,
            oracle.J(x, u, w),
            f"{cut} or .detach()",
        )
        along = torch.dot(oracle.upper_grad_u(x, u), w).reshape(1)
        _compare("upper", "its value in the hyperparameters", lambda at: level(x, at), u, w, along, f"{cut}")
    along = torch.dot(oracle.upper_grad_x(x, u), v).reshape(1)
    cut = "compute it by torch operations alone, without float(), .item(), .detach() or numpy"
    _compare("upper", "its value", lambda at: level(at, u), x, v, along, cut)
    at = oracle._at(u)
    bound = objective.jacobian_norm(tree, at.values, at.slopes)
    if bound is not None and oracle.d:
        least = float(oracle.J(x, u, w).norm() / w.norm())
        if least > bound * (1 + 100 * torch.finfo(x.dtype).eps ** 0.5):
            raise SettingError(
                "jacobian_norm",
                f"is {bound:.6g} where the norm is at least {least:.6g}; correct it, or leave it out",
            )
    if oracle.nonsmooth:
        _check_proximal(oracle, x, u, v, w)


def _check_proximal(oracle: Oracle, x: Tensor, u: Tensor, v: Tensor, w: Tensor) -> None:
    """A proximal map against what every one fulfils: how it takes its step, that it contracts, its derivatives.

    With x+ = prox(y, step), prox(x+ + s (y - x+), s * step) = x+ for s > 0: the same subgradient leads there.
    """
    step = ProximalStep(oracle, x, u)
    slack = 100 * torch.finfo(x.dtype).eps ** 0.5

    def mapped(y: Tensor, where: Tensor, length: float = step.length) -> Tensor:
        found = oracle.prox(y, where, length)
        assert found is not None
        return found

    off = float((mapped(step.x + 2 * (step.y - step.x), u, 2 * step.length) - step.x).norm())
    if off > slack * float(step.y.norm() + step.x.norm()):
        raise SettingError(
            "proximal",
            "is not the map of one term at every step: with twice the step, from where the same subgradient leads"
            f" to the same point, it is off by {off:.3g}; multiply strengths by step, constraints by nothing",
        )
    turned = step.D(v)
    if float(turned @ turned) > float(turned @ v) + slack * float(v @ v):
        raise SettingError("proximal", "is no proximal map: it expands what it is applied to; check its signs")
    hint = "correct its derivative, or write it by torch operations; one that is not symmetric is no proximal map"
    _compare("proximal", "its value", lambda y: mapped(y, u), step.y, v, turned, hint)
    if oracle.d:
        p = v / v.norm()
        along = torch.dot(step.ET(p), w).reshape(1)
        _compare("proximal", "its value", lambda at: (p @ mapped(step.y, at)).reshape(1), u, w, along, hint)


def _compare(
    name: str, what: str, function: Callable[[Tensor], Tensor], at: Tensor, along: Tensor, said: Tensor, hint: str
) -> None:
    eps = torch.finfo(at.dtype).eps
    t = eps ** (1 / 3)
    ends = [(function(at + k * t * along), function(at - k * t * along)) for k in (1, 2)]
    near, far = ((ahead - behind) / (2 * k * t) for k, (ahead, behind) in zip((1, 2), ends, strict=True))
    size = float(torch.stack([end.norm() for pair in ends for end in pair]).max())
    doubt = float((near - far).norm()) + 100 * eps * size / t
    wrong = float((near - said).norm())
    slack = 100 * eps**0.5 * float(near.norm() + said.norm())
    if not wrong <= doubt + slack:
        raise SettingError(
            name,
            f"contradicts {what}, which changes by {_shown(near)} per unit along a random direction and not by"
            f" {_shown(said)}; {hint}",
        )


def _shown(change: Tensor) -> str:
    return f"{float(change) if len(change) == 1 else float(change.norm()):.6g}"

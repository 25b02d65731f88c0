"""Smooth objectives: a strongly convex lower level that is solved to a tolerance, and a smooth upper level."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from selftune.errors import SettingError
from selftune.hyperparameters import Hyperparameter
from selftune.lower_level.finite_sum import FiniteSum
from selftune.lower_level.proximal_terms import ActiveSet, ProximalTerm
from selftune.shapes import Float, Tensor

Tree = Mapping[str, Tensor]
"""Named tensors."""


class LowerLevelError(ArithmeticError):
    """The lower level is not what a method needs, or not what its constants say; one plain sentence."""


class ConstantDisproved(LowerLevelError):
    """A constant that an objective gives contradicts what was met: both numbers, in one sentence.

    >>> print(ConstantDisproved("smoothness", 2.0, 8.0, "between two points of a solve"))
    smoothness is given as 2, but a curvature of 8 was met between two points of a solve; correct it where the
    objective gives its constants
    """

    def __init__(self, name: str, given: float, met: float, where: str) -> None:
        shown = f"{given:.6g}" if not isinstance(given, bool) else f"{given}"
        super().__init__(
            f"{name} is given as {shown}, but a curvature of {met:.6g} was met {where}; correct it where the"
            " objective gives its constants"
        )
        self.name, self.given, self.met, self.where = name, given, met, where

    def __reduce__(self) -> tuple[type[ConstantDisproved], tuple[str, float, float, str]]:
        return type(self), (self.name, self.given, self.met, self.where)  # raised on a worker, read on the driver


class NotStronglyConvex(LowerLevelError):
    """The lower level curves downwards or not at all, where a method needs it strongly convex.

    ``curvature`` is the smallest curvature that was met: the quotient p'Hp / p'p, or the constant given.

    >>> print(NotStronglyConvex(-0.25))
    the lower level is not strongly convex: the smallest curvature met is -0.25; add ...
    """

    def __init__(self, curvature: float) -> None:
        super().__init__(
            f"the lower level is not strongly convex: the smallest curvature met is {curvature:g}; add a quadratic"
            " term to it, such as weight decay, or tune it by a method that needs no strong convexity"
            " (self_tuning, penalty)"
        )
        self.curvature = curvature

    def __reduce__(self) -> tuple[type[NotStronglyConvex], tuple[float]]:
        return type(self), (self.curvature,)  # raised on a worker, read on the driver


@dataclass(frozen=True)
class Constants:
    """What a certificate needs to know of both levels, at one value of the hyperparameters.

    Lower level h(x, u), upper level g(x, u); x the parameters as one vector, u the unconstrained hyperparameters.
    Of a lower level with terms that are not smooth, h is the smooth part.

    Args:
        strong_convexity: smallest eigenvalue of the Hessian of h in x, or a lower bound of it (mu).
        smoothness: largest eigenvalue of the same Hessian, or an upper bound (L).
        hessian_lipschitz: Lipschitz constant in x of that Hessian (L_H).
        jacobian_lipschitz: Lipschitz constant in x of d(grad_x h)/du (L_J).
        upper_smoothness: Lipschitz constant in x of grad_x g (L_g).
        upper_convex: whether g is convex in x.
        certified: True where all of them, and ``SmoothObjective.jacobian_norm``, are proven bounds; False where
            one is an estimate. The strong convexity, the smoothness and the upper smoothness are proven in both
            cases, unless ``estimated``.
        upper_mixed_smoothness: Lipschitz constant in x of grad_u g; zero where g does not depend on u.
        estimated: whether the strong convexity, the smoothness or the upper smoothness is an estimate too: then no
            step is certified, and what a solve meets takes an estimate's place. A given constant that a solve
            disproves stops it.
        products: Hessian products spent on estimates, which count as work.

    Raises:
        NotStronglyConvex: if the strong convexity is not positive.
        ValueError: if the constants are said to be both certified and estimated.

    >>> Constants(1.0, 4.0, 0.0, 0.0, 2.0, upper_convex=True, certified=True).condition
    4.0
    """

    strong_convexity: float
    smoothness: float
    hessian_lipschitz: float
    jacobian_lipschitz: float
    upper_smoothness: float
    upper_convex: bool
    certified: bool
    upper_mixed_smoothness: float = 0.0
    estimated: bool = False
    products: int = 0

    def __post_init__(self) -> None:
        if self.estimated and self.certified:
            raise ValueError("constants with an estimate among them are not certified; set certified=False")
        if not (self.strong_convexity > 0 and math.isfinite(self.strong_convexity)):
            raise NotStronglyConvex(self.strong_convexity)

    def widened(self, strong_convexity: float, smoothness: float) -> Constants:
        """These with estimates that allow for curvatures that were met."""
        return replace(self, strong_convexity=strong_convexity, smoothness=smoothness)

    @property
    def condition(self) -> float:
        """Condition number of the lower level, L / mu."""
        return self.smoothness / self.strong_convexity


class SmoothObjective(ABC):
    """min over u of g(x(u), u), where x(u) minimises h(., u): the second shape of an objective.

    Both levels are functions of named tensors and of the hyperparameters' values, in plain torch operations, so
    that they can be differentiated in both. They draw no random numbers. Subclasses are picklable.

    A subclass must give ``parameters``, ``lower``, ``upper`` and ``constants``. What autograd derives from these
    may be replaced by closed forms where they are faster: ``lower_gradient``, ``hessian_product``,
    ``jacobian_norm``. A lower level may have ``terms`` that are not smooth, or a ``proximal`` map of its own.

    Sources: "An adaptively inexact first-order method for bilevel optimization with application to hyperparameter
    learning" (arXiv 2308.10098).
    """

    hyperparameters: tuple[Hyperparameter, ...]
    """All hyperparameters with their starts; the tuned ones are packed by a ``Space``."""

    @abstractmethod
    def parameters(self) -> dict[str, Tensor]:
        """Where the lower-level solvers start, in the objective's type and on its device."""

    @abstractmethod
    def lower(self, parameters: Tree, values: Mapping[str, Any]) -> Float[Tensor, ""]:
        """h: the regularized training loss. ``values`` are those of ``Space.values``."""

    @abstractmethod
    def upper(self, parameters: Tree, values: Mapping[str, Any]) -> Float[Tensor, ""]:
        """g: the validation loss."""

    @abstractmethod
    def constants(self, values: Mapping[str, Any], slopes: Mapping[str, Tensor]) -> Constants:
        """Constants of both levels at these values.

        ``slopes`` holds the derivative of every tuned value in its unconstrained coordinate, in the shape of
        the value (the value itself where it is tuned as a logarithm); fixed hyperparameters have no entry.
        """

    def finite_sum(self) -> FiniteSum | None:
        """What both levels are on some of their examples; None where they are no means over examples."""
        return None

    def lower_gradient(self, parameters: Tree, values: Mapping[str, Any]) -> Tree | None:
        """Closed form of the gradient of h in the parameters, differentiable in both; None: by autograd."""
        return None

    def hessian_product(self, parameters: Tree, values: Mapping[str, Any]) -> Callable[[Tree], Tree] | None:
        """Closed form of v -> Hv at these parameters; None: by autograd."""
        return None

    def jacobian_norm(
        self, parameters: Tree, values: Mapping[str, Any], slopes: Mapping[str, Tensor]
    ) -> float | None:
        """An upper bound of the spectral norm of d(grad_x h)/du; None: estimated by power iterations."""
        return None

    def terms(self, values: Mapping[str, Any], slopes: Mapping[str, Tensor]) -> Mapping[str, ProximalTerm]:
        """Terms of the lower level that are not smooth and not part of ``lower``, by the parameter each acts on.

        ``slopes`` are those of ``constants``; empty where only the proximal maps are asked for.
        """
        return {}

    def proximal(self, parameters: Tree, values: Mapping[str, Any], step: float) -> Tree | None:
        """Proximal map, with this step, of the terms that are not smooth; None where there are none.

        By default that of ``terms``. For a term of another kind, write its map here, in torch operations: its
        derivatives in the parameters and in the values are taken by autograd; what autograd cannot follow brings
        its derivative as a ``torch.autograd.Function``. No hypergradient is certified then, unless
        ``active_set`` is given, too.
        """
        terms = self.terms(values, {})
        if not terms:
            return None
        if unknown := sorted(set(terms) - set(parameters)):
            raise SettingError("terms", f"{unknown[0]!r} is no parameter; they are {', '.join(parameters)}")
        return {name: terms[name].prox(x, step) if name in terms else x for name, x in parameters.items()}

    def active_set(
        self, point: Tree, values: Mapping[str, Any], slopes: Mapping[str, Tensor], step: float, error: float
    ) -> ActiveSet | None:
        """The piece of the proximal map that holds ``point``, what it is applied to; None where it is not known.

        Its constants hold within ``error`` of what ``point`` is mapped to. By default that of ``terms``.
        """
        terms = self.terms(values, slopes)
        if not terms:
            return None
        sets = [
            terms[name].active_set(x, step, error) if name in terms else ActiveSet(math.inf, x.numel())
            for name, x in point.items()
        ]
        known = [found for found in sets if found is not None]
        return ActiveSet.joined(known) if len(known) == len(sets) else None

    def training_loss(self, parameters: Tree, values: Mapping[str, Any]) -> float:
        """h with the values of ``terms``; of a ``proximal`` without terms nothing but the map is known."""
        terms = self.terms(values, {})
        whole = self.lower(parameters, values) + sum(term.value(parameters[name]) for name, term in terms.items())
        return float(whole)

    def metrics(self, parameters: Tree, values: Mapping[str, Any]) -> dict[str, float]:
        """Further measures: accuracy, peak signal-to-noise ratio, test loss..."""
        return {}

    def pictures(self, parameters: Tree, values: Mapping[str, Any]) -> dict[str, Float[Tensor, "pictures h w"]]:
        """Grey pictures in [0, 1] for the report, by what they show; empty where there is nothing to see."""
        return {}


def check_device(device: str) -> None:
    """Refuses a device that is not there.

    Raises:
        SettingError: for a name that torch does not know, or hardware that this machine lacks.

    >>> check_device("cpu")
    """
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise SettingError("device", f"{device!r} cannot be used ({reason}); use 'cpu'") from error

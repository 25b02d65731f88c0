"""Update rules: how an online method moves vectors against hypergradients that drift."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from selftune.errors import SettingError
from selftune.fields import check_fields
from selftune.lower_level.optimizers import load_memory
from selftune.shapes import Float, Tensor

UpdateName = Literal["adam", "sgd", "rmsprop", "optimistic_mirror_descent"]


@dataclass(frozen=True)
class UpdateSettings:
    """Which rule moves the unconstrained hyperparameters, and how far.

    Args:
        rule: ``adam``, ``sgd``, ``rmsprop`` (PyTorch's), or ``optimistic_mirror_descent``.
        learning_rate: of every vector without one of its own; for ``optimistic_mirror_descent`` the diameter D of
            the region, in units of the vector.
        momentum: of ``sgd`` alone, from 0 to below 1.
        restart: ``optimistic_mirror_descent`` forgets the gradients' past after so many rounds; None never does.
        bound: largest value in size; None for no limit.

    >>> UpdateSettings(rule="sgd", learning_rate=0.1).momentum
    0.0
    """

    rule: UpdateName = "adam"
    learning_rate: float = 0.01
    momentum: float = 0.0
    restart: int | None = None
    bound: float | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if not (self.learning_rate >= 0 and math.isfinite(self.learning_rate)):
            raise SettingError("learning_rate", f"must be a number of at least 0, got {self.learning_rate}")
        if not 0 <= self.momentum < 1:
            raise SettingError("momentum", f"must be from 0 to below 1, got {self.momentum}")
        if self.momentum and self.rule != "sgd":
            raise SettingError("momentum", f"is a setting of sgd; leave it out with {self.rule}")
        if self.restart is not None and self.restart < 1:
            raise SettingError("restart", f"must be at least 1, got {self.restart}")
        if self.restart is not None and self.rule != "optimistic_mirror_descent":
            raise SettingError(
                "restart", f"is a setting of optimistic_mirror_descent; leave it out with {self.rule}"
            )
        if self.bound is not None and not (self.bound > 0 and math.isfinite(self.bound)):
            raise SettingError("bound", f"must be a positive number, got {self.bound}")


class UpdateRule:
    """Moves vectors in place, each with its own learning rate.

    Args:
        settings: see ``UpdateSettings``.
        vectors: what is moved; the tensors are kept, not copied.
        learning_rates: one per vector; None stands for that of the settings.

    >>> u = torch.ones(2)
    >>> UpdateRule(UpdateSettings(rule="sgd", learning_rate=0.5), [u]).step([torch.tensor([1.0, -1.0])])
    >>> u
    tensor([0.5000, 1.5000])
    """

    def __init__(
        self,
        settings: UpdateSettings,
        vectors: Sequence[Float[Tensor, "_"]],
        learning_rates: Sequence[float | None] | None = None,
    ) -> None:
        rates = learning_rates if learning_rates is not None else [None] * len(vectors)
        groups = [
            {"params": [vector], "lr": settings.learning_rate if rate is None else rate}
            for vector, rate in zip(vectors, rates, strict=True)
        ]
        self.settings = settings
        self.vectors = list(vectors)
        self._optimizer = _OPTIMIZERS[settings.rule](groups, settings)

    def step(self, gradients: Sequence[Float[Tensor, "_"] | None], length: float = 1.0) -> None:
        """One update; a vector whose gradient is None stays where it is.

        Args:
            length: factor of the learning rates, this time.
        """
        for vector, gradient in zip(self.vectors, gradients, strict=True):
            vector.grad = None if gradient is None else gradient.to(vector)
        rates = [group["lr"] for group in self._optimizer.param_groups]
        for group, rate in zip(self._optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * length
        self._optimizer.step()
        for group, rate in zip(self._optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        for vector in self.vectors:
            vector.grad = None
            if self.settings.bound is not None:
                vector.clamp_(-self.settings.bound, self.settings.bound)

    def state_dict(self) -> dict[str, Any]:
        """What later updates depend on beside the vectors themselves."""
        return copy.deepcopy(self._optimizer.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where the state was taken, with the learning rates of this rule."""
        load_memory(self._optimizer, copy.deepcopy(dict(state)))


class OptimisticMirrorDescent(torch.optim.Optimizer):
    """Optimistic mirror descent in Euclidean geometry: a round's gradient is also the hint for the next round.

    With M_t = z_{t-1} (0 without ``optimistic``), played is u_t = P(c_t - eta_t M_t); then c_{t+1} =
    P(c_t - eta_t z_t). The step is eta_t = D / sqrt(delta + 4 G^2 + V), V the sum of |z_s - M_s|^2 over the
    earlier rounds and G the largest |z_s| so far: steady gradients leave it large, drift and noise shrink it.
    Tuning is not convex, so there is no bound of the regret: it is a rule for step sizes.

    Args:
        params: vectors or parameter groups, as of every PyTorch optimizer.
        lr: D, the diameter of the region in which the vector is to move.
        bound: the box of P; None for no limit.
        restart: rounds after which V and G start anew, so that the past of a drifting problem does not hold back.
        optimistic: without it, online gradient descent with the same steps.
        delta: keeps the step finite while every gradient is zero.

    Source: "Optimistic Online Mirror Descent for Bridging Stochastic and Adversarial Online Convex Optimization"
    (arXiv 2302.04552).

    >>> u = torch.ones(1)
    >>> rule = OptimisticMirrorDescent([u], lr=1.0)
    >>> u.grad = torch.ones(1)
    >>> rule.step()
    >>> u  # 1/2 for the gradient seen, 1/sqrt(5) for the one expected
    tensor([0.0528])
    """

    def __init__(
        self,
        params: Any,
        lr: float = 0.01,
        bound: float | None = None,
        restart: int | None = None,
        optimistic: bool = True,
        delta: float = 1e-24,
    ) -> None:
        defaults = {"lr": lr, "bound": bound, "restart": restart, "optimistic": optimistic, "delta": delta}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Takes the gradients at the points last played, and plays the next ones."""
        for group in self.param_groups:
            for vector in group["params"]:
                if vector.grad is not None:
                    self._play(vector, vector.grad, group)

    def _play(self, vector: Tensor, z: Tensor, group: Mapping[str, Any]) -> None:
        state = self.state[vector]
        if not state:
            state |= {"center": vector.clone(), "hint": torch.zeros_like(z)}
        if not state.get("round") or state["round"] == group["restart"]:
            state |= {"round": 0, "largest": 0.0, "change": 0.0}
        state["round"] += 1
        state["largest"] = max(state["largest"], float(z.norm()))
        surprise = z - state["hint"] if group["optimistic"] else z
        state["center"] = _boxed(state["center"] - self._eta(state, group) * z, group["bound"])
        state["change"] += float(surprise.square().sum())
        state["hint"] = z.clone()
        ahead = self._eta(state, group) * z if group["optimistic"] else torch.zeros_like(z)
        vector.copy_(_boxed(state["center"] - ahead, group["bound"]))

    def _eta(self, state: Mapping[str, Any], group: Mapping[str, Any]) -> float:
        rate: float = group["lr"]
        return rate / math.sqrt(group["delta"] + 4 * state["largest"] ** 2 + state["change"])


def _boxed(vector: Tensor, bound: float | None) -> Tensor:
    return vector if bound is None else vector.clamp(-bound, bound)


_Make = Callable[[list[dict[str, Any]], UpdateSettings], torch.optim.Optimizer]

_OPTIMIZERS: dict[str, _Make] = {
    "adam": lambda groups, _: torch.optim.Adam(groups),
    "sgd": lambda groups, settings: torch.optim.SGD(groups, momentum=settings.momentum),
    "rmsprop": lambda groups, _: torch.optim.RMSprop(groups),
    "optimistic_mirror_descent": lambda groups, settings: OptimisticMirrorDescent(
        groups, bound=settings.bound, restart=settings.restart
    ),
}

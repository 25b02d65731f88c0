"""Whether a learned hypergradient is the true one: against finite differences of whole runs.

A small network in float64 is trained until its regularized loss hardly falls any more. From there

- *finite differences*: for every hyperparameter, training goes on for ``horizon`` steps with its unconstrained
  value moved up, and again with it moved down, on the same batches with the same random draws; the difference of
  the two validation losses, by that of the values.
- *learned*: the weights are frozen there, a response is fitted, and then a hypergradient is taken at each of the
  following steps.

A horizon is long enough where half of it gives the same.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from step_cost import Problem
from torch import nn

from selftune import OnlineTuner, Schedule
from selftune.hyperparameters import Space
from selftune.methods import Response
from selftune.training.estimators.response import ResponseEstimator


@dataclass(frozen=True)
class Case:
    """A problem on which a hypergradient is checked.

    Args:
        problem: in float64, its network small.
        settling: steps that lead to the weights from which all starts.
        horizon: training steps of a run of which the validation loss is differentiated. All training is by Adam,
            with a learning rate that falls to nothing along a cosine.
        learning_rate: at which these runs begin.
        fit: steps for which the response is fitted before hypergradients are taken, along a cosine as well, so
            that what it has learned is not blurred by the noise of its last steps.
        move: by how much unconstrained values are moved up and down.
    """

    problem: Problem
    settling: int = 600
    horizon: int = 200
    learning_rate: float = 3e-3
    fit: int = 600
    move: float = 0.1
    scale: float = 0.3
    response: Response = Response(learning_rate=3e-3)  # noqa: RUF009


@dataclass(frozen=True)
class Truth:
    """Rows are estimates, columns are hyperparameters."""

    names: tuple[str, ...]
    differences: torch.Tensor
    halfway: torch.Tensor
    learned: torch.Tensor

    @staticmethod
    def _cosine(first: torch.Tensor, second: torch.Tensor) -> float:
        return float(nn.functional.cosine_similarity(first, second, dim=-1).mean())

    @property
    def of_mean(self) -> float:
        """Cosine of the mean of all estimates with the finite differences."""
        return self._cosine(self.learned.mean(0), self.differences)

    @property
    def of_one(self) -> float:
        """Cosine of a single estimate, the mean over all."""
        return self._cosine(self.learned, self.differences.expand_as(self.learned))

    @property
    def of_halfway(self) -> float:
        """Cosine of the finite differences over half of the horizon with those over all of it."""
        return self._cosine(self.halfway, self.differences)


def truth(case: Case, estimates: int = 64) -> Truth:
    network = settled(case)
    halfway, whole = (finite_differences(case, network, steps) for steps in (case.horizon // 2, case.horizon))
    return Truth(space_of(case, network).names, whole, halfway, learned(case, network, estimates))


def tuner_of(case: Case, network: nn.Module, optimizer: torch.optim.Optimizer, **settings: Any) -> OnlineTuner:
    problem = case.problem
    return OnlineTuner(
        network,
        optimizer,
        problem.settings(),
        forward=lambda network, batch: network(batch[0]),
        loss=problem.loss,
        validation=([problem.batch[1]], problem.loss),
        **settings,
    )


def space_of(case: Case, network: nn.Module) -> Space:
    network = copy.deepcopy(network)
    return tuner_of(case, network, torch.optim.SGD(network.parameters(), lr=0.0)).space


def trained(
    case: Case, network: nn.Module, unconstrained: torch.Tensor, steps: int, learning_rate: float
) -> tuple[nn.Module, float]:
    """A copy of a network, trained with hyperparameters that stay where they are, and its validation loss."""
    space, network = space_of(case, network), copy.deepcopy(network)
    values = space.constrain(unconstrained).double().numpy()[None]
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=1e-6)
    tuner = tuner_of(case, network, optimizer, schedule=Schedule.of_run(space, np.array([steps]), values, steps))
    for _ in range(steps):
        tuner.loss(case.problem.batch[0]).backward()
        tuner.step()
        decay.step()
    loss = tuner.evaluate()["validation_loss"]
    tuner.close()
    return network, loss


def settled(case: Case) -> nn.Module:
    torch.manual_seed(0)
    network = case.problem.build()
    return trained(case, network, space_of(case, network).start, case.settling, 0.01)[0]


def finite_differences(case: Case, network: nn.Module, horizon: int) -> torch.Tensor:
    start = space_of(case, network).start
    found = []
    for move in case.move * torch.eye(len(start), dtype=start.dtype):
        up, down = (
            trained(case, network, moved, horizon, case.learning_rate)[1] for moved in (start + move, start - move)
        )
        found.append((up - down) / (2 * case.move))
    return torch.tensor(found, dtype=torch.float64)


def learned(case: Case, network: nn.Module, estimates: int) -> torch.Tensor:
    """Hypergradients at frozen weights, one row an estimate."""
    network = copy.deepcopy(network)
    tuner = tuner_of(
        case,
        network,
        torch.optim.SGD(network.parameters(), lr=0.0),
        warmup_steps=case.fit,
        train_steps=1,
        learning_rate=0.0,
        tune_scale=False,
        scale=case.scale,
        response=case.response,
    )
    estimator = tuner.estimator
    assert isinstance(estimator, ResponseEstimator)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(estimator.optimizer, case.fit, eta_min=1e-4)
    for step in range(case.fit + estimates):
        tuner.loss(case.problem.batch[0]).backward()
        tuner.step()
        if step < case.fit:
            decay.step()
    return torch.stack([step.hypergradient for step in tuner.trajectory[-estimates:]]).double()

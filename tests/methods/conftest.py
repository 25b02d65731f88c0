"""A team of trainers whose answers are known in closed form: nothing is trained."""

from dataclasses import replace

import pytest
import torch

from selftune.hyperparameters import Hyperparameter, Interval, Space
from selftune.methods.reports import ResponseHypergradient, Trained, TrainingFinished


class QuadraticTrainer:
    """Validation loss 0.5 |u - target|^2 after perturbation; every training step takes one second."""

    def __init__(self, target, curvature=1.0):
        self.target = torch.as_tensor(target)
        self.curvature = curvature
        self.training_step = 0

    def execute(self, order):
        if order.kind == "finish":
            return TrainingFinished(number=order.number, training_step=self.training_step)
        self.training_step += order.steps
        report = Trained(
            number=order.number,
            training_step=self.training_step,
            training_loss=1.0 if order.steps else float("nan"),
            seconds=float(order.steps),
        )
        if not order.hypergradient:
            return report
        offset = order.values.unconstrained - self.target
        scale = getattr(order, "scale", torch.zeros(2))
        return replace(
            report,
            measures={"validation_loss": 0.5 * float(offset @ offset)},
            hypergradient=ResponseHypergradient(
                hypergradient=self.curvature * offset,
                # d/dsigma of E 0.5 F'' (u + sigma eps)^2
                scale_gradient=self.curvature * scale if getattr(order, "tune_scale", False) else None,
            ),
        )


@pytest.fixture
def space():
    names = ("a.x", "b.y")
    return Space([Hyperparameter(name, Interval(), 0.0, tuned=True) for name in names])


@pytest.fixture
def drive():
    def drive(method, trainers, space, orders=None):
        for member in trainers:
            method.join(member, space)
        steps = []
        while not method.done:
            asked = method.ask()
            assert asked, "a method that is not done asks for something once every report is told"
            for member, order in asked.items():
                if orders is not None:
                    orders.append((member, order))
                step = method.tell(member, trainers[member].execute(order))
                if step is not None:
                    steps.append(step)
        return steps

    return drive


@pytest.fixture
def quadratic_trainer():
    return QuadraticTrainer

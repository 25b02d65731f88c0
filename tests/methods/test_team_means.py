"""Teams move by the plain mean of their hypergradients, to the last bit, unless a study asks otherwise."""

import statistics

import pytest
import torch

from selftune.hyperparameters import Hyperparameter, Interval, Space, entropy_gradient, inverse_softplus, scale_of
from selftune.methods import (
    Budget,
    OnlineImplicit,
    OnlineImplicitSettings,
    Penalty,
    PenaltySettings,
    SelfTuning,
    SelfTuningSettings,
)
from selftune.methods.reports import (
    ImplicitHypergradient,
    PenaltyGradient,
    ResponseHypergradient,
    Trained,
    TrainingFinished,
)
from selftune.methods.self_tuning_settings import SCALE_BOUNDS
from selftune.methods.update_rules import UpdateRule, UpdateSettings

COMMON = {"warmup_steps": 3, "train_steps": 2, "learning_rate": 0.05}


class NoisyTrainer:
    """Its hypergradients are noise; ``told`` keeps all reports that have one."""

    def __init__(self, member, size):
        self.member, self.size = member, size
        self.generator = torch.Generator().manual_seed(member)
        self.training_step = 0
        self.told = []

    def noise(self, *shape):
        return torch.randn(shape, generator=self.generator)

    def gradient(self, order):
        if order.estimator == "penalty":
            rows = self.noise(order.settings["batches"], self.size)
            norm = None if order.penalized else torch.tensor(0.5)
            return PenaltyGradient(hypergradient=rows.mean(dim=0), per_batch=rows, gradient_norm=norm)
        if order.estimator == "implicit":
            return ImplicitHypergradient(hypergradient=self.noise(self.size), system_residual=self.noise().abs())
        return ResponseHypergradient(hypergradient=self.noise(self.size), scale_gradient=self.noise(self.size))

    def execute(self, order):
        if order.kind == "finish":
            return TrainingFinished(number=order.number, training_step=self.training_step)
        self.training_step += order.steps
        loss = float(self.noise().abs())
        due = order.hypergradient
        report = Trained(
            number=order.number,
            training_step=self.training_step,
            training_loss=loss,
            measures={"validation_loss": loss / 3} if due else {},
            hypergradient=self.gradient(order) if due else None,
        )
        if due:
            self.told.append(report)
        return report


def run(method, members, size, drive):
    space = Space([Hyperparameter(f"a.x{index}", Interval(), 0.1, tuned=True) for index in range(size)])
    team = {member: NoisyTrainer(member, size) for member in range(members)}
    steps = drive(method, team, space)
    assert len(steps) == 8
    reports = [[team[member].told[number] for member in team] for number in range(len(steps))]
    return steps, reports


@pytest.mark.parametrize("size", [1, 3, 64])
@pytest.mark.parametrize("members", [1, 2, 3, 9])
def test_self_tuning_moves_values_and_scales_by_the_means(drive, members, size):
    method = SelfTuning(Budget(steps=19), SelfTuningSettings(**COMMON), members)
    steps, reports = run(method, members, size, drive)
    u, scale = torch.full((size,), 0.1), inverse_softplus(torch.full((size,), 0.5))
    rule = UpdateRule(UpdateSettings(rule="rmsprop", learning_rate=0.05), [u, scale], [None, None])
    for step, found in zip(steps, reports, strict=True):
        assert torch.equal(step.hyperparameters, u)
        assert torch.equal(step.scale, scale_of(scale))
        mean = torch.stack([r.hypergradient.hypergradient for r in found]).mean(dim=0)
        of_scale = torch.stack([r.hypergradient.scale_gradient for r in found]).mean(dim=0)
        assert torch.equal(step.hypergradient, mean)
        assert step.validation_loss == statistics.fmean(r.measures["validation_loss"] for r in found)
        of_scale *= torch.sigmoid(scale)
        of_scale -= 1e-3 * entropy_gradient(scale)
        rule.step([mean, of_scale])
        scale.clamp_(*(inverse_softplus(torch.tensor(bound)) for bound in SCALE_BOUNDS))


@pytest.mark.parametrize("members", [1, 2, 9])
def test_implicit_moves_values_by_the_mean(drive, members):
    method = OnlineImplicit(Budget(steps=19), OnlineImplicitSettings(**COMMON), members)
    steps, reports = run(method, members, 5, drive)
    for step, found in zip(steps, reports, strict=True):
        mean = torch.stack([r.hypergradient.hypergradient for r in found]).mean(dim=0)
        assert torch.equal(step.hypergradient, mean)
        residuals = [float(r.hypergradient.system_residual) for r in found]
        assert step.certificate["system_residual"] == statistics.fmean(residuals)


@pytest.mark.parametrize("batches", [1, 4])
@pytest.mark.parametrize("members", [2, 4, 18])
def test_penalty_moves_values_by_the_mean_over_all_batches(drive, members, batches):
    settings = PenaltySettings(**COMMON, batches=batches, sigma=0.5, smallest_sigma=0.5)
    steps, reports = run(Penalty(Budget(steps=19), settings, members), members, 5, drive)
    for step, found in zip(steps, reports, strict=True):
        rows = torch.cat([r.hypergradient.per_batch for r in found[1::2]])
        rows = (rows - torch.cat([r.hypergradient.per_batch for r in found[::2]])) / 0.5
        assert torch.equal(step.hypergradient, rows.mean(dim=0))
        assert step.validation_loss == statistics.fmean(r.measures["validation_loss"] for r in found[::2])
        if batches > 1:
            noise = float((rows.std(dim=0) / len(rows) ** 0.5).norm())
            assert step.certificate["hypergradient_noise"] == noise

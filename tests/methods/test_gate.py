"""What cannot be told from noise is held: the gate alone, and in every online method."""

import copy
from dataclasses import replace

import pytest
import torch

from selftune.errors import SettingError
from selftune.hyperparameters import Hyperparameter, Interval, Space
from selftune.methods import (
    Ball,
    Budget,
    OnlineImplicit,
    OnlineImplicitSettings,
    Penalty,
    PenaltySettings,
    SelfTuning,
    SelfTuningSettings,
)
from selftune.methods.gate import CATCH_UP, LEAD, MOST_SHOWN, Gate
from selftune.methods.reports import (
    ImplicitHypergradient,
    PenaltyGradient,
    ResponseHypergradient,
    Trained,
    TrainingFinished,
)

TARGET = 1.5
METHODS = {
    "self_tuning": (SelfTuning, SelfTuningSettings, 1),
    "implicit": (OnlineImplicit, OnlineImplicitSettings, 1),
    "penalty": (Penalty, PenaltySettings, 2),
}


class NoisyTrainer:
    """The first hypergradient is noise, the second that of 0.5 (u - TARGET)^2 with noise; nothing is trained."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)
        self.training_step = 0

    def execute(self, order):
        if order.kind == "finish":
            return TrainingFinished(training_step=self.training_step, message=order.remark)
        self.training_step += order.steps
        found = None
        if order.hypergradient:
            z = torch.randn(2, generator=self.generator)
            z[1] += order.values.unconstrained[1] - TARGET
            found = self.answer(order, z)
        return Trained(
            training_step=self.training_step,
            training_loss=1.0,
            seconds=1.0,
            measures={"validation_loss": 1.0},
            hypergradient=found,
        )

    def answer(self, order, z):
        if order.estimator == "self_tuning":
            return ResponseHypergradient(hypergradient=z, scale_gradient=torch.zeros(2))
        if order.estimator == "implicit":
            return ImplicitHypergradient(hypergradient=z, system_residual=torch.tensor(0.1))
        rows = (order.sigma * z if order.penalized else torch.zeros(2))[None]
        norm = None if order.penalized else 0.25
        return PenaltyGradient(hypergradient=rows[0], per_batch=rows, gradient_norm=norm)


def made(name, steps=600, **changes):
    machine, settings, size = METHODS[name]
    common = {"warmup_steps": 0, "train_steps": 1, "learning_rate": 0.01, "significance": 0.05}
    return machine(Budget(steps=steps), settings(**common | changes), size)


def space(size=2):
    hyperparameters = [Hyperparameter(f"a.x{k}", Interval(), 0.0, tuned=True) for k in range(size)]
    return Space(hyperparameters)


def driven(method, seed=0, stop_after=None, renewed=None):
    """The hyper-steps of a run, the last reports, and the method, made anew from its state on the way if asked."""
    trainers = {member: NoisyTrainer(seed) for member in range(method.team_size)}
    for member in trainers:
        method.join(member, space())
    steps, last = [], {}
    while not method.done:
        if len(steps) == stop_after:
            state, method, stop_after = copy.deepcopy(method.state_dict()), renewed(), None
            method.load_state_dict(state)
        for member, order in method.ask().items():
            last[member] = trainers[member].execute(order)
            step = method.tell(member, last[member])
            steps += [] if step is None else [step]
    return steps, last, method


def path(steps):
    return torch.stack([step.hyperparameters for step in steps])


@pytest.mark.parametrize("name", METHODS)
def test_noise_stays_where_it_is_and_what_is_real_arrives(name):
    steps, last, method = driven(made(name))
    values = path(steps)
    assert (values[:, 0] == 0).all()
    assert values[-1, 1] == pytest.approx(TARGET, abs=0.3)
    assert method._gate.held.tolist() == [True, False]
    assert last[0].message == (
        "1 of 2 hyperparameters stayed at their start, because their hypergradients could not be told from noise"
        " (significance 0.05): a.x0"
    )


@pytest.mark.parametrize("name", METHODS)
def test_without_it_noise_drifts(name):
    steps, last, _ = driven(made(name, significance=None))
    assert path(steps)[:, 0].abs().max() > 0.1
    assert last[0].message == ""
    assert not any("evidence" in key or key == "held" for key in steps[-1].diagnostics)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("optimizer", ["rmsprop", "adam", "sgd"])
def test_where_nothing_is_held_every_step_is_that_of_the_rule(name, optimizer):
    """To the last bit, so that only holding makes a difference."""
    plain, _, _ = driven(made(name, 60, significance=None, optimizer=optimizer))
    method = made(name, 60, optimizer=optimizer)
    for member in range(method.team_size):
        method.join(member, space())
    method._gate.held[:] = False
    steps, _, _ = driven(method)
    assert torch.equal(path(steps), path(plain))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("after", [5, 150])  # before and after the second one is let go
def test_a_state_goes_on_bit_for_bit(name, after):
    whole, _, one = driven(made(name, 300))
    parts, _, other = driven(made(name, 300), stop_after=after, renewed=lambda: made(name, 300))
    assert torch.equal(path(parts), path(whole))
    assert torch.equal(other._gate.evidence, one._gate.evidence)
    assert torch.equal(other._gate.proposal, one._gate.proposal)


def test_a_state_from_before_there_was_a_gate_goes_on():
    def renewed():
        return made("self_tuning", 60, significance=None)

    whole, _, _ = driven(renewed())
    method, trainer = renewed(), NoisyTrainer(0)
    method.join(0, space())
    for _ in range(5):
        for member, order in method.ask().items():
            method.tell(member, trainer.execute(order))
    state = {key: value for key, value in method.state_dict().items() if key != "gate"}
    method = renewed()
    method.load_state_dict(state)
    while not method.done:
        for member, order in method.ask().items():
            method.tell(member, trainer.execute(order))
    last = method.hyperparameters
    assert torch.equal(last, driven(renewed())[2].hyperparameters)
    assert len(whole) == 60


def test_steps_say_what_is_held_and_with_which_evidence():
    steps, _, _ = driven(made("self_tuning"))
    held = [step.diagnostics["held"] for step in steps]
    assert held[0] == 2
    assert held[-1] == 1
    freed = held.index(1)
    assert steps[freed].diagnostics["evidence/a.x1"] >= 20 > steps[freed - 1].diagnostics["evidence/a.x1"]
    assert all(step.diagnostics["evidence/a.x0"] < 20 for step in steps)


def test_of_many_only_their_number_is_shown():
    names = [f"a.x{k}" for k in range(MOST_SHOWN + 1)]
    gate = Gate(torch.zeros(len(names)), 0.05)
    assert gate.shown(names) == {"held": MOST_SHOWN + 1}
    assert gate.sentence(names).endswith("a.x0, a.x1, a.x2, a.x3, a.x4 and 96 more")


@pytest.mark.parametrize("pace", [0.001, 0.01])  # in 70 hyper-steps within the lead, and beyond it
def test_what_is_let_go_catches_up_in_bounded_steps(pace):
    u = torch.zeros(1)
    gate, moves = Gate(u, 0.05), []
    for _ in range(400):
        before = u.clone()
        gate.see(torch.tensor([-1.0]))
        gate.proposal += pace
        gate.follow()
        moves.append(float(u - before))
    waited = moves.index(next(move for move in moves if move > 0))
    behind = min(pace * waited, LEAD)
    assert max(moves) == pytest.approx(pace + behind / CATCH_UP, rel=1e-3)
    assert float(u) == pytest.approx(behind + pace * (400 - waited), rel=1e-3)
    torch.testing.assert_close(u, gate.proposal)


def test_a_constraint_holds_values_and_proposal():
    constraint = Ball(radius=0.5, center=0.0)
    method = made("penalty", constraint=constraint)
    steps, _, method = driven(method)
    assert path(steps).norm(dim=1).max() <= 0.5 + 1e-6
    assert method._gate.proposal.norm() <= 0.5 + 1e-6
    assert path(steps)[-1, 1] == pytest.approx(0.5, abs=0.05)


def test_an_optimum_that_has_moved_is_followed():
    """What was let go stays free, so that it need not be found again."""
    method, trainer = made("self_tuning", 1200), NoisyTrainer(0)
    method.join(0, space())
    while not method.done:
        for member, order in method.ask().items():
            report = trainer.execute(order)
            if trainer.training_step > 600 and getattr(report, "hypergradient", None) is not None:
                moved = report.hypergradient.hypergradient + torch.tensor([0.0, 2.0])  # the optimum is 2 lower
                report = replace(report, hypergradient=replace(report.hypergradient, hypergradient=moved))
            method.tell(member, report)
    assert method.hyperparameters[1] == pytest.approx(TARGET - 2, abs=0.3)


@pytest.mark.parametrize("significance", [0.0, 1.0, -0.1, float("nan")])
@pytest.mark.parametrize("name", METHODS)
def test_levels_that_are_none_are_refused(name, significance):
    with pytest.raises(SettingError) as error:
        METHODS[name][1](significance=significance)
    assert error.value.key == "significance"


def test_a_rule_that_does_not_step_from_the_vector_is_refused():
    with pytest.raises(SettingError, match="is not for optimistic_mirror_descent") as error:
        SelfTuningSettings(significance=0.05, optimizer="optimistic_mirror_descent")
    assert error.value.key == "significance"

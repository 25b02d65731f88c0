"""The method alone on answers known in closed form, and end to end on networks that overfit."""

import copy
from dataclasses import replace

import pytest
import torch
from full_matrix import first_of
from torch import nn

from selftune.errors import SettingError
from selftune.hyperparameters import Tune
from selftune.listener import Listener
from selftune.lower_level.classification import Classification
from selftune.lower_level.optimization import Optimization
from selftune.methods import Budget, OnlineImplicit, OnlineImplicitSettings, Replay, Segment
from selftune.methods.reports import ImplicitHypergradient
from selftune.regularization.regularizer import regularizers
from selftune.training import TrainerFactory, run_in_process


def settings(**changes):
    return OnlineImplicitSettings(**{"warmup_steps": 20, "train_steps": 5, "learning_rate": 0.05} | changes)


@pytest.fixture
def implicit_trainer(quadratic_trainer):
    """Answers as trainers do, with a residual that tells the members apart."""

    class ImplicitTrainer(quadratic_trainer):
        def __init__(self, target, residual=0.5):
            super().__init__(target)
            self.residual = torch.tensor(residual)

        def execute(self, order):
            if order.kind == "cycle":
                assert order.estimator == "implicit"
            report = super().execute(order)
            if "hypergradient" not in report.tensors:
                return report
            hypergradient = report.tensors["hypergradient"]
            found = ImplicitHypergradient(hypergradient=hypergradient, system_residual=self.residual)
            return replace(report, hypergradient=found)

    return ImplicitTrainer


def test_hyperparameters_reach_the_optimum(space, drive, implicit_trainer):
    method = OnlineImplicit(Budget(steps=2000), settings(optimizer="adam"))
    steps = drive(method, {0: implicit_trainer([1.0, -2.0])}, space)
    torch.testing.assert_close(method.hyperparameters, torch.tensor([1.0, -2.0]), atol=1e-2, rtol=0)
    assert steps[-1].validation_loss < 1e-3 < steps[0].validation_loss


def test_a_team_shares_the_mean_and_certifies_nothing(space, drive, implicit_trainer):
    team = {0: implicit_trainer([1.0, 0.0], 0.2), 1: implicit_trainer([3.0, 2.0], 0.6)}
    steps = drive(OnlineImplicit(Budget(steps=30), settings(optimizer="sgd"), team_size=2), team, space)
    torch.testing.assert_close(steps[0].hypergradient, torch.tensor([-2.0, -1.0]))
    torch.testing.assert_close(steps[1].hyperparameters, torch.tensor([0.1, 0.05]))
    certificate = steps[0].certificate
    assert certificate == pytest.approx(
        {"hypergradient_norm": 5**0.5, "system_residual": 0.4, "certified": 0.0}, rel=1e-6
    )


@pytest.mark.parametrize("optimizer", ["rmsprop", "optimistic_mirror_descent"])
def test_state_round_trip_gives_the_same_trajectory(space, implicit_trainer, optimizer):
    def run(interrupt_after):
        method = OnlineImplicit(Budget(steps=100), settings(optimizer=optimizer))
        trainer = implicit_trainer([1.0, -1.0])
        method.join(0, space)
        seen, rounds = [], 0
        while not method.done:
            for member, order in method.ask().items():
                step = method.tell(member, trainer.execute(order))
                seen += [step] if step else []
            rounds += 1
            if rounds == interrupt_after:
                state = copy.deepcopy(method.state_dict())
                method = OnlineImplicit(Budget(steps=100), settings(optimizer=optimizer))
                method.load_state_dict(state)
        return torch.stack([torch.cat([s.hyperparameters, s.hypergradient]) for s in seen])

    undisturbed = run(None)
    assert torch.equal(undisturbed, run(3))
    assert torch.equal(undisturbed, run(9))


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: OnlineImplicitSettings(system="cg"), "system"),
        (lambda: OnlineImplicitSettings(system_steps=0), "system_steps"),
        (lambda: OnlineImplicitSettings(system_rate=0.0), "system_rate"),
        (lambda: OnlineImplicitSettings(system_rate=float("inf")), "system_rate"),
        (lambda: OnlineImplicitSettings(system="conjugate_gradient", system_rate=0.1), "system_rate"),
        (lambda: OnlineImplicitSettings(damping=-1.0), "damping"),
        (lambda: OnlineImplicitSettings(damping=float("nan")), "damping"),
        (lambda: OnlineImplicitSettings(system="neumann", warm=True), "warm"),
        (lambda: OnlineImplicitSettings(train_steps=0), "train_steps"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, key):
    with pytest.raises(SettingError) as error:
        make()
    assert error.value.key == key


# End to end ------------------------------------------------------------------------------------------


def blobs(examples, seed, noise):
    """Three classes in 20 dimensions, of which two matter; a share of the labels is wrong."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (examples,), generator=generator)
    inputs = torch.randn(examples, 20, generator=generator)
    angle = labels * 2.0944
    inputs[:, :2] += 2 * torch.stack([angle.cos(), angle.sin()], dim=1)
    wrong = torch.rand(examples, generator=generator) < noise
    return inputs, torch.where(wrong, torch.randint(3, (examples,), generator=generator), labels)


def network():
    return nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 3))


@pytest.fixture
def overfitting():
    """Few examples, some with wrong labels, and next to no regularization."""
    data = blobs(64, 0, 0.3), blobs(256, 1, 0.0), blobs(256, 2, 0.0)
    objective = Classification(network, *data, Optimization(batch_size=32, learning_rate=0.1, momentum=0.5))
    terms = [
        regularizers["weight_decay"](strength=Tune(1e-4)),
        regularizers["label_smoothing"](epsilon=Tune(0.01)),
    ]
    return TrainerFactory(objective, terms, seed=3)


class Recorder(Listener):
    def __init__(self, stop_after=None):
        self.steps, self.stop_after = [], stop_after

    def hyper_step(self, step):
        self.steps.append(step)
        if step.number == self.stop_after:
            raise KeyboardInterrupt

    def rows(self):
        return {
            s.number: torch.cat(
                [
                    s.hyperparameters,
                    s.hypergradient,
                    torch.tensor([s.training_loss, s.certificate["system_residual"]]),
                ]
            )
            for s in self.steps
        }


def run(factory, method, folder=None, stop_after=None):
    recorder = Recorder(stop_after)
    team = range(getattr(method, "team_size", 1))
    return run_in_process(method, {member: factory(member) for member in team}, recorder, folder), recorder


SYSTEMS = ("neumann", "descent", "conjugate_gradient")
FAST = {"optimizer": "adam", "learning_rate": 0.03, "checkpoint_every": 4}


@pytest.mark.parametrize("system", first_of(SYSTEMS))
def test_tuning_lowers_the_validation_loss_of_a_network_that_overfits(overfitting, system):
    start = overfitting(0).space.constrain(overfitting(0).space.start)
    held, _ = run(overfitting, Replay([Segment(1000, start)], 1000))
    method = OnlineImplicit(Budget(steps=1000), settings(system=system, **FAST))
    tuned, recorder = run(overfitting, method)
    for split in ("validation_loss", "test_loss"):
        assert tuned[0].metrics[split] < held[0].metrics[split] - 0.2
    assert dict(zip(overfitting(0).space.names, method.hyperparameters > 10 * start, strict=True))[
        "weight_decay.strength"
    ]
    assert all(0 < s.certificate["system_residual"] < 10 for s in recorder.steps)
    assert all(s.certificate["certified"] == 0 for s in recorder.steps)


@pytest.mark.parametrize("system", SYSTEMS)
def test_an_interrupted_run_goes_on_to_the_same_trajectory(overfitting, system, tmp_path):
    def method():
        return OnlineImplicit(Budget(steps=80), settings(system=system, **FAST), team_size=2)

    last, undisturbed = run(overfitting, method())
    with pytest.raises(KeyboardInterrupt):
        run(overfitting, method(), tmp_path, stop_after=6)
    again, resumed = run(overfitting, method(), tmp_path)
    assert resumed.steps[0].number == 4  # what was checkpointed is not repeated
    expected = undisturbed.rows()
    assert set(resumed.rows()) == set(range(4, len(expected)))
    for number, row in resumed.rows().items():
        assert torch.equal(row, expected[number])
    for member in (0, 1):
        assert again[member].metrics["test_loss"] == last[member].metrics["test_loss"]


def test_a_team_moves_by_the_mean_of_what_its_members_would_move_by(overfitting):
    def first_step(members):
        method = OnlineImplicit(Budget(steps=25), settings(), team_size=len(members))
        recorder = Recorder()
        run_in_process(method, {m: overfitting(m) for m in members}, recorder)
        return recorder.steps[0]

    alone = [first_step([member]) for member in (0, 1)]
    together = first_step([0, 1])
    mean = torch.stack([step.hypergradient for step in alone]).mean(dim=0)
    torch.testing.assert_close(together.hypergradient, mean, rtol=1e-6, atol=0)
    assert not torch.equal(alone[0].hypergradient, alone[1].hypergradient)


def test_replaying_the_trajectory_reproduces_the_tuned_network_bit_for_bit(overfitting):
    last, recorder = run(overfitting, OnlineImplicit(Budget(steps=80), settings(**FAST)))
    schedule = [Segment(step.training_step, step.hyperparameters) for step in recorder.steps]
    replayed = run_in_process(Replay(schedule, 80), {0: overfitting(0)})
    names = [name for name in last[0].tensors if name.startswith("network.")]
    assert names
    assert all(torch.equal(replayed[0].tensors[name], last[0].tensors[name]) for name in names)

"""Stochastic bilevel methods find a known optimum, repeatably, and go on after a stop."""

import pytest
import torch
from full_matrix import first_of
from selftune.objectives.tasks.ridge import RidgeRegression

from selftune.errors import SettingError
from selftune.listener import Listener
from selftune.methods import StochasticBilevel, StochasticBilevelSettings
from selftune.methods.reports import Diverged
from selftune.training import run_in_process
from selftune.training.stochastic_trainer import StochasticTrainerFactory

ALGORITHMS = ("saba", "soba", "amigo", "stocbio")


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def ridge():
    """Ridge regression with one strength, whose best value is inside."""
    weight = normal(0, 4)

    def split(seed, examples):
        inputs = normal(seed, examples, 4)
        return inputs, inputs @ weight + 2 * normal(seed + 1, examples)

    return RidgeRegression(split(1, 16), split(3, 40), split(5, 40), groups="one", start=3.0)


def level(problem, logarithm):
    values = {"ridge.strength": torch.tensor(logarithm, dtype=torch.float64).exp()}
    return float(problem.upper({"weight": problem.solution(values)}, values))


@pytest.fixture(scope="module")
def best(ridge):
    """The smallest upper level, by a grid of logarithms."""
    return min(level(ridge, logarithm) for logarithm in torch.linspace(-6, 4, 2001).tolist())


class Steps(Listener):
    """Remembers hyper-steps; ends a run like a kill would, after so many."""

    def __init__(self, after=None):
        self.after = after
        self.seen = []

    def hyper_step(self, step):
        if len(self.seen) == self.after:
            raise KeyboardInterrupt
        self.seen.append((step.number, step.hyperparameters.tolist(), step.validation_loss, step.training_step))


def drive(problem, steps=20, seed=0, listener=None, checkpoints=None, trainers=1, **settings):
    chosen = StochasticBilevelSettings(**{"batch_size": 4, "iterations": 50, "checkpoint_every": 3} | settings)
    method = StochasticBilevel(steps=steps, settings=chosen, team_size=trainers)
    factory = StochasticTrainerFactory(problem, chosen, seed=seed)
    reports = run_in_process(method, {m: factory(m) for m in range(trainers)}, listener, checkpoints)
    return method, reports[0]


@pytest.mark.parametrize("algorithm", first_of(ALGORITHMS, always=3))
def test_the_end_is_close_to_the_best(ridge, best, algorithm):
    method, report = drive(ridge, steps=20, algorithm=algorithm, outer_rate=0.5)
    start = level(ridge, float(torch.tensor(3.0).log()))
    assert method.stopped == "budget"
    assert report.metrics["validation_loss"] - best < 0.05 * (start - best)
    found = level(ridge, float(report.unconstrained))
    assert report.metrics["validation_loss"] == pytest.approx(found, rel=1e-5)  # the lower level is solved there


@pytest.mark.parametrize("algorithm", first_of(ALGORITHMS, always=2))
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(ridge, algorithm, tmp_path):
    whole, stopped, rest = Steps(), Steps(after=5), Steps()
    _, undisturbed = drive(ridge, steps=9, listener=whole, algorithm=algorithm)
    with pytest.raises(KeyboardInterrupt):
        drive(ridge, steps=9, listener=stopped, checkpoints=tmp_path, algorithm=algorithm)
    _, resumed = drive(ridge, steps=9, listener=rest, checkpoints=tmp_path, algorithm=algorithm)
    assert rest.seen[0][0] == 3  # from the checkpoint after three hyper-steps
    assert [*stopped.seen[:3], *rest.seen] == whole.seen
    assert torch.equal(resumed.unconstrained, undisturbed.unconstrained)


def test_the_seed_decides_the_batches(ridge):
    runs = [Steps() for _ in range(3)]
    for steps, seed in zip(runs, (0, 0, 1), strict=True):
        drive(ridge, steps=3, seed=seed, listener=steps)
    assert runs[0].seen == runs[1].seen
    assert runs[0].seen[1:] != runs[2].seen[1:]


def test_further_trainers_change_nothing(ridge):
    one, three = Steps(), Steps()
    drive(ridge, steps=4, listener=one)
    drive(ridge, steps=4, listener=three, trainers=3)
    assert one.seen == three.seen


def test_work_counts_batches_by_their_share(ridge):
    steps = Steps()
    drive(ridge, steps=3, listener=steps, algorithm="soba", inner_rate=0.01)
    # three derivatives per iteration, of 4 of 16 examples, each sum rounded up
    per_step = 3 * 50 / 4
    assert per_step <= steps.seen[1][3] - steps.seen[0][3] <= per_step + 3


def test_limits_hold_in_every_iteration(ridge):
    limits = {"ridge.strength": (2.0, 4.0)}
    _, report = drive(ridge, steps=10, limits=limits, outer_rate=1.0)
    assert 2.0 <= float(report.unconstrained.exp()) <= 4.0 + 1e-9


def test_rates_that_are_too_large_are_said_and_nothing_that_is_not_finite_comes_out(ridge):
    method, report = drive(ridge, steps=20, algorithm="soba", inner_rate=50.0)
    assert method.stopped == "diverged"
    assert "take a smaller inner_rate or outer_rate" in method.message
    assert torch.isfinite(report.unconstrained).all()


def test_a_lost_leader_is_followed_by_a_cold_one(ridge):
    settings = StochasticBilevelSettings(batch_size=4, iterations=10)
    method = StochasticBilevel(steps=2, settings=settings, team_size=2)
    factory = StochasticTrainerFactory(ridge, settings)
    team = [factory(member) for member in range(2)]
    for member, trainer in enumerate(team):
        method.join(member, trainer.space)
    (order,) = method.ask().values()
    method.tell(0, team[0].execute(order))
    assert method.ask()[0].start == "0.iterations"
    method.leave(0)
    (order,) = method.ask().values()
    assert order.start == "0.iterations"  # which nobody keeps any more
    assert method.tell(1, team[1].execute(order)).number == 1


def test_a_diverged_trainer_that_was_the_last_one_ends_the_method(ridge):
    method = StochasticBilevel(steps=2)
    method.join(0, StochasticTrainerFactory(ridge, StochasticBilevelSettings())(0).space)
    method.ask()
    method.tell(0, Diverged(message="lost"))
    assert method.stopped == "lost"


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"inner_rate": 0.0}, "inner_rate"),
        ({"outer_rate": -1.0}, "outer_rate"),
        ({"decay": 2.0}, "decay"),
        ({"batch_size": 0}, "batch_size"),
        ({"iterations": 0}, "iterations"),
        ({"checkpoint_every": 0}, "checkpoint_every"),
        ({"algorithm": "adam"}, "algorithm"),
        ({"algorithm": "saba", "inner_steps": 3}, "inner_steps"),
        ({"algorithm": "soba", "linear_steps": 3}, "linear_steps"),
    ],
)
def test_settings_out_of_range_are_refused(settings, key):
    with pytest.raises(SettingError) as error:
        StochasticBilevelSettings(**settings)
    assert error.value.key == key

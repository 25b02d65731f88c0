"""Metagradients by unrolling: against finite differences of whole runs, and with states kept and not kept."""

import pytest
import torch
from torch import nn
from unrolling import WIDTH, UnrolledRun

from selftune import Classification, Optimization, Tune
from selftune.methods.work_orders import FollowSchedule
from selftune.training import TrainerFactory

STEPS = 7


def trainer_of(optimization=None, network=None, **rates):
    """A small network in float64 that has begun to train, its decays, label smoothing and input noise tuned."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(72, 5, generator=generator, dtype=torch.float64)
    y = torch.randint(3, (72,), generator=generator)
    build = network or (lambda: nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)))
    objective = Classification(
        lambda: build().double(),
        *((x[part], y[part]) for part in (slice(24), slice(24, 48), slice(48, 72))),
        optimization=optimization or Optimization(batch_size=12, learning_rate=0.1, momentum=0.8),
    )
    regularizers = {
        "weight_decay": {"parts": "layer", "strength": Tune(0.1)},
        "label_smoothing": {"epsilon": Tune(0.2)},
        "gaussian_input_noise": {"sigma": Tune(0.3)},
        "dropout": {"rate": 0.2, **rates},
    }
    trainer = TrainerFactory(objective, regularizers)(0)
    train(trainer, 5)
    return trainer


def train(trainer, steps):
    values = trainer.space.constrain(trainer.space.start)
    return trainer.execute(FollowSchedule(segments=((steps, values),)))


@pytest.fixture
def trainer():
    return trainer_of()


def unrolled(trainer, **of_run):
    return UnrolledRun(trainer.lower, trainer.training_step, **of_run), trainer.space.start_as(torch.float64)


def differences(run, u, move):
    rows = move * torch.eye(len(u), dtype=u.dtype)
    return torch.tensor(
        [(run.end(u + row, STEPS) - run.end(u - row, STEPS)) / (2 * move) for row in rows]
    ).double()


def test_a_run_is_that_of_the_trainer(trainer):
    run, u = unrolled(trainer)
    end = run.end(u, STEPS)
    train(trainer, STEPS)
    assert end == pytest.approx(
        trainer.lower.evaluate(trainer.lower.network, "validation")["validation_loss"], 1e-6
    )


def test_the_trainer_stays_as_it_is(trainer):
    before = {name: tensor.clone() for name, tensor in trainer.lower.network.state_dict().items()}
    run, u = unrolled(trainer)
    run.metagradient(u, STEPS)
    assert all(torch.equal(before[name], now) for name, now in trainer.lower.network.state_dict().items())


def test_metagradients_are_finite_differences_of_whole_runs(trainer):
    run, u = unrolled(trainer)
    assert len(u) == 4
    found = run.metagradient(u, STEPS)
    torch.testing.assert_close(found, differences(run, u, 1e-4), rtol=1e-6, atol=1e-9)
    assert found.abs().min() > 1e-5


def test_it_does_not_matter_which_states_are_kept(trainer):
    run, u = unrolled(trainer)
    whole = run.metagradient(u, STEPS, every=STEPS)
    for every in (1, 3):
        torch.testing.assert_close(run.metagradient(u, STEPS, every=every), whole, rtol=1e-10, atol=1e-14)


def test_the_rate_of_dropout_has_the_derivative_of_the_mean_over_masks():
    """Of whole runs it can only be had by moving it as far as masks change, and as a mean over runs."""
    trainer = trainer_of(rate=Tune(0.2))
    u = trainer.space.start_as(torch.float64)
    move = torch.zeros_like(u)
    move[trainer.space.names.index("dropout.rate")] = WIDTH
    rows = []
    for number in range(20):
        run = UnrolledRun(trainer.lower, trainer.training_step + STEPS * number)
        difference = (run.end(u + move, STEPS) - run.end(u - move, STEPS)) / (2 * WIDTH)
        rows.append([float(run.metagradient(u, STEPS) @ move / WIDTH), difference])
    exact, whole = torch.tensor(rows).T
    error = (exact - whole).std() / len(rows) ** 0.5
    assert abs(exact.mean() - whole.mean()) < 4 * error + 0.05 * whole.mean().abs()
    assert whole.mean().abs() > 4 * error


def test_other_hyperparameters_do_not_see_whether_the_rate_is_tuned(trainer):
    run, u = unrolled(trainer)
    with_rate, longer = unrolled(trainer_of(rate=Tune(0.2)))
    others = [name != "dropout.rate" for name in with_rate.lower.space.names]
    torch.testing.assert_close(with_rate.metagradient(longer, STEPS)[others], run.metagradient(u, STEPS))


@pytest.mark.parametrize(
    ("optimization", "network"),
    [
        (Optimization(batch_size=12, optimizer="adam", learning_rate=0.01), None),
        (Optimization(batch_size=12, learning_rate=0.01, clip_norm=1.0), None),
        (None, lambda: nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))),
    ],
)
def test_what_cannot_be_unrolled_is_refused(optimization, network):
    trainer = trainer_of(optimization, network)
    with pytest.raises(ValueError, match="unrolled"):
        unrolled(trainer)

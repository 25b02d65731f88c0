import pytest
import torch
from selftune.objectives.tasks.digits import Digits

from selftune.errors import SettingError
from selftune.hyperparameters import Hyperparameter, Interval, Space
from selftune.listener import Remembered
from selftune.methods import Budget, Held, HeldSettings, Replay, Segment
from selftune.methods.reports import Hypergradient, Trained
from selftune.training import TrainerFactory, run_in_process

SPACE = Space([Hyperparameter("a.x", Interval(), 0.3, tuned=True)])


def looked(training_step, loss, seconds=1.0):
    return Trained(
        training_step=training_step,
        training_loss=1.0,
        measures={"validation_loss": loss, "validation_accuracy": 0.5},
        hypergradient=Hypergradient(hypergradient=torch.zeros(1)),
        seconds=seconds,
    )


def driven(method, losses, steps=10, seconds=1.0):
    """The hyper-steps of one trainer that reports these losses, and the orders it got."""
    method.join(0, SPACE)
    found, orders = [], []
    for number, loss in enumerate(losses):
        orders.append(method.ask()[0])
        found.append(method.tell(0, looked((number + 1) * steps, loss, seconds)))
    return found, orders


def test_every_look_is_a_hyper_step_at_the_start_values_with_a_hypergradient_of_zero():
    method = Held(Budget(steps=25), HeldSettings(train_steps=10))
    steps, orders = driven(method, [0.5, 0.4])
    assert [step.number for step in steps] == [0, 1]
    assert [step.validation_loss for step in steps] == [0.5, 0.4]
    for step in steps:
        assert torch.equal(step.hyperparameters, SPACE.constrain(SPACE.start))
        assert step.hypergradient.tolist() == step.scale.tolist() == [0.0]
        assert step.diagnostics == {"validation_accuracy": 0.5}
    assert [order.steps for order in orders] == [10, 10]
    assert [order.values.version for order in orders] == [0, 1]
    assert method.ask()[0].steps == 5  # what is left
    assert method.best.number == 1


def test_it_stops_where_no_look_was_better_for_its_patience():
    method = Held(Budget(steps=1000, patience=2), HeldSettings(train_steps=10))
    driven(method, [0.5, 0.4, 0.6, 0.6])
    assert method.ask()[0].kind == "finish"
    assert method.stopped == "patience"


def test_a_budget_in_seconds_counts_the_trainers_time():
    method = Held(Budget(seconds=5.0), HeldSettings(train_steps=10))
    driven(method, [0.5, 0.4], seconds=3.0)
    assert method.ask()[0].kind == "finish"


def test_checkpoints_come_every_so_many_looks():
    _, orders = driven(Held(Budget(steps=90), HeldSettings(train_steps=10, checkpoint_every=3)), [0.5] * 6)
    assert [order.checkpoint for order in orders] == [False, False, True] * 2


@pytest.mark.parametrize("key", ["train_steps", "checkpoint_every"])
def test_settings_out_of_range_are_refused(key):
    with pytest.raises(SettingError, match=f"{key}: must be at least 1, got 0"):
        HeldSettings(**{key: 0})


def test_nothing_needs_to_be_tuned():
    assert not list(Held(Budget(steps=5)).mistakes(Space([])))


def test_the_network_is_that_of_plain_training_bit_for_bit():
    def factory():
        return TrainerFactory(Digits(hidden=(8,)), {"dropout": {"rate": 0.2}}, seed=2, steps=30)

    heard = Remembered()
    held = run_in_process(Held(Budget(steps=30), HeldSettings(train_steps=7)), {0: factory()(0)}, heard)[0]
    plain = run_in_process(Replay([Segment(30, torch.empty(0))], 30), {0: factory()(0)})[0]
    assert all(torch.equal(held.network[name], tensor) for name, tensor in plain.network.items())
    assert held.measures == plain.measures
    assert [step.training_step for step in heard.steps] == [7, 14, 21, 28, 30]

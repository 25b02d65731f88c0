"""A state of a run with other settings: weights and memory are its own, what is set is what is said here."""

import copy

import pytest
import torch
from rounding import rounding
from torch import nn

from selftune.hyperparameters import Hyperparameter, Positive, Space, Tune
from selftune.lower_level.classification import Classification
from selftune.lower_level.optimization import Optimization
from selftune.methods import Budget, SelfTuning, SelfTuningSettings
from selftune.methods.reports import ResponseHypergradient, Trained
from selftune.methods.work_orders import FollowSchedule
from selftune.training import Trainer, TrainerFactory
from selftune.training.team_run import TeamRun

BEFORE = 7  # training steps with the settings of the state
STEPS = 12


def data(seed, examples=48):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(examples) % 3
    return torch.randn(examples, 4, generator=generator) + labels[:, None], labels


def trainer(regularizers=(), **optimization):
    splits = (data(seed) for seed in range(3))
    chosen = Optimization(**{"batch_size": 16, "learning_rate": 0.1, **optimization})
    return Trainer(Classification(lambda: nn.Linear(4, 3), *splits, chosen), regularizers, steps=STEPS)


def follow(trainer, steps, values=()):
    trainer.execute(FollowSchedule(segments=((steps, torch.tensor(list(values))),)))


def copied(before, after, regularizers=()):
    """A trainer with the settings ``after`` that goes on from the state of one with the settings ``before``."""
    first, second = trainer(regularizers, **before), trainer(regularizers, **after)
    follow(first, BEFORE)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    return first, second


def gradient_of(trainer):
    """Of the next training step, by hand."""
    batch = trainer.lower.batches.at(trainer.training_step).batch
    weights = {name: p.detach().clone().requires_grad_() for name, p in trainer.lower.network.named_parameters()}
    outputs = torch.func.functional_call(trainer.lower.network, weights, (batch["inputs"],))
    loss = nn.functional.cross_entropy(outputs, batch["labels"])
    return dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))


def test_sgd_goes_on_with_its_momentum_at_the_new_rate():
    first, second = copied({"momentum": 0.9}, {"learning_rate": 0.02, "momentum": 0.5, "weight_decay": 0.1})
    gradients = gradient_of(second)
    before = {name: p.detach().clone() for name, p in second.lower.network.named_parameters()}
    buffers = {
        name: first.lower.optimizer.state[p]["momentum_buffer"].clone()
        for name, p in first.lower.network.named_parameters()
    }
    follow(second, 1)
    for name, weight in second.lower.network.named_parameters():
        moved = before[name] - 0.02 * (0.5 * buffers[name] + gradients[name] + 0.1 * before[name])
        assert torch.allclose(weight, moved, rtol=0, atol=rounding(1.0, dtype=torch.float32))


SCHEDULES = {
    "cosine": {"name": "cosine", "warmup_steps": 2},
    "one_cycle": {"name": "one_cycle"},
    "step": {"name": "step", "step_size": 3},
    "torch's cosine with a least rate": {"name": "CosineAnnealingLR", "T_max": 12, "eta_min": 0.01},
    "torch's steps": {"name": "MultiStepLR", "milestones": [3, 9]},
}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_stays_at_its_step_and_takes_the_new_rate(schedule):
    before = {"schedule": SCHEDULES[schedule]}
    after = {**before, "learning_rate": 0.03}
    _, second = copied(before, after)
    fresh = trainer(**after)
    follow(fresh, BEFORE)
    rates = []
    for each in (second, fresh):
        found = [each.lower.learning_rate]
        for _ in range(STEPS - BEFORE):
            follow(each, 1)
            found.append(each.lower.learning_rate)
        rates.append(torch.tensor(found, dtype=torch.float64))
    assert torch.allclose(*rates, rtol=0, atol=rounding(0.1))
    if schedule == "one_cycle":  # its momentum goes on, too
        assert second.lower.momentum == pytest.approx(fresh.lower.momentum)


def test_adam_goes_on_with_its_moments_at_the_new_settings():
    after = {"learning_rate": 0.01, "weight_decay": 0.2, "momentum": 0.7, "settings": {"eps": 1e-5}}
    first, second = copied({"optimizer": "adamw"}, {"optimizer": "adamw", **after})
    (group,) = second.lower.optimizer.param_groups
    assert (group["lr"], group["betas"][0], group["weight_decay"], group["eps"]) == (0.01, 0.7, 0.2, 1e-5)
    for one, other in zip(
        first.lower.optimizer.state.values(), second.lower.optimizer.state.values(), strict=True
    ):
        assert torch.equal(one["exp_avg"], other["exp_avg"])


def test_groups_have_their_own_new_rates():
    groups = [{"groups": {"bias": {"learning_rate": rate}}} for rate in (0.5, 0.25)]
    _, second = copied(*groups)
    assert [group["lr"] for group in second.lower.optimizer.param_groups] == [0.1, 0.25]


def test_the_same_settings_change_nothing():
    chosen = {"schedule": SCHEDULES["one_cycle"], "average": 0.9, "accumulate": 3}
    first, second = copied(chosen, chosen)
    for each in (first, second):
        follow(each, STEPS - BEFORE)
    wanted, found = first.plain_network().state_dict(), second.plain_network().state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())


def test_fixed_hyperparameters_are_those_of_the_new_run():
    def of(strength):
        return TrainerFactory(trainer().lower.objective, {"weight_decay": {"strength": strength}}, steps=STEPS)(0)

    first, second, fresh = of(0.01), of(0.3), of(0.3)
    follow(first, BEFORE)
    state = first.state_dict()
    second.load_state_dict(state)
    assert float(second.space.unpack(torch.empty(0))["weight_decay.strength"]) == pytest.approx(0.3)
    for name, tensor in fresh.lower.network.named_parameters():
        tensor.data.copy_(state["lower"]["network"][name])
    batch = second.lower.batches.at(BEFORE)
    values = second.space.unpack(torch.empty(0))
    losses = [
        each.lower.plain_loss(each.lower.begin(BEFORE, batch, values, "elementary")) for each in (second, fresh)
    ]
    assert torch.equal(*losses)


# The hyperparameters' own learning rate --------------------------------------------------------------

SPACE = Space([Hyperparameter("a.strength", Positive(), 0.1, tuned=True)])


def tuned(rate, optimizer="sgd"):
    settings = SelfTuningSettings(warmup_steps=0, optimizer=optimizer, learning_rate=rate, tune_scale=False)
    method = SelfTuning(Budget(steps=1000), settings)
    method.join(0, SPACE)
    return method


def hyper_step(method, gradient):
    order = method.ask()[0]
    report = Trained(
        training_step=5 * (order.values.version + 1),
        training_loss=1.0,
        measures={"validation_loss": 1.0},
        hypergradient=ResponseHypergradient(hypergradient=torch.tensor([gradient])),
    )
    method.tell(0, report)


def test_hyperparameters_go_on_from_where_they_were_at_the_new_rate():
    first, second = tuned(0.5), tuned(0.25)
    hyper_step(first, 1.0)
    second.load_state_dict(first.state_dict())
    start = SPACE.start_as(torch.float32)
    assert torch.equal(second.values.unconstrained, start - 0.5)
    hyper_step(second, 1.0)
    assert torch.allclose(
        second.values.unconstrained, start - 0.75, rtol=0, atol=rounding(10.0, dtype=torch.float32)
    )


def test_a_whole_team_goes_on_from_the_response_of_another(tmp_path):
    def run(rate):
        factory = TrainerFactory(
            trainer(learning_rate=rate).lower.objective, {"weight_decay": {"strength": Tune(0.01)}}, steps=STEPS
        )
        settings = SelfTuningSettings(warmup_steps=2, train_steps=2, learning_rate=rate)
        return TeamRun(SelfTuning(Budget(steps=STEPS), settings), {0: factory(0)})

    first, second = run(0.1), run(0.02)
    first.join()
    for _ in range(3):
        first.round()
    first.save(tmp_path)
    assert second.restore(tmp_path)
    second.join()
    one, other = (each.trainers[0].estimator.response.state_dict() for each in (first, second))
    assert all(torch.equal(other[name], tensor) for name, tensor in one.items())
    assert second.training_step == first.training_step == 6
    assert second.trainers[0].lower.learning_rate == 0.02
    while not second.done:
        second.round()
    assert second.training_step == STEPS

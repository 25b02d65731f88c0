"""Training with an ``Optimization`` against loops of bare PyTorch: the same bits, or as rounding leaves them."""

import math
import shutil

import pytest
import torch
from orders import with_response
from rounding import rounding
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from selftune.errors import SettingError
from selftune.hyperparameters import Tune
from selftune.lower_level.classification import Classification
from selftune.lower_level.optimization import Optimization
from selftune.methods import Response
from selftune.methods.work_orders import FollowSchedule
from selftune.regularization.regularizer import regularizers
from selftune.training import Trainer

STEPS = 12


def network():
    # No bias before BatchNorm: its gradient is rounding, of which Adam makes whole steps.
    return nn.Sequential(nn.Linear(6, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))


def data(seed, examples=48):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(examples) % 3
    return torch.randn(examples, 6, generator=generator) + labels[:, None], labels


def objective(**optimization):
    splits = (data(seed) for seed in range(3))
    chosen = {"batch_size": 16, "learning_rate": 0.05, **optimization}
    return Classification(network, *splits, Optimization(**chosen))


def replay(steps):
    return FollowSchedule(segments=((steps, torch.empty(0)),))


def trained(steps=STEPS, whole=STEPS, **optimization):
    trainer = Trainer(objective(**optimization), [], steps=whole)
    trainer.execute(replay(steps))
    return trainer


class Bare:
    """A loop that somebody writes who has read PyTorch's documentation."""

    def __init__(self, optimizer=None, schedule=None, accumulate=1, clip=None, autocast=None, average=None):
        self.trainer = Trainer(objective(), [])  # gives the batches and the first weights
        self.network = self.trainer.plain_network().train()
        make = optimizer or (lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9))
        self.optimizer = make(self.network.parameters())
        self.schedule = schedule(self.optimizer) if schedule else None
        self.scaler = torch.amp.GradScaler("cpu", enabled=autocast == torch.float16)
        self.average = None
        if average:
            self.average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(average))
        for number in range(STEPS):
            batch = self.trainer.lower.batches.at(number).batch
            with torch.autocast("cpu", autocast or torch.bfloat16, enabled=autocast is not None):
                outputs = self.network(batch["inputs"])
            loss = nn.functional.cross_entropy(outputs.float(), batch["labels"])
            self.scaler.scale(loss / accumulate).backward()
            if (number + 1) % accumulate == 0:
                self.scaler.unscale_(self.optimizer)
                if clip:
                    clip(self.network.parameters())
                self.scaler.step(self.optimizer)
                self.scaler.update()
                self.optimizer.zero_grad()
                if self.average:
                    self.average.update_parameters(self.network)
            if self.schedule:
                self.schedule.step()

    @property
    def result(self):
        return self.average.module if self.average else self.network


def gap(trainer, bare):
    state = trainer.plain_network().state_dict()
    wanted = bare.result.state_dict()
    return max(float((state[name] - wanted[name]).abs().max()) for name in wanted)


def lambda_lr(share):
    return lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, share)


def warm_cosine(number):
    if number < 3:
        return (number + 1) / 4
    return 0.1 + 0.9 * (1 + math.cos(math.pi * (number - 3) / (STEPS - 3))) / 2


schedulers = torch.optim.lr_scheduler
SCHEDULES = {
    "cosine with a warm-up": ({"name": "cosine", "warmup_steps": 3, "final": 0.1}, lambda_lr(warm_cosine)),
    "cosine": ("cosine", lambda o: schedulers.CosineAnnealingLR(o, STEPS)),
    "linear": ("linear", lambda_lr(lambda number: 1 - number / STEPS)),
    "step": ({"name": "step", "step_size": 5}, lambda o: schedulers.StepLR(o, 5)),
    "milestones": (
        {"name": "step", "milestones": [2, 7], "gamma": 0.5},
        lambda o: schedulers.MultiStepLR(o, [2, 7], gamma=0.5),
    ),
    "one cycle": ("one_cycle", lambda o: schedulers.OneCycleLR(o, 0.05, total_steps=STEPS)),
    "torch's": ({"name": "ExponentialLR", "gamma": 0.8}, lambda o: schedulers.ExponentialLR(o, 0.8)),
    "a factory": (lambda o: schedulers.CyclicLR(o, 0.01, 0.1), lambda o: schedulers.CyclicLR(o, 0.01, 0.1)),
    "constant with a warm-up": (
        {"name": "constant", "warmup_steps": 4},
        lambda_lr(lambda number: min((number + 1) / 5, 1)),
    ),
}


@pytest.mark.parametrize("label", SCHEDULES)
def test_a_schedule(label):
    chosen, bare = SCHEDULES[label]
    assert gap(trained(schedule=chosen), Bare(schedule=bare)) <= rounding(1, 1000, torch.float32)


@pytest.mark.parametrize(
    ("chosen", "clip"),
    [
        ({"clip_norm": 0.1}, lambda parameters: nn.utils.clip_grad_norm_(parameters, 0.1)),
        ({"clip_value": 0.01}, lambda parameters: nn.utils.clip_grad_value_(parameters, 0.01)),
    ],
)
def test_clipping(chosen, clip):
    assert gap(trained(**chosen), Bare(clip=clip)) <= rounding(1, 1000, torch.float32)
    assert gap(trained(**chosen), Bare()) > 1e-3


def test_accumulation():
    assert gap(trained(accumulate=3), Bare(accumulate=3)) <= rounding(1, 1000, torch.float32)


def test_gradients_that_wait_for_a_step_at_the_end_are_not_used():
    eleven = trained(accumulate=5, steps=11).plain_network().state_dict()
    ten = trained(accumulate=5, steps=10).plain_network().state_dict()
    assert torch.equal(eleven["0.weight"], ten["0.weight"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(dtype):
    name = str(dtype).removeprefix("torch.")
    assert gap(trained(autocast=name), Bare(autocast=dtype)) <= rounding(1, 1000, torch.float32)
    assert gap(trained(autocast=name), Bare()) > rounding(1, 1000, torch.float32)


def test_an_average_is_what_comes_out_with_the_buffers_of_the_last_step():
    assert gap(trained(average=0.8), Bare(average=0.8)) <= rounding(1, 1000, torch.float32)
    trainer = trained(average=0.8)
    before = trainer.lower.network[0].weight.detach().clone()
    assert not torch.equal(trainer.plain_network()[0].weight, before)
    assert torch.equal(trainer.lower.network[0].weight, before)


def everything():
    return {
        "schedule": {"name": "one_cycle"},
        "clip_norm": 0.5,
        "average": 0.9,
        "accumulate": 2,
        "optimizer": "adamw",
        "weight_decay": 0.1,
        "decay_norms_and_biases": False,
    }


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_all_at_once():
    def optimizer(parameters):
        first, scale, shift, last, last_bias = parameters
        groups = [
            {"params": [first, last]},
            {"params": [scale, shift, last_bias], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=0.05, weight_decay=0.1)

    bare = Bare(
        optimizer,
        lambda o: schedulers.OneCycleLR(o, [0.05, 0.05], total_steps=STEPS),
        accumulate=2,
        clip=lambda parameters: nn.utils.clip_grad_norm_(parameters, 0.5),
        average=0.9,
    )
    assert gap(trained(**everything()), bare) <= rounding(1, 10000, torch.float32)


@pytest.mark.parametrize("extra", [{}, {"autocast": "float16"}])
@pytest.mark.parametrize("stop", [1, 5, 6])
def test_a_state_from_the_middle_goes_on_to_the_same_bits(stop, extra):
    whole = trained(**everything(), **extra)
    first = trained(steps=stop, **everything(), **extra)
    again = Trainer(objective(**everything(), **extra), [], steps=STEPS)
    again.load_state_dict(first.state_dict())
    again.execute(replay(STEPS - stop))
    state, wanted = again.plain_network().state_dict(), whole.plain_network().state_dict()
    assert all(torch.equal(state[name], wanted[name]) for name in wanted)


def test_gradients_that_overflow_are_dropped_and_the_scale_is_lowered():
    trainer = Trainer(objective(autocast="float16", average=0.5), [])
    lower = trainer.lower
    before = lower.network[0].weight.detach().clone()
    lower.descent.begin(0)
    lower.descent.backward(lower.network[0].weight.sum() * float("inf"))
    assert not lower.descent.ready()
    assert torch.equal(lower.network[0].weight, before)
    assert lower.descent.state_dict()["scaler"]["scale"] < 2.0**16


@pytest.mark.full  # compiling takes long
@pytest.mark.skipif(not (shutil.which("c++") or shutil.which("g++")), reason="torch compiles with a C++ compiler")
def test_compiled_steps_are_those_of_the_network():
    compiled = trained(compile=True)
    assert compiled.lower.runner is not compiled.lower.network
    assert gap(compiled, Bare()) <= rounding(1, 10000, torch.float32)


@pytest.mark.parametrize(
    ("chosen", "steps", "key", "message"),
    [
        ({"schedule": "cosine"}, None, "optimization.schedule.steps", "has to know its end"),
        (
            {"schedule": {"name": "cosine", "warmup_steps": 9}},
            9,
            "optimization.schedule.warmup_steps",
            "below the 9",
        ),
        ({"schedule": {"name": "one_cycle", "steps": 5}}, 9, "optimization.schedule.steps", "at least the 9"),
        ({"accumulate": 10}, 9, "optimization.accumulate", "at most the 9"),
        ({"schedule": {"name": "CyclicLR"}}, 9, "optimization.schedule.name", "cannot be made"),
        ({"schedule": lambda o: 3}, 9, "optimization.schedule", "a scheduler that steps"),
        ({"clip_norm": 1.0, "clip_value": 1.0}, 9, "optimization.clip_value", "one of them"),
        ({"groups": {"9.*": {}}}, 9, "optimization.groups.9.*", "matches for no trained parameter"),
    ],
)
def test_what_does_not_fit_the_run_is_refused_before_training(chosen, steps, key, message):
    with pytest.raises(SettingError, match=message) as error:
        Trainer(objective(**chosen), [], steps=steps)
    assert error.value.key == key


def test_a_one_cycle_schedule_goes_on_under_a_larger_budget():
    trainer = trained(schedule="one_cycle", steps=6)
    longer = Trainer(objective(schedule="one_cycle"), [], steps=3 * STEPS)
    longer.load_state_dict(trainer.state_dict())
    longer.execute(replay(3 * STEPS - 6))
    assert longer.training_step == 3 * STEPS
    assert 0 < longer.lower.learning_rate < 0.001


def test_maps_of_weights_have_a_response_while_the_learning_rate_is_not_zero():
    decay = regularizers["decoupled_weight_decay"](strength=Tune(0.1))
    trainer = Trainer(objective(schedule={"name": "linear", "steps": 6}), [decay], steps=STEPS)
    report = trainer.execute(with_response(trainer, vars(Response()), STEPS))
    assert trainer.lower.learning_rate == 0
    assert report.kind == "cycle"
    assert bool(torch.isfinite(report.tensors["hypergradient"]).all())
    assert float(report.tensors["hypergradient"].abs()) > 0

"""A small network tuned by each method that differentiates its training loss, and trainers of it that die."""

import os
import signal
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from ray_fakes import Recorder
from torch import nn

from selftune.hyperparameters import Tune
from selftune.lower_level.classification import Classification
from selftune.lower_level.optimization import Optimization
from selftune.methods import (
    Budget,
    NetworkLineSearch,
    NetworkLineSearchSettings,
    OnlineImplicit,
    OnlineImplicitSettings,
    Penalty,
    PenaltySettings,
)
from selftune.regularization.regularizer import regularizers
from selftune.training import Trainer, run_in_process

STEPS = 40
_COMMON = {"warmup_steps": 10, "train_steps": 5, "checkpoint_every": 1}
METHODS = {
    "implicit": (OnlineImplicit, OnlineImplicitSettings(**_COMMON, system_steps=3)),
    "penalty": (Penalty, PenaltySettings(**_COMMON)),
    "inexact_line_search": (
        NetworkLineSearch,
        NetworkLineSearchSettings(**_COMMON, lanczos_steps=4, system_steps=4, alpha=0.9),
    ),
}


def method(name):
    """The method for a team of two, not yet made."""
    cls, settings = METHODS[name]
    return partial(cls, Budget(steps=STEPS), settings, 2)


def data(examples, seed):
    labels = torch.arange(examples) % 3
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(examples, 6, generator=generator) + labels[:, None], labels


def network():
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


OBJECTIVE = Classification(network, data(96, 0), data(80, 1), data(48, 2), Optimization(16, "sgd", 0.05))
TUNED = [regularizers["weight_decay"](strength=Tune(0.3)), regularizers["label_smoothing"](epsilon=Tune(0.2))]
MEDIAN = regularizers["coordinate_median"]()


class Mortal(Trainer):
    """Kills its process, once, when it gets its last order: so many it gets before."""

    def __init__(self, *arguments, marker, last, **settings):
        super().__init__(*arguments, **settings)
        self.marker, self.last, self.orders = marker, last, 0

    def execute(self, order, warm=None):
        self.orders += 1
        if self.orders == self.last and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().execute(order, warm)


@dataclass(frozen=True)
class Networks:
    """Builds the trainers of a method's pair; with a marker, the second one is mortal."""

    name: str
    marker: Path | None = None

    def __call__(self, member):
        settings = {"member": member, "draws": 0 if self.name == "penalty" else member}
        if member == 1 and self.marker is not None:
            last = (
                1 if self.name == "inexact_line_search" else 4
            )  # of a search it may get but one, where it is slow
            return Mortal(OBJECTIVE, TUNED, marker=self.marker, last=last, **settings)
        return Trainer(OBJECTIVE, TUNED, **settings)


def stepwise(member):
    """A trainer whose regularizer makes steps of its own, which a single loop refuses when it begins."""
    return Trainer(OBJECTIVE, [*TUNED, MEDIAN], member=member, draws=0)


def hyper_steps(recorder):
    """To the last bit, without seconds and certificate: how much work a search does depends on who is faster."""
    return [event[1:3] + event[4:9] + event[10:] for event in recorder.of("hyper_step")]


def payloads(reports):
    return {m: {name: tensor.tolist() for name, tensor in r.tensors.items()} for m, r in reports.items()}


def here(name):
    """What the pair does in this process: its hyper-steps, and the networks that come out."""
    recorder, machine = Recorder(), method(name)()
    reports = machine.results(run_in_process(machine, {m: Networks(name)(m) for m in range(2)}, recorder))
    return hyper_steps(recorder), payloads(reports)

"""What a tuned step holds at its peak, in plain steps."""

import gc

import pytest
import torch
from step_cost import peak_bytes
from torch import nn
from torch.nn import functional as F

from selftune import OnlineTuner, Tune

TUNED = {"weight_decay": {"strength": Tune(1e-3)}, "label_smoothing": {"epsilon": Tune(0.05)}}
MOST = {
    "self_tuning": ({"warmup_steps": 1, "train_steps": 1}, 4.5),
    "implicit": ({"warmup_steps": 1, "train_steps": 1, "system_steps": 2}, 3.5),
    "held": ({"train_steps": 1}, 1.75),
}
"""Settings of methods, and the most that their steps may hold; what is measured is below by a fifth or more."""


def network():
    return nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))


def batch():
    return torch.randn(256, 256), torch.randint(10, (256,))


def plain(_):
    model, data = network(), batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def step():
        F.cross_entropy(model(data[0]), data[1]).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def tuned(method):
    model, data = network(), batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    tuner = OnlineTuner(
        model,
        optimizer,
        TUNED,
        loss=lambda outputs, batch: F.cross_entropy(outputs, batch[1], reduction="none"),
        validation=[batch()],
        forward=lambda model, batch: model(batch[0]),
        method=method,
        **MOST[method][0],
    )

    def step():
        tuner.loss(data).backward()
        tuner.step()

    def steps():  # what a method holds is there from its first hyper-steps on
        for _ in range(3):
            step()

    return steps


@pytest.mark.parametrize("method", MOST)
def test_a_tuned_step_holds_no_more_than_it_should(method, device, record_property):
    peaks = []
    for make in (tuned, plain):
        gc.collect()  # what is freed while it is measured would count as if it had never been there
        with torch.device(device):
            peaks.append(peak_bytes(make, method))
    share = peaks[0] / peaks[1]
    record_property("memory, in plain steps", share)
    assert 1 <= share <= MOST[method][1], share

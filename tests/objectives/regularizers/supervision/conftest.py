from types import SimpleNamespace

import pytest
import torch
from torch import nn

from selftune.lower_level.classification import Classification
from selftune.lower_level.optimization import Optimization
from selftune.methods.work_orders import FollowSchedule
from selftune.training import Trainer


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.branch = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, inputs):
        return inputs + self.branch(inputs)


def mlp():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))


def cnn():
    norm = nn.BatchNorm2d(2)
    return nn.Sequential(nn.Conv2d(1, 2, 3), norm, nn.ReLU(), Block(), Block(), nn.Flatten(), nn.Linear(32, 3))


@pytest.fixture
def lab(request):
    """Small problems, and training on them: ``lab.train(regularizers, steps)`` gives the trainer.

    In single precision, as training usually is, also where closed forms are compared in double.
    """
    if "double" in request.fixturenames:
        request.getfixturevalue("double")
    torch.set_default_dtype(torch.float32)
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(24) % 3
    vectors = torch.randn(24, 4, generator=generator) + labels[:, None]
    images = torch.randn(24, 1, 6, 6, generator=generator) + labels[:, None, None, None]
    plain = Optimization(batch_size=8, learning_rate=0.1, momentum=0.0)

    def objective(kind="vectors", optimization=plain, labels=labels, dtype=torch.float32):
        inputs, build = (vectors, mlp) if kind == "vectors" else (images, cnn)
        data, extra = (inputs.to(dtype), labels), None
        if kind == "images":
            extra = {"second_inputs": (inputs.flip(-1),) * 3}
        return Classification(lambda: build().to(dtype), data, data, data, optimization, extra=extra)

    def train(members, steps, kind="vectors", total=100, **changes):
        trainer = Trainer(objective(kind, **changes), members, steps=total)
        more(trainer, steps)
        return trainer

    def more(trainer, steps):
        if steps:
            report = trainer.execute(FollowSchedule(segments=((steps, torch.empty(0)),)))
            assert report.kind == "replay", report.message

    def weights(trainer):
        return torch.cat([p.detach().flatten() for p in trainer.lower.parameters.values()])

    def perturbed_loss(trainer, number):
        """The loss of a step that must not change state."""
        lower = trainer.lower
        values = lower.space.values(lower.space.start)
        step = lower.begin(number, lower.batches.at(number), values, "response", perturbed=True)
        return lower.loss(step, lower.network, lower.parameters), step

    def member(trainer):
        return trainer.lower.regularizers.members[0]

    return SimpleNamespace(
        objective=objective,
        train=train,
        more=more,
        weights=weights,
        perturbed_loss=perturbed_loss,
        member=member,
        labels=labels,
        vectors=vectors,
    )

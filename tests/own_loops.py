"""A training loop that knows selftune by its OnlineTuner alone."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from selftune import OnlineTuner, Tune
from selftune.training.loop_trainer import current_channel

SETTINGS = {"warmup_steps": 4, "train_steps": 2, "learning_rate": 0.05}
TUNED = {"dropout": {"rate": Tune(0.2)}, "weight_decay": {"parts": "layer", "strength": Tune(1e-2)}}


def data(examples, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(examples, 6, generator=generator)
    return {"x": x, "y": (x[:, :3].sum(dim=1) > 0).long() + (x[:, 0] > 1).long()}


def network(seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 3))


def cross_entropy(outputs, batch):
    return F.cross_entropy(outputs, batch["y"], reduction="none")


BATCHES = [data(16, seed) for seed in range(20)]


def tuner_of(seed, loss=cross_entropy, **settings):
    """A tuner of a network of this seed; in a trial the scheduler brings the settings of the method."""
    model = network(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    chosen = {} if current_channel() is not None else SETTINGS
    return OnlineTuner(
        model,
        optimizer,
        TUNED,
        loss=loss,
        validation=[data(32, 100)],
        forward=lambda model, batch: model(batch["x"]),
        **chosen,
        **settings,
    )


@dataclass
class Loop:
    """The loop of a member of a team."""

    member: int

    def __call__(self):
        tuner = tuner_of(self.member)
        while not tuner.done:
            tuner.loss(BATCHES[tuner.training_step]).backward()
            tuner.step()


def loop(config, member):
    """The same for a trial of Ray Tune."""
    assert config["width"] == 8
    Loop(member)()

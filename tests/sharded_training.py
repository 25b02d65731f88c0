"""A network trained by a schedule in one process, or by two of which each holds a part of the weights."""

from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

from selftune import Classification, Optimization, Tune
from selftune.methods.work_orders import FinishTraining, FollowSchedule
from selftune.networks import sharded_weights
from selftune.networks.sharded_weights import own_part
from selftune.storage.state_file import load_state, save_state
from selftune.training import TrainerFactory
from selftune.training.process_group import DataParallelGroup

WIDE = 64
OPTIMIZATIONS = {
    "averaged and clipped": {"average": 0.9, "clip_norm": 0.05},
    "sgd": {},
    "clipped by value": {"clip_value": 0.001},
    "accumulated": {"accumulate": 3},
    "bfloat16": {"autocast": "bfloat16"},
    "groups": {"weight_decay": 0.1, "decay_norms_and_biases": False, "groups": {"tied*": {"learning_rate": 0.2}}},
    **{
        name: {"optimizer": name, "learning_rate": 0.01}
        for name in ("adadelta", "adagrad", "adam", "adamax", "adamw", "asgd", "nadam", "radam")
    },
    "rmsprop": {"optimizer": "rmsprop", "learning_rate": 0.01, "settings": {"eps": 1e-3}},  # no signs of roundings
}


NORMS = {
    "weight_norm, hook": weight_norm,
    "weight_norm, parametrization": parametrizations.weight_norm,
    "spectral_norm, hook": spectral_norm,
    "spectral_norm, parametrization": parametrizations.spectral_norm,
}


class Net(nn.Module):
    """Blocks in a list, layers with a tied weight, a frozen one, a buffer and a weight without axes."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(WIDE, WIDE), nn.Tanh()) for _ in range(2))
        self.tied, self.again = nn.Linear(WIDE, WIDE, bias=False), nn.Linear(WIDE, WIDE)
        self.again.weight = self.tied.weight
        self.still = nn.Linear(WIDE, WIDE).requires_grad_(False)
        self.norm, self.scale = nn.LayerNorm(WIDE), nn.Parameter(torch.tensor(1.5))
        self.head = nn.Linear(WIDE, 3)
        self.register_buffer("shift", torch.full((1,), 0.1))

    def forward(self, x):
        for block in self.blocks:
            x = x + block(x)
        x = self.scale * self.norm(self.again(self.tied(x).tanh()))
        return self.head(self.still(x).tanh() + self.shift)


def factory(label, seed=0):
    generator = torch.Generator().manual_seed(seed)
    splits = []
    for examples in (60, 31, 30):
        x = torch.randn(examples, WIDE, generator=generator)
        splits.append((x, torch.randint(3, (examples,), generator=generator)))
    optimization = Optimization(**{"batch_size": 17, "learning_rate": 0.1, **OPTIMIZATIONS.get(label, {})})
    norm = NORMS.get(label)
    build = (
        Net if norm is None else lambda: nn.Sequential(norm(nn.Linear(WIDE, WIDE)), nn.Tanh(), nn.Linear(WIDE, 3))
    )
    objective = Classification(build, *splits, optimization)
    regularizers = {"weight_decay": {"strength": Tune(1e-2)}, "dropout": {"rate": 0.1}, "max_norm": {"limit": 2.0}}
    return TrainerFactory(objective, regularizers, steps=40)


def follow(trainer, steps):
    return trainer.execute(
        FollowSchedule(segments=((steps // 2, torch.tensor([1e-2])), (steps - steps // 2, torch.tensor([0.1]))))
    )


def trained(label, group=None, folder=None):
    """What training has come to, with a state that went through a file in its middle; and what is held here."""
    trainer = factory(label)(0)
    if group is not None:
        trainer.share(group, sharded=True)
    follow(trainer, 6)
    if folder is not None:
        save_state(folder / f"{label}-{group.rank}", trainer.state_dict(), "state")
        trainer = factory(label)(0)
        trainer.share(group, sharded=True)
        trainer.load_state_dict(load_state(folder / f"{label}-{group.rank}", "state"))
    loss = follow(trainer, 6).training_loss
    optimizer = trainer.lower.optimizer
    held = {
        "weights": list(trainer.lower.parameters.values()),
        "optimizer": [v for kept in optimizer.state.values() for v in kept.values() if v.ndim],
    }
    report = trainer.execute(FinishTraining())
    return {
        "network": report.network,
        "losses": torch.tensor([loss, report.metrics["validation_loss"], report.metrics["test_loss"]]),
        "held": {name: sum(own_part(t).numel() for t in tensors) for name, tensors in held.items()},
    }


def process(rank, folder, labels):
    torch.set_num_threads(1)
    sharded_weights._SMALLEST = WIDE * WIDE
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    found = {label: trained(label, DataParallelGroup(), Path(folder)) for label in labels}
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()

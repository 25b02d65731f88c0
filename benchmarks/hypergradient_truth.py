"""Is what a method moves hyperparameters by the hypergradient? Against the exact metagradient, on small networks.

    python benchmarks/hypergradient_truth.py --records truth [--seeds 5] [--quick]

A network in float64 is trained on 256 digits until it has settled. From there

- *metagradient*: training goes on with the hyperparameters held, and the loss over the whole validation split at
  its end is differentiated through every step (see unrolling.py), over several horizons; the mean over some runs
  on other batches with other draws. The longest horizon is what methods are compared with. Where half of it gives
  another direction, it is too short.
- *method*: the weights are frozen, the method runs as it would, with a rate of zero for the hyperparameters, and
  gives 64 hypergradients, after as many steps as its response or its system needs. The penalty method trains its
  two networks on, as it has to.

Cells are method, network and seed; the seed decides the split, the start and all draws.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from cells import Cell, CellRecords, add_arguments, chosen
from sklearn.datasets import load_digits
from torch import nn
from truth_tables import report
from unrolling import UnrolledRun

from selftune import Classification, Optimization, Tune
from selftune.listener import Listener
from selftune.methods import Budget, HyperStep, Response
from selftune.methods.work_orders import FollowSchedule
from selftune.training import TrainerFactory, run_in_process
from selftune.training.method_record import NetworkForm, methods
from selftune.training.trainer import Trainer

METAGRADIENT = "metagradient"


@dataclass(frozen=True)
class Sizes:
    """How long everything takes, in training steps; ``horizons`` from the shortest to the longest."""

    settling: int = 800
    horizons: tuple[int, ...] = (10, 50, 100)
    runs: int = 2
    estimates: int = 64
    fit: int = 2000


QUICK = Sizes(settling=4, horizons=(2, 4), runs=2, estimates=2, fit=10)


# Networks ------------------------------------------------------------------------------------------------


class RowReader(nn.Module):
    """An LSTM that reads an image by pairs of rows, and a layer that names its class."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.lstm = nn.LSTM(16, width, batch_first=True)
        self.output = nn.Linear(width, 10)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        states, _ = self.lstm(rows)
        logits: torch.Tensor = self.output(states[:, -1])
        return logits


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 24), nn.ReLU(), nn.Linear(24, 10))


def cnn() -> nn.Module:
    first = nn.Conv2d(1, 6, 3, stride=2, padding=1), nn.ReLU()
    second = nn.Conv2d(6, 12, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(48, 10))


@dataclass(frozen=True)
class Network:
    """Args:
    build: makes one, in single precision.
    shape: of an image, as it enters.
    learning_rate: of SGD with momentum 0.9.
    drops: whether there is dropout before its layers, but for the first.
    """

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    learning_rate: float
    drops: bool = True


NETWORKS = {
    "mlp": Network(mlp, (64,), 0.03),
    "cnn": Network(cnn, (1, 8, 8), 0.03, drops=False),
    "lstm": Network(RowReader, (4, 16), 0.05),
}


def objective_of(network: Network, seed: int) -> Classification:
    data = load_digits()
    order = torch.randperm(len(data.images), generator=torch.Generator().manual_seed(seed))
    pixels = (torch.tensor(data.images, dtype=torch.float64)[order] / 8 - 1).reshape(-1, *network.shape)
    labels = torch.tensor(data.target)[order]
    splits = [(pixels[part], labels[part]) for part in (slice(256), slice(256, 768), slice(768, None))]
    optimization = Optimization(batch_size=128, learning_rate=network.learning_rate, momentum=0.9)
    return Classification(
        lambda: network.build().double(), *splits, optimization=optimization, validation_batch_size=128
    )


# Methods -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Way:
    """A method with settings.

    Args:
        method: its name.
        settings: other than the defaults.
        tunes_dropout: whether the rate is tuned, or held where it is.
        frozen: whether the weights stay where they are.
            fit: for which part of ``Sizes.fit`` it runs before its hypergradients count.
    """

    method: str
    settings: Mapping[str, Any]
    tunes_dropout: bool = False
    frozen: bool = True
    fit: float = 0.0

    @property
    def form(self) -> NetworkForm:
        form = methods[self.method].network
        assert form is not None
        return form


def responses(**settings: Any) -> Way:
    """Hyper-steps are far from each other, because a response hardly changes from one step to the next."""
    given = {"response": Response(**settings), "train_steps": 20, "scale_learning_rate": 0.01}
    return Way("self_tuning", given, tunes_dropout=True, fit=0.5)


WAYS = {
    "self_tuning": responses(),
    "implicit, neumann": Way("implicit", {}),
    "implicit, descent": Way("implicit", {"system": "descent"}, fit=0.1),
    "implicit, conjugate_gradient": Way("implicit", {"system": "conjugate_gradient"}),
    "implicit, conjugate_gradient, 3 steps": Way("implicit", {"system": "conjugate_gradient", "system_steps": 3}),
    "penalty": Way("penalty", {}, frozen=False, fit=0.1),
    "self_tuning, response.paired true": responses(paired=True),
    "self_tuning, response.learning_rate 0.005": responses(learning_rate=0.005),
    "self_tuning, response.linearize false": responses(linearize=False),
}


# Cells ---------------------------------------------------------------------------------------------------


def trainers_of(cell: Cell, tunes_dropout: bool, sizes: Sizes, group_size: int = 1) -> dict[int, Trainer]:
    """Trainers that have settled: all of them the same network."""
    network, seed = str(cell["network"]), int(cell["seed"])
    state = settled(network, seed, sizes.settling)
    trainers = fresh_trainers(network, seed, tunes_dropout, group_size)
    for trainer in trainers.values():
        trainer.load_state_dict(copy.deepcopy(state))
    return trainers


@lru_cache(maxsize=1)
def settled(network: str, seed: int, steps: int) -> dict[str, Any]:
    """The state of a trainer after so many steps with the hyperparameters held."""
    trainer = fresh_trainers(network, seed, True)[0]
    trainer.execute(FollowSchedule(segments=((steps, trainer.space.constrain(trainer.space.start)),)))
    return copy.deepcopy(trainer.state_dict())


def fresh_trainers(name: str, seed: int, tunes_dropout: bool, group_size: int = 1) -> dict[int, Trainer]:
    network = NETWORKS[name]
    regularizers: dict[str, dict[str, Any]] = {
        "weight_decay": {"parts": "layer", "strength": Tune(0.03)},
        "label_smoothing": {"epsilon": Tune(0.05)},
        "gaussian_input_noise": {"sigma": Tune(0.2)},
    }
    if network.drops:
        regularizers["dropout"] = {"rate": Tune(0.1) if tunes_dropout else 0.1}
    factory = TrainerFactory(objective_of(network, seed), regularizers, seed=seed, group_size=group_size)
    return {member: factory(member) for member in range(group_size)}


def metagradients(cell: Cell, sizes: Sizes) -> dict[str, Any]:
    """By horizon: a metagradient of each run."""
    trainer = trainers_of(cell, True, sizes)[0]
    u = trainer.space.start.double()
    found = {}
    for horizon in sizes.horizons:
        firsts = [trainer.training_step + run * sizes.horizons[-1] for run in range(sizes.runs)]
        found[str(horizon)] = [UnrolledRun(trainer.lower, at).metagradient(u, horizon).tolist() for at in firsts]
    return {"names": list(trainer.space.names), "metagradients": found}


def estimates(cell: Cell, sizes: Sizes) -> dict[str, Any]:
    """A method's hypergradients, one after the other."""
    way = WAYS[str(cell["method"])]
    form = way.form
    trainers = trainers_of(cell, way.tunes_dropout, sizes, form.group_size)
    if way.frozen:
        for trainer in trainers.values():
            freeze(trainer)
    settings = form.settings(**way.settings, learning_rate=0.0, warmup_steps=0)
    fitting = int(way.fit * sizes.fit) // settings.train_steps
    budget = Budget(steps=(fitting + sizes.estimates) * settings.train_steps)
    seen = Seen()
    run_in_process(form.make(budget, settings, form.group_size), trainers, seen)
    return {"names": list(trainers[0].space.names), "estimates": seen.hypergradients[-sizes.estimates :]}


class Seen(Listener):
    """Remembers the hypergradients of a run."""

    def __init__(self) -> None:
        self.hypergradients: list[list[float]] = []

    def hyper_step(self, step: HyperStep) -> None:
        self.hypergradients.append(step.hypergradient.tolist())


def freeze(trainer: Trainer) -> None:
    """From now on a training step leaves the weights where they are; everything else is as it was."""
    trainer.lower.train = lambda number, values: torch.zeros(())  # type: ignore[method-assign]


def measured(cell: Cell, sizes: Sizes) -> dict[str, Any]:
    return metagradients(cell, sizes) if cell["method"] == METAGRADIENT else estimates(cell, sizes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="as little as shows that it runs")
    add_arguments(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sizes = QUICK if arguments.quick else Sizes()
    cells = [
        {"method": method, "network": network, "seed": seed}
        for seed in range(arguments.seeds)
        for network in NETWORKS
        for method in (METAGRADIENT, *WAYS)
    ]
    records = CellRecords(arguments.records, settings=vars(sizes))
    failed = []
    if not arguments.print_only:
        failed = records.run(chosen(cells, arguments.only), lambda cell: measured(cell, sizes))
    print(records.state(cells) + "\n")
    print(report(records.read(cells), METAGRADIENT))
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()

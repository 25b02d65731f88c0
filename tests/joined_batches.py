"""Runs of methods with trainers of one process, or of two that share every batch."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).parent / "training"))

from method_runs import METHODS, perceptron, task
from torch import nn

from selftune import Interval, LanguageModelling, Optimization, Tune
from selftune.listener import Listener
from selftune.methods import Budget
from selftune.training import TrainerFactory, run_in_process
from selftune.training.method_record import methods
from selftune.training.process_group import DataParallelGroup

REGULARIZERS = {
    "dropout": {"rate": Tune(0.1)},
    "weight_decay": {"parts": "layer", "strength": Tune(1e-2)},
    "mixup": {"alpha": 0.3},
    "label_smoothing": {"epsilon": Tune(0.05, Interval(0, 0.5))},
}
SMOOTH = {name: REGULARIZERS[name] for name in ("weight_decay", "mixup", "label_smoothing")}
NEEDS_SMOOTH = ("implicit", "penalty", "inexact_line_search")


LANGUAGE, NORMS = "self_tuning, language", "held, norms"
TOKENS, CLASSES = 6, 11


class Words(nn.Module):
    """The next token by what the last one was."""

    def __init__(self):
        super().__init__()
        self.embedding, self.hidden, self.decoder = (
            nn.Embedding(CLASSES, 5),
            nn.Linear(5, 5),
            nn.Linear(5, CLASSES),
        )

    def forward(self, tokens):
        return self.decoder(self.hidden(self.embedding(tokens)).tanh())


def language():
    """Sequences that end early: padding counts for nothing."""
    splits = []
    for seed, examples in enumerate((60, 31, 30)):
        generator = torch.Generator().manual_seed(seed)
        tokens = torch.randint(1, CLASSES, (examples, TOKENS), generator=generator).sort(dim=1).values
        length = torch.randint(2, TOKENS + 1, (examples, 1), generator=generator)
        splits.append(tokens.where(torch.arange(TOKENS) < length, 0))
    optimization = Optimization(batch_size=17, learning_rate=0.1)
    return LanguageModelling(lambda: Words().double(), *splits, optimization, ignored=0)


class Watched(DataParallelGroup):
    """Knows how much of a batch came together at once."""

    largest = 0

    def gathered(self, own, rows):
        found = super().gathered(own, rows)
        self.largest = max(self.largest, found.numel())
        return found


class Steps(Listener):
    """The hyper-steps of a run."""

    def __init__(self):
        self.steps = []

    def hyper_step(self, step):
        self.steps.append(step)


def trained(label, group=None):
    """What a run has come to, of which this process is all or a part."""
    name = label.partition(",")[0]
    form = methods[name].network
    if label == LANGUAGE:
        objective, regularizers = language(), {name: REGULARIZERS[name] for name in ("dropout", "weight_decay")}
    else:
        middle = nn.Identity if label != NORMS else lambda: nn.BatchNorm1d(16)
        objective = task(lambda: perceptron(middle).double(), dtype=torch.float64, batch_size=17, momentum=0.5)
        regularizers = SMOOTH if name in NEEDS_SMOOTH else REGULARIZERS
    factory = TrainerFactory(objective, regularizers, group_size=form.group_size, steps=24)
    trainers = {member: factory(member) for member in range(form.group_size)}
    for trainer in trainers.values() if group is not None else ():
        trainer.share(group)
    steps = Steps()
    machine = form.make(Budget(steps=24), form.settings(**METHODS.get(label, METHODS[name])), form.group_size)
    last = run_in_process(machine, trainers, steps)
    found = {
        "values": torch.stack([step.hyperparameters for step in steps.steps]),
        "losses": torch.tensor([step.validation_loss for step in steps.steps]),
        "measures": torch.tensor(list(last[0].metrics.values())[:4]),
        "weights": torch.cat([tensor.reshape(-1) for tensor in last[0].network.values()]),
    }
    if steps.steps[0].hypergradient is not None:
        found["hypergradients"] = torch.stack([step.hypergradient for step in steps.steps])
    if group is not None:
        found["largest"] = torch.tensor(group.largest)
    return found


def process(rank, folder, labels):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.save({label: trained(label, Watched()) for label in labels}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()

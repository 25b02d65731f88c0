"""Small networks and data, drawn as a trainer draws them, for training loops written from papers."""

from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import nn

from selftune.lower_level.classification import Classification
from selftune.lower_level.language_modelling import LanguageModelling
from selftune.lower_level.objective import Stage
from selftune.lower_level.optimization import Optimization
from selftune.lower_level.self_supervised import SelfSupervised
from selftune.training.seeds import Streams, seed_of

CLASSES, EXAMPLES, BATCH, STEPS = 3, 24, 8, 7  # an epoch has three steps

LAYERS = ("first", "second", "last")

LOOPS = {}
"""Loops by the name of the entry that they are of."""


def loop(
    name, kind="vectors", beside=None, total=20, optimizer="sgd", momentum=0.9, changes=True, slack=1.0, **settings
):
    """Registers a loop of an entry: a function of a ``Bench`` that returns the trained network, or its tensors.

    Args:
        kind: which objective, a key of ``OBJECTIVES``.
        beside: settings of other entries, which the loop has too.
        total: training steps of the whole run, of which the first seven are made.
        slack: how many times more roundings its steps may differ by, where an iteration is in them.
        changes: whether it trains differently from the loop without the entry.
    """
    bench = Bench(kind, total, Optimization(BATCH, optimizer, 0.1 if optimizer == "sgd" else 0.01))

    def decorate(function):
        LOOPS.setdefault(name, []).append(
            Loop(function, bench, {name: settings, **(beside or {})}, changes, slack)
        )
        return function

    return decorate


@dataclass(frozen=True)
class Loop:
    """A loop of one entry: of what it trains, with which settings."""

    function: object
    bench: "Bench"
    members: dict
    changes: bool
    slack: float


@dataclass
class Batch:
    """The batch of one training step, and the random numbers that belong to the step."""

    number: int
    epoch: int
    index: torch.Tensor
    x: torch.Tensor
    y: torch.Tensor
    generator: torch.Generator
    others: dict

    @property
    def truth(self):
        return F.one_hot(self.y, CLASSES).double()

    @property
    def inputs(self):  # what draws of Beta variables ask for
        return self.x

    def rand(self, *shape):
        return torch.rand(shape, generator=self.generator)

    def randn(self, *shape):
        return torch.randn(shape, generator=self.generator)

    def permutation(self):
        return torch.randperm(len(self.x), generator=self.generator)


@dataclass(frozen=True)
class Bench:
    """What a loop trains, and with what."""

    kind: str
    total: int
    optimization: Optimization

    @cached_property
    def objective(self):
        return OBJECTIVES[self.kind](self.optimization)

    def networks(self, count):
        """The network, and those that entries build beside it, in this order."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(0, 0, "network", 0))
            return [self.objective.network() for _ in range(count)]

    def start(self):
        """The network and its optimizer."""
        (network,) = self.networks(1)
        return network, self.optimizer(network.parameters())

    def optimizer(self, parameters):
        rule = self.optimization
        momentum = 0.9 if rule.momentum is None else rule.momentum
        if rule.optimizer == "sgd":
            return torch.optim.SGD(parameters, lr=rule.learning_rate, momentum=momentum)
        return torch.optim.Adam(parameters, lr=rule.learning_rate, betas=(momentum, 0.999))

    def batches(self, steps=STEPS):
        """Batches of the training steps, epoch by epoch."""
        streams, train = Streams(0, 0, torch.device("cpu")), self.objective.splits()["train"]
        stages = self.objective.stages() or (Stage(torch.arange(EXAMPLES), steps),)
        ends = 0
        for number_of_stage, stage in enumerate(stages):
            last = number_of_stage == len(stages) - 1
            first, ends = ends, steps if last else ends + stage.steps
            for number in range(first, ends):
                epoch, position = divmod(number - first, len(stage.index) // BATCH)
                generator = streams("epoch", (number_of_stage << 32) + epoch)
                order = stage.index[torch.randperm(len(stage.index), generator=generator)]
                index = order[position * BATCH : (position + 1) * BATCH]
                tensors = {name: tensor[index] for name, tensor in train.items()}
                x, y = tensors.pop("inputs"), tensors.pop("labels")
                draws = streams("elementary", number)
                yield Batch(number, epoch, index, x, y, draws, {**tensors, "stage": number_of_stage})


def cross_entropy(logits, targets):
    """Mean cross-entropy with classes, of tokens as well, or probabilities, as papers write it."""
    if not targets.is_floating_point():
        logits, targets = logits.flatten(0, -2), targets.flatten()
        targets = F.one_hot(targets, logits.shape[1]).to(logits)
    return -(targets * logits.log_softmax(dim=1)).sum(dim=1).mean()


def descend(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def trained(bench, loss, before=None, after=None):
    """The usual loop: a loss of every batch, and what is done to weights around the optimizer's step."""
    network, optimizer = bench.start()
    for batch in bench.batches():
        optimizer.zero_grad()
        loss(network, batch).backward()
        for change, follows in ((before, True), (after, False)):
            if change is not None and follows:
                change(network, batch)
        optimizer.step()
        if after is not None:
            with torch.no_grad():
                after(network, batch)
    return network


def weights_of(network):
    """Weights of layers, in the order of the layers."""
    return [p for name, p in network.named_parameters() if name.endswith("weight") and p.ndim > 1]


# Objectives ------------------------------------------------------------------------------------------------


def mlp():
    names = OrderedDict(
        first=nn.Linear(4, 6), relu1=nn.ReLU(), second=nn.Linear(6, 6), relu2=nn.ReLU(), last=nn.Linear(6, CLASSES)
    )
    return nn.Sequential(names)


def normalised():
    return nn.Sequential(
        OrderedDict(first=nn.Linear(4, 6), norm=nn.BatchNorm1d(6), relu=nn.ReLU(), last=nn.Linear(6, CLASSES))
    )


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.branch = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, inputs):
        return inputs + self.branch(inputs)


def cnn():
    return nn.Sequential(
        OrderedDict(
            first=nn.Conv2d(1, 2, 3),
            norm=nn.BatchNorm2d(2),
            relu=nn.ReLU(),
            block1=Block(),
            block2=Block(),
            flatten=nn.Flatten(),
            last=nn.Linear(32, CLASSES),
        )
    )


def encoder():
    return nn.Sequential(OrderedDict(hidden=nn.Linear(4, 6), relu=nn.ReLU(), last=nn.Linear(6, 4)))


class LanguageModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.lstm = nn.Embedding(5, 4), nn.LSTM(4, 5, batch_first=True)
        self.decoder = nn.Linear(5, 5)

    def forward(self, tokens):
        return self.decoder(self.lstm(self.embedding(tokens))[0])


def text(optimization):
    """Sequences of five different tokens, which grow."""
    tokens = torch.randint(0, 5, (EXAMPLES, 7), generator=torch.Generator().manual_seed(0)).sort(dim=1).values
    return LanguageModelling(LanguageModel, *[tokens] * 3, optimization)


def data(*shape):
    """Three classes that overlap, the same in every split."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(EXAMPLES) % CLASSES
    return torch.randn(EXAMPLES, *shape, generator=generator) + labels.view(-1, *([1] * len(shape))), labels


def jitter(inputs, generator):
    return inputs + 0.3 * torch.randn(inputs.shape, generator=generator)


def _vectors(optimization, build=mlp, **more):
    return Classification(build, *[data(4)] * 3, optimization, **more)


def wide():
    names = OrderedDict(
        first=nn.Linear(4, 12),
        relu1=nn.ReLU(),
        second=nn.Linear(12, 10),
        relu2=nn.ReLU(),
        last=nn.Linear(10, CLASSES),
    )
    return nn.Sequential(names)


def image_of(logits):
    """Images of four by four pixels, made of three numbers each."""
    sides = torch.cat([logits, logits.sum(dim=1, keepdim=True)], dim=1)
    return (sides[:, :, None] * sides[:, None, :]).unsqueeze(1)


def POINTS():
    return torch.linspace(-1, 1, 15).view(5, 3).sin()


class Shaped(Classification):
    """Its outputs also stand for images, points, responses and tokens, so that what judges those has something."""

    provides = Classification.provides | {
        *("reconstruction", "samples", "data", "next_features", "rewards", "architecture", "token_logits"),
        *("policy_chosen", "policy_rejected", "reference_chosen", "reference_rejected"),
        *("reference_token_logits", "token_mask", "input_actions", "output_actions"),
    }

    def quantity(self, name, step):
        logits, kind = step.logits, name.rpartition("_")[2]
        if name in ("reference_chosen", "reference_rejected", "reference_token_logits"):
            logits = step.reference_logits
        if kind in ("chosen", "rejected"):
            return logits.log_softmax(dim=1)[:, 0 if kind == "chosen" else 1]
        if name.endswith("token_logits"):
            return torch.stack([logits, 2 * logits], dim=1)
        sizes = {"input_actions": (4, 6, 6), "output_actions": (6, 6, 3)}
        if name in sizes:
            return [torch.stack([torch.eye(size), torch.eye(size).flip(0)]) for size in sizes[name]]
        return {
            "reconstruction": lambda: image_of(logits),
            "samples": lambda: logits,
            "data": POINTS,
            "next_features": lambda: step.features.roll(1, dims=0),
            "rewards": lambda: step.inputs[:, 0],
            "architecture": lambda: step.parameters["second.weight"][:2],
            "token_mask": lambda: torch.stack([torch.ones(len(logits)), torch.arange(len(logits)) % 2], dim=1) > 0,
        }[name]()


def _images(optimization):
    second = data(1, 6, 6)[0].flip(-1)
    return Classification(cnn, *[data(1, 6, 6)] * 3, optimization, extra={"second_inputs": (second,) * 3})


class Photographs(Classification):
    """Colour images of pixels between 0 and 1."""

    provides = Classification.provides | {"pixel_range"}

    def quantity(self, name, step):
        return torch.tensor([0.0, 1.0], device=step.inputs.device)


def _photographs(optimization):
    inputs, labels = data(3, 6, 6)
    build = lambda: nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, CLASSES))  # noqa: E731
    return Photographs(build, *[(inputs.sigmoid(), labels)] * 3, optimization)


def _domains(optimization):
    domains = (torch.arange(EXAMPLES) % 8 < 3).long()
    return _vectors(optimization, extra={"domains": (domains,) * 3})


def _stages(optimization):
    index = torch.arange(EXAMPLES)
    stages = (Stage(index[index % CLASSES < 2], 3), Stage(index[index % CLASSES > 0], 100))
    return _vectors(optimization, stages=stages)


def _three_stages(optimization):
    index = torch.arange(EXAMPLES)
    parts = zip(((0, 1), (1, 2), (0, 2)), (2, 2, 100), strict=True)
    stages = tuple(Stage(index[torch.isin(index % CLASSES, torch.tensor(kept))], steps) for kept, steps in parts)
    return _vectors(optimization, stages=stages)


OBJECTIVES = {
    "vectors": _vectors,
    "normalised": lambda optimization: _vectors(optimization, normalised),
    "images": _images,
    "photographs": _photographs,
    "wide": lambda optimization: _vectors(optimization, wide),
    "shaped": lambda optimization: Shaped(mlp, *[data(4)] * 3, optimization),
    "domains": _domains,
    "stages": _stages,
    "three stages": _three_stages,
    "text": text,
    "views": lambda optimization: SelfSupervised(encoder, *[data(4)] * 3, jitter, optimization),
}

"""Small objectives that together provide everything that a regularizer of the catalogue can need."""

import functools
from collections import OrderedDict

import torch
import torch.nn.functional as F
from selftune.objectives.tasks.modular_arithmetic import ModularArithmetic
from torch import nn

from selftune.lower_level.classification import Classification
from selftune.lower_level.language_modelling import LanguageModelling
from selftune.lower_level.objective import NetworkObjective, Stage
from selftune.lower_level.optimization import Optimization
from selftune.lower_level.self_supervised import SelfSupervised
from selftune.regularization.regularizer import regularizers
from selftune.regularization.step_quantities import closure

OPTIMIZATION = Optimization(batch_size=16, learning_rate=0.05)
EXAMPLES = (96, 48, 48)
CLASSES = 3


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def vectors(dtype=torch.float32, width=6):
    generator = _generator()
    splits = []
    for examples in EXAMPLES:
        labels = torch.arange(examples) % CLASSES
        inputs = torch.randn(examples, width, generator=generator) + labels[:, None]
        splits.append((inputs.to(dtype), labels))
    return splits


def images(dtype=torch.float32, size=8):
    return [
        (inputs.to(dtype).view(-1, 1, size, size), labels) for inputs, labels in vectors(dtype, width=size * size)
    ]


def mlp():
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, CLASSES))


class Block(nn.Module):
    """A residual block, its branch skippable."""

    def __init__(self, channels):
        super().__init__()
        self.branch = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU())

    def forward(self, inputs):
        return inputs + self.branch(inputs)


def cnn():
    return nn.Sequential(
        OrderedDict(
            first=nn.Conv2d(1, 4, 3, padding=1),
            norm=nn.BatchNorm2d(4),
            relu=nn.ReLU(),
            block=Block(4),
            pool=nn.AdaptiveAvgPool2d(2),
            flat=nn.Flatten(),
            head=nn.Linear(16, CLASSES),
        )
    )


def _typed(build, dtype):
    return lambda: build().to(dtype)


def classification(dtype=torch.float32):
    return Classification(_typed(mlp, dtype), *vectors(dtype), OPTIMIZATION)


def image_classification(dtype=torch.float32):
    splits = images(dtype)
    flipped = tuple(inputs.flip(-1) for inputs, _ in splits)
    return Classification(_typed(cnn, dtype), *splits, OPTIMIZATION, extra={"second_inputs": flipped})


class Photographs(Classification):
    """Colour images, whose pixels lie between -1 and 1."""

    provides = Classification.provides | {"pixel_range"}

    def quantity(self, name, step):
        return torch.linspace(-1.0, 1.0, 2, device=step.inputs.device)


def photographs(dtype=torch.float32):
    build = lambda: nn.Sequential(  # noqa: E731
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, CLASSES)
    )
    splits = [(x.view(-1, 3, 6, 6).tanh(), labels) for x, labels in vectors(dtype, width=108)]
    return Photographs(_typed(build, dtype), *splits, OPTIMIZATION)


def domain_classification(dtype=torch.float32):
    splits = vectors(dtype)
    domains = tuple(torch.arange(len(labels)) // 3 % 2 for _, labels in splits)
    shifted = [(x + 0.5 * d[:, None].to(x), y) for (x, y), d in zip(splits, domains, strict=True)]
    extra = {"domains": domains}
    return Classification(_typed(mlp, dtype), *shifted, OPTIMIZATION, extra=extra, balanced_by="domains")


def continual_classification(dtype=torch.float32):
    splits = vectors(dtype)
    labels = splits[0][1]
    stages = (
        Stage(torch.nonzero(labels < 2).flatten(), steps=4),
        Stage(torch.nonzero(labels == 2).flatten(), steps=100),
    )
    return Classification(_typed(mlp, dtype), *splits, OPTIMIZATION, stages=stages)


def _jitter(inputs, generator):
    noise = torch.randn(inputs.shape, generator=generator, device=inputs.device, dtype=inputs.dtype)
    return inputs + 0.3 * noise


def self_supervised(dtype=torch.float32):
    build = lambda: nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 8))  # noqa: E731
    return SelfSupervised(_typed(build, dtype), *vectors(dtype), _jitter, OPTIMIZATION)


class Supernet(nn.Sequential):
    """A perceptron whose two layers are mixtures of three slopes, by architecture weights."""

    def __init__(self):
        super().__init__(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 16))
        self.alphas = nn.Parameter(0.1 * torch.randn(2, 3))

    def forward(self, inputs):
        of_choices = torch.arange(1, 4, device=self.alphas.device).to(self.alphas) / 2
        slopes = torch.softmax(self.alphas, dim=-1) @ of_choices
        first, act, last = self[0], self[1], self[2]
        return slopes[1] * last(act(slopes[0] * first(inputs)))


class Everything(NetworkObjective):
    """Regression from vectors to vectors that plays every part that the objectives above do not.

    The same outputs are read as an image, as token distributions, as samples, as a critic's features, or as
    log-probabilities of responses.
    """

    provides = frozenset(
        {
            "inputs",
            "labels",
            "targets",
            "index",
            "logits",
            "parameters",
            "learning_rate",
            "examples",
            "classes",
            "policy_chosen",
            "policy_rejected",
            "reference_chosen",
            "reference_rejected",
            "token_logits",
            "reference_token_logits",
            "token_mask",
            "reconstruction",
            "samples",
            "data",
            "next_features",
            "rewards",
            "architecture",
            "input_actions",
            "output_actions",
            "second_inputs",
        }
    )
    classes = 16
    optimization = OPTIMIZATION

    def __init__(self, dtype=torch.float32):
        self.dtype = dtype
        self._splits = dict(
            zip(
                ("train", "validation", "test"),
                ({"inputs": x, "labels": y} for x, y in vectors(dtype, width=16)),
                strict=True,
            )
        )

    def network(self):
        return Supernet().to(self.dtype)

    def splits(self):
        return self._splits

    def targets(self, labels):
        return F.one_hot(labels, 16).to(self.dtype)

    def loss(self, outputs, targets):
        return (outputs - targets).square().mean(dim=-1)

    def validation_loss(self, outputs, labels):
        return self.loss(outputs, self.targets(labels))

    def quantity(self, name, step):
        batch = len(step.inputs)
        if name in ("input_actions", "output_actions"):
            same = torch.eye(16, dtype=self.dtype, device=step.inputs.device)
            return torch.stack([same, same.roll(8, 0)]).expand(2, 2, 16, 16)
        if name == "architecture":
            return step.parameters["alphas"]
        if name in ("policy_chosen", "policy_rejected", "reference_chosen", "reference_rejected"):
            who, which = name.split("_")
            logits = step.logits if who == "policy" else step.reference_logits
            chosen = step.labels if which == "chosen" else (step.labels + 1) % self.classes
            return torch.log_softmax(logits, dim=-1).gather(1, chosen[:, None])[:, 0]
        if name in ("token_logits", "reference_token_logits"):
            return (step.logits if name == "token_logits" else step.reference_logits).view(batch, 4, 4)
        return {
            "token_mask": lambda: torch.arange(4, device=step.labels.device) < 1 + step.labels[:, None],
            "reconstruction": lambda: step.logits.view(batch, 1, 4, 4),
            "samples": lambda: step.logits,
            "data": lambda: step.inputs.detach(),
            "next_features": lambda: step.asks.pass_through(step, step.inputs.flip(0)).features,
            "rewards": lambda: 10 * step.labels.to(self.dtype),
            "second_inputs": lambda: step.inputs.flip(1),
        }[name]()


def arithmetic(dtype=torch.float32):
    class Typed(ModularArithmetic):
        def _network(self):
            return super()._network().to(dtype)

        def _draw(self):
            return [(inputs.to(dtype), labels) for inputs, labels in super()._draw()]

    return Typed(modulus=7, hidden=16, batch_size=16)


class Recurrent(nn.Module):
    """The next token by an LSTM."""

    def __init__(self):
        super().__init__()
        self.embedding, self.lstm = nn.Embedding(7, 6), nn.LSTM(6, 8, batch_first=True)
        self.decoder = nn.Linear(8, 7)

    def forward(self, tokens):
        return self.decoder(self.lstm(self.embedding(tokens))[0])


def language(dtype=torch.float32):
    generator = _generator()
    splits = [torch.randint(0, 7, (examples, 6), generator=generator).sort(dim=1).values for examples in EXAMPLES]
    return LanguageModelling(_typed(Recurrent, dtype), *splits, OPTIMIZATION)


OBJECTIVES = {
    make.__name__.lower(): functools.cache(make)  # trainers never change an objective, so they can share it
    for make in (
        classification,
        image_classification,
        photographs,
        domain_classification,
        continual_classification,
        self_supervised,
        Everything,
        arithmetic,
        language,
    )
}


@functools.cache
def partners_of(name):
    """Names of the regularizers that provide what no objective does, for the one of this name."""
    by_objectives = frozenset().union(*(closure(make().offers()) for make in OBJECTIVES.values()))
    wanted = regularizers[name].needs - by_objectives - {"progress", "epochs"}
    found = []
    for need in sorted(wanted):
        helpers = [other for other in regularizers.names() if need in regularizers[other].provides]
        assert helpers, f"{name} needs {need}, which nothing provides"
        found.append(helpers[0])
    return sorted(set(found))


@functools.cache
def objective_name(name):
    """The name of the first objective that provides what a regularizer and its partners need."""
    members = [name, *partners_of(name)]
    needs = frozenset().union(*(regularizers[member].needs for member in members))
    own = frozenset().union(*(regularizers[member].provides for member in members)) | {"progress", "epochs"}
    for key, make in OBJECTIVES.items():
        if needs <= closure(make().offers() | own):
            return key
    raise AssertionError(f"no objective provides all of {sorted(needs)} for {name}")


def objective_for(name, dtype=torch.float32):
    return OBJECTIVES[objective_name(name)](dtype)

"""Networks as people bring them, from vectors of eight numbers to three classes: none is a plain chain."""

import torch
import torch.nn.functional as F
from torch import nn

from selftune.lower_level.classification import Classification
from selftune.lower_level.optimization import Optimization


class HeadFirst(nn.Module):
    """The head is registered before the body."""

    def __init__(self):
        super().__init__()
        self.head, self.body = nn.Linear(16, 3), nn.Linear(8, 16)

    def forward(self, x):
        return self.head(F.relu(self.body(x)))


class Tied(nn.Module):
    """Two of four layers share their weight."""

    def __init__(self):
        super().__init__()
        self.inp, self.a, self.b, self.out = (
            nn.Linear(8, 16),
            nn.Linear(16, 16),
            nn.Linear(16, 16),
            nn.Linear(16, 3),
        )
        self.b.weight = self.a.weight

    def forward(self, x):
        for layer in (self.inp, self.a, self.b):
            x = F.relu(layer(x))
        return self.out(x)


class TiedHead(nn.Module):
    """A language model on signs: the head's weight is the embedding's."""

    def __init__(self):
        super().__init__()
        self.head, self.mix = nn.Linear(6, 3, bias=False), nn.Linear(6, 6)
        self.embedding = nn.Embedding(3, 6)
        self.embedding.weight = self.head.weight

    def forward(self, x):
        return self.head(torch.tanh(self.mix(self.embedding((x > 0).long() + (x > 1)).mean(1))))


class Frozen(nn.Sequential):
    """The first layer is not trained."""

    def __init__(self):
        super().__init__(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
        self[0].requires_grad_(False)


class Recurrent(nn.Module):
    """An LSTM and a transformer layer between an embedding and a head, positions as a plain parameter."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(2, 4)
        self.positions = nn.Parameter(0.1 * torch.randn(8, 4))
        self.lstm = nn.LSTM(4, 6, batch_first=True)
        self.encoder = nn.TransformerEncoderLayer(6, 2, 10, dropout=0.1, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        hidden, _ = self.lstm(self.embedding((x > 0).long()) + self.positions)
        return self.head(self.encoder(hidden).mean(1))


class Functional(nn.Module):
    """A layer whose forward is not what uses its weight."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(8, 16), nn.Linear(16, 3)

    def forward(self, x):
        return self.last(F.relu(F.linear(x, self.first.weight, self.first.bias)))


class Counting(nn.Module):
    """Its constructor reads values."""

    def __init__(self):
        super().__init__()
        self.rate = torch.linspace(0, 0.2, 2)[1].item()
        self.first, self.last = nn.Linear(8, 16), nn.Linear(16, 3)
        with torch.no_grad():
            self.last.bias.copy_(torch.tensor([0.2, 0.3, 0.5]).log())

    def forward(self, x):
        return self.last(F.dropout(F.relu(self.first(x)), self.rate, self.training))


def orthogonal():
    """A layer with a parametrization of the user's."""
    return nn.Sequential(nn.utils.parametrizations.orthogonal(nn.Linear(8, 16)), nn.ReLU(), nn.Linear(16, 3))


ORDINARY = {
    "head_first": HeadFirst,
    "tied": Tied,
    "tied_head": TiedHead,
    "frozen": Frozen,
    "recurrent": Recurrent,
    "functional": Functional,
    "counting": Counting,
    "orthogonal": orthogonal,
}
"""Networks by name: functions without arguments."""


def split(examples=32, seed=0):
    """Vectors and the class of the largest of three projections."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(examples, 8, generator=generator)
    directions = torch.randn(8, 3, generator=torch.Generator().manual_seed(99))
    return inputs, (inputs @ directions).argmax(dim=1)


def objective_of(build, examples=32, **options):
    """A classification by the network that ``build`` makes."""
    splits = (split(examples, seed) for seed in range(3))
    return Classification(build, *splits, Optimization(batch_size=16, learning_rate=0.02), **options)

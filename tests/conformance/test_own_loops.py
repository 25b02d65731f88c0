"""Every regularizer in a loop of one's own: it trains there, or says why it cannot; the docs say which."""

import re
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from selftune import OnlineTuner, SettingError, regularizers

PAGE = Path(__file__).parents[2] / "docs" / "regularizers-that-fit.md"


class Branch(nn.Module):
    def __init__(self):
        super().__init__()
        self.branch = nn.Linear(16, 16)

    def forward(self, inputs):
        return inputs + self.branch(inputs)


def dense():
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), Branch(), nn.ReLU(), nn.Linear(16, 3))


def convolutional():
    layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 16), nn.ReLU()
    return nn.Sequential(*layers, nn.Linear(16, 3))


class Recurrent(nn.Module):
    """Reads the signs of its inputs as two tokens."""

    def __init__(self):
        super().__init__()
        self.embedding, self.lstm = nn.Embedding(2, 6), nn.LSTM(6, 8, batch_first=True)
        self.last = nn.Linear(8, 3)

    def forward(self, inputs):
        return self.last(self.lstm(self.embedding((inputs > 0).long()))[0].mean(dim=1))


KINDS = {dense: (6,), convolutional: (1, 8, 8), Recurrent: (6,)}
TOLD = {
    "quantities": {
        "index": lambda outputs, batch: batch["index"],
        "domains": lambda outputs, batch: batch["index"] % 2,
    },
    "examples": 48,
}


def batch_of(shape, start):
    generator = torch.Generator().manual_seed(start)
    index = torch.arange(start, start + 16)
    return {"x": torch.randn(16, *shape, generator=generator), "y": index % 3, "index": index}


def loss(outputs, batch):
    return F.cross_entropy(outputs, batch["y"], reduction="none")


def labels(outputs, batch):
    return batch["y"]


def trained(name, build, shape, told):
    """Trains two steps with a regularizer."""
    torch.manual_seed(0)
    model = build()
    more = {**TOLD, "build": build} if told else {"quantities": {}}
    more["quantities"] = {**more["quantities"], "labels": labels}
    tuner = OnlineTuner(
        model,
        torch.optim.SGD(model.parameters(), lr=0.01),
        {name: {}},
        loss=loss,
        validation=[batch_of(shape, 100)],
        forward=lambda model, batch: model(batch["x"]),
        steps=100,
        **more,
    )
    for start in (0, 16):
        tuner.loss(batch_of(shape, start)).backward()
        tuner.step()


@cache
def fate(name):
    """How a regularizer fares: alone, told, or the sentence that refuses it."""
    sentences = []
    for told in (False, True):
        for build, shape in KINDS.items():
            try:
                trained(name, build, shape, told)
            except SettingError as refused:
                sentences.append(str(refused))
            else:
                return "told" if told else "alone"
    return sentences[-1]


@pytest.mark.parametrize("name", regularizers.names())
def test_a_regularizer_trains_in_a_loop_or_says_why_not(name):
    found = fate(name)
    assert found in ("alone", "told") or re.search(r" needs |use selftune\.tune|in memory", found), found
    page = PAGE.read_text()
    rows = re.findall(r"^\| \*(\w+)\*.*?\|(.*)\|$", page, re.M)
    listed = {kind: set(re.findall(r"`(\w+)`", names)) for kind, names in rows}
    kind = found if found in ("alone", "told") else "tune" if "selftune.tune" in found else "needs"
    assert name in listed[kind], f"{name} belongs to {kind} in docs/regularizers-that-fit.md: {found}"
    assert sum(name in names for names in listed.values()) == 1

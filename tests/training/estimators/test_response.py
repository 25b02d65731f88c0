"""Fitting a response of which a part is in weight space: the whole batch has one draw of the hyperparameters."""

from __future__ import annotations

import pytest
import torch
from orders import with_response
from ordinary_networks import objective_of
from torch import nn

from selftune.hyperparameters import Tune
from selftune.regularization.regularizer import regularizers
from selftune.training import Trainer


class Tokens(nn.Module):
    """Most weights are bare parameters."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Parameter(torch.randn(8, 12) / 3), nn.Parameter(torch.randn(12, 12) / 3)
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        return self.head(torch.tanh(torch.tanh(x @ self.first) @ self.second))


def cycle(settings, tune_scale=False):
    members = [
        regularizers["label_smoothing"](epsilon=Tune(0.1)),
        regularizers["weight_decay"](strength=Tune(0.01)),
    ]
    trainer = Trainer(objective_of(Tokens), members)
    return trainer, trainer.execute(with_response(trainer, settings, 10, scale=0.5, tune_scale=tune_scale))


@pytest.mark.parametrize("tune_scale", [False, True])
@pytest.mark.parametrize("settings", [{}, {"centered": False, "joint": True, "linearize": False}])
def test_all_weights_respond_to_one_draw_of_the_batch(settings, tune_scale):
    trainer, report = cycle(settings, tune_scale)
    response = trainer.estimator.response
    assert response.shared_draw
    assert trainer.coverage.responding == trainer.coverage.total
    rows = dict(zip(response._rows, response.gates.split(list(response._rows.values())), strict=True))
    assert all((row != 0).any() for row in rows.values())
    assert (report.tensors["hypergradient"] != 0).all()


def test_they_stay_plain_on_request():
    trainer, report = cycle({"without_rule": "plain"})
    assert trainer.estimator.response.responding == {"head.weight", "head.bias"}
    assert (report.tensors["hypergradient"] != 0).all()

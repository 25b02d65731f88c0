"""Fitting a response of which a part is in weight space: the whole batch has one draw of the hyperparameters."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from method_runs import perceptron, task
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


# How much work ----------------------------------------------------------------------------------------


def trained(settings, steps=6, tune_scale=False):
    members = [regularizers["label_smoothing"](epsilon=Tune(0.1))]
    trainer = Trainer(task(perceptron), members)
    order = with_response(trainer, settings, 0, scale=0.5, tune_scale=tune_scale)
    trainer.execute(order)
    fits = []
    fit = trainer.estimator.fit

    def watched(number, drawn):
        fits.append((number, len(drawn.index)))
        return fit(number, drawn)

    trainer.estimator.fit = watched
    report = trainer.execute(replace(order, steps=steps, number=1))
    return trainer, report, fits


def test_fits_are_as_rare_and_as_small_as_they_are_set():
    assert trained({"every": 3})[2] == [(2, 16), (5, 16)]
    assert trained({"batch_parts": 4})[2] == [(number, 4) for number in range(6)]


def test_parts_of_batches_take_turns():
    trainer, _, _ = trained({})
    parts = [trainer.estimator._part_in_turn(10, 4, turn) for turn in range(5)]
    assert [(part.start, part.stop) for part in parts] == [(0, 2), (2, 5), (5, 7), (7, 10), (0, 2)]
    assert trainer.estimator._part_in_turn(3, 8, 4) == slice(1, 2)


def test_a_pair_of_perturbations_has_one_example_and_its_random_numbers():
    """Without tuned noise the slope of the loss cancels: at a scale near zero nothing is left of the gradient."""
    assert gradient_of_gates({"paired": True}, 8) < 0.05 * gradient_of_gates({}, 16)


def gradient_of_gates(settings, examples):
    """Its mean size over some fits at a narrow perturbation."""
    trainer, _, fits = trained({**settings, "learning_rate": 1e-9}, steps=2)
    assert fits == [(0, examples), (1, examples)]
    estimator, sizes = trainer.estimator, []
    estimator._scale = torch.full_like(estimator._scale, 1e-3)
    estimator.optimizer.step = lambda: sizes.append(estimator.response.gates.grad.norm())
    for number in range(2, 10):
        estimator.after_step(number, trainer.lower.batches.at(number))
    return torch.stack(sizes).mean()


@pytest.mark.parametrize("parts", [1, 3, 64])
def test_pairs_take_at_least_one_example(parts):
    _, report, fits = trained({"paired": True, "batch_parts": parts})
    assert {size for _, size in fits} <= {8 // min(parts, 8), 8 // parts + 1}
    assert report.tensors["hypergradient"].isfinite().all()


@pytest.mark.parametrize("tune_scale", [False, True])
def test_hypergradients_of_the_parts_of_a_validation_batch_average_to_that_of_the_whole(tune_scale):
    whole = trained({"validation_parts": 1}, tune_scale=tune_scale)[0]
    parts = trained({"validation_parts": 3}, tune_scale=tune_scale)[0]
    found, reported = [], []
    for number in range(3):
        parts.estimator.hyper_step = number
        gradient, measures = parts.estimator.hypergradient(6)
        found.append(gradient.hypergradient)
        reported.append(float(measures["validation_loss"]))
    whole.estimator._tune_scale = parts.estimator._tune_scale = False
    expected, measures = whole.estimator.hypergradient(6)
    assert reported[-1] == pytest.approx(float(measures["validation_loss"]), rel=1e-5)
    if not tune_scale:  # else every one has noise of its own
        torch.testing.assert_close(torch.stack(found).mean(0), expected.hypergradient)

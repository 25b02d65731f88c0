import math
from types import SimpleNamespace

import pytest
import torch
from selftune.objectives.common.start_rules import (
    adamw_decay,
    balanced_rate,
    balanced_sigma,
    decay_of,
    dropout_rate,
    penalty_decay,
    timescale,
)

from selftune.hyperparameters import Tune
from selftune.lower_level.objective import tasks
from selftune.lower_level.start_values import Setup
from selftune.regularization.regularizer import built_regularizers


def digits(steps=6000, regularizers=(), **settings):
    task = tasks["digits"](hidden=(128, 128), **{"optimizer": "adam", "learning_rate": 0.001, **settings})
    return Setup(task, built_regularizers(dict(regularizers)), steps)


def known(**facts):
    usual = {
        "optimizer": "adamw",
        "learning_rate": 1e-3,
        "examples": 10**9,
        "examples_seen": 10**8,
        "elements": 1,
        "parameters": 10**6,
        "updates": 10**5,
    }
    return SimpleNamespace(**{**usual, **facts})


def test_the_timescale_is_the_power_law_in_tokens_per_parameter():
    slope = math.log(timescale(1280) / timescale(20)) / math.log(1280 / 20)
    assert slope == pytest.approx(-0.527)
    assert timescale(1.0) == pytest.approx(1.084)


def test_the_decay_averages_over_the_share_of_the_updates_that_the_timescale_says():
    learning_rate, updates, share = 1e-3, 4000, 0.25
    decay = decay_of(share, learning_rate, updates)
    weight, after = 1.0, math.floor(share * updates)
    for _ in range(after):
        weight *= 1 - learning_rate * decay
    assert weight == pytest.approx(math.exp(-1), rel=1e-2)  # an exponential average forgets by e in a timescale


def test_weight_decay_of_adamw_scales_as_the_papers_say():
    decay = adamw_decay(known())
    assert decay == pytest.approx(1 / (1e-3 * 1e5 * 1.084 * 100**-0.527))
    assert adamw_decay(known(updates=5 * 10**4)) == pytest.approx(2 * decay)  # batches twice as large
    assert adamw_decay(known(learning_rate=2e-3)) == pytest.approx(decay / 2)
    assert adamw_decay(known(elements=0.5)) < decay  # fewer tokens, longer averages


def test_the_average_is_no_shorter_than_an_epoch_and_no_longer_than_the_run():
    whole = adamw_decay(known(parameters=10**12))
    assert whole == pytest.approx(1 / (1e-3 * 1e5))
    epoch = adamw_decay(known(parameters=1, examples=10**8 // 2))
    assert epoch == pytest.approx(2 / (1e-3 * 1e5))


@pytest.mark.parametrize("rule", [adamw_decay, penalty_decay])
def test_other_optimizers_have_no_rule_for_weight_decay(rule):
    with pytest.raises(
        ValueError, match="the rule for weight decay is that of Adam and AdamW, and the optimizer is"
    ):
        rule(known(optimizer="sgd"))


def test_the_penalty_decays_weights_as_adamw_does_while_gradients_are_as_at_first():
    setup = digits()
    gradient, decoupled, penalty = setup.gradient, adamw_decay(setup), penalty_decay(setup)
    weight = torch.tensor([0.5], requires_grad=True)
    optimizer = torch.optim.Adam([weight], lr=1e-3)
    signs = (-1.0) ** torch.arange(400)
    for sign in signs:  # gradients of the loss that cancel; what remains is the penalty's pull
        weight.grad = sign * torch.tensor([gradient]) + penalty * weight.detach()
        optimizer.step()
    shrunk = 0.5 * (1 - 1e-3 * decoupled) ** len(signs)
    assert weight.item() == pytest.approx(shrunk, rel=0.2)


def test_dropout_of_five_percent_and_input_noise_are_in_balance_on_digits():
    setup = digits(regularizers={"dropout": {"rate": Tune(0.05)}})
    assert balanced_sigma(setup) == pytest.approx(math.sqrt(0.05 / 0.95), rel=1e-3)  # inputs have variance one
    assert balanced_rate(setup) == pytest.approx(0.05)
    inputs, generator = setup.inputs, torch.Generator().manual_seed(0)
    kept = (torch.rand(inputs.shape, generator=generator) >= 0.05).to(inputs)
    perturbation = (inputs * kept / 0.95 - inputs).square().mean().sqrt().item()
    assert balanced_sigma(setup) == pytest.approx(perturbation, rel=0.05)


def test_noise_falls_with_examples_per_parameter_and_starts_in_balance():
    assert dropout_rate(digits()) == pytest.approx(0.2 / (1 + 400 / 26122))
    assert dropout_rate(known(parameters=10**6, examples=10**9)) < 1e-3
    setup = digits()
    assert balanced_rate(setup) == pytest.approx(dropout_rate(setup))
    assert balanced_sigma(setup) ** 2 == pytest.approx(dropout_rate(setup) / (1 - dropout_rate(setup)), rel=1e-3)

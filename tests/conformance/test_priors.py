"""Priors of all entries, which are what searches draw from: sensible ranges, at whose ends training goes on."""

import math

import pytest
import torch
from full_matrix import first_of
from trainers import NAMES, STARTS, fixed, replay, trainer_of, weights

from selftune.hyperparameters import Choice, Choices, Integers, LogUniform, Positive
from selftune.regularization.regularizer import regularizers

SWEPT = [(name, h) for name in NAMES for h in regularizers[name].hyperparameters if h.swept]
DRAWN = ["dropout", "weight_decay", "label_smoothing", "magnitude_pruning"]
"""Of which draws always train; of the others in the full matrix."""


@pytest.mark.parametrize(("name", "hyperparameter"), SWEPT, ids=lambda one: getattr(one, "name", one))
def test_a_prior_is_finite_lies_in_the_domain_and_holds_the_default(name, hyperparameter):
    domain, prior = hyperparameter.domain, hyperparameter.domain.prior()
    domain.check_allows(prior)
    if isinstance(prior, Choices):
        assert isinstance(domain, Choice)
        assert hyperparameter.value in prior.options
        return
    assert math.isfinite(prior.low)
    assert math.isfinite(prior.high)
    assert prior.low <= hyperparameter.value <= prior.high
    assert isinstance(prior, LogUniform) == isinstance(domain, Positive)
    if isinstance(prior, Integers):
        assert prior.high - prior.low <= 10_000


def test_what_is_not_swept_cannot_be_tuned_online_but_for_tables_of_values():
    unswept = [
        f"{name}.{h.name}"
        for name in NAMES
        for h in regularizers[name].hyperparameters
        if not h.swept and h.online
    ]
    assert unswept == ["field_of_experts.filters"]


def drawn(name, quantiles):
    declared = {h.name: h for h in regularizers[name].hyperparameters if h.swept}
    draws = (h.domain.prior().quantile(q) for h, q in zip(declared.values(), quantiles, strict=False))
    return dict(zip(declared, draws, strict=True))


@pytest.mark.parametrize(
    "name", first_of([*DRAWN, *(n for n in NAMES if n not in DRAWN and drawn(n, [0.5] * 9))], len(DRAWN))
)
@pytest.mark.parametrize("where", ["low", "high", "between"])
def test_training_goes_on_at_the_ends_of_the_priors_and_between(name, where):
    generator = torch.Generator().manual_seed(1)
    quantiles = {"low": [0.0] * 9, "high": [1.0] * 9, "between": torch.rand(9, generator=generator).tolist()}[
        where
    ]
    kept = {key: value for key, value in STARTS.get(name, {}).items() if key in ("experts", "size")}  # of the data
    trainer = trainer_of(name, fixed(name, **(drawn(name, quantiles) | kept)))
    report = replay(trainer, steps=3)
    assert report.kind == "replay", report.message
    assert torch.isfinite(weights(trainer)).all()

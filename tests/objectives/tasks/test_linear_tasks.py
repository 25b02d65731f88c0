"""Ridge and logistic regression: data, groups of strengths, and what they are worth."""

from __future__ import annotations

import pytest
import torch
from selftune.objectives.tasks.logistic_regression import LogisticRegression
from selftune.objectives.tasks.ridge import Ridge

from selftune.hypergradients.lower_solvers import Newton
from selftune.hypergradients.oracle import Oracle


def solved(objective, u=None):
    oracle = Oracle(objective)
    u = oracle.start_u() if u is None else u
    x = Newton().solve(oracle, u, oracle.start_x(), 1e-8).x
    return oracle, x, u


@pytest.mark.parametrize(
    ("task", "groups", "count"),
    [
        (Ridge, "one", 1),
        (Ridge, "per_feature", 65),
        (LogisticRegression, "one", 1),
        (LogisticRegression, "per_class", 10),
        (LogisticRegression, "per_feature", 65),
        (LogisticRegression, "per_weight", 650),
    ],
)
def test_groups_share_strengths_and_equal_strengths_are_one(task, groups, count):
    objective, one = task(groups=groups), task(groups="one")
    oracle, single = Oracle(objective), Oracle(one)
    assert oracle.d == count
    x = torch.linspace(-1, 1, oracle.n, dtype=torch.float64)
    torch.testing.assert_close(oracle.grad_x(x, oracle.start_u()), single.grad_x(x, single.start_u()))


def test_names_of_parts():
    (strength,) = LogisticRegression(groups="per_feature").hyperparameters
    assert strength.names[0] == "logistic.strength[0:0]"
    assert strength.names[-1] == "logistic.strength[bias]"
    (strength,) = Ridge().hyperparameters
    assert "ridge.strength[bmi]" in strength.names
    assert "ridge.strength[age*sex]" in strength.names


def test_training_data_are_standardised():
    objective = Ridge()
    inputs, targets = objective._train
    torch.testing.assert_close(inputs.mean(dim=0), torch.zeros(65, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(inputs.std(dim=0), torch.ones(65, dtype=torch.float64))
    assert abs(targets.mean()) < 1e-12


def test_splits_are_disjoint_and_complete():
    objective = LogisticRegression()
    rows = torch.cat([split[0] for split in (objective._train, objective._validation, objective._test)])
    assert len(rows) == 1797
    assert len(torch.unique(rows, dim=0)) == 1797


def test_regularization_of_logistic_regression_is_worth_tuning():
    losses = {}
    for strength in (1e-7, 5e-4, 1.0):
        u = torch.tensor([strength], dtype=torch.float64).log()
        oracle, x, u = solved(LogisticRegression(), u)
        losses[strength] = oracle.objective.metrics(oracle.unravel(x), oracle.values(u))["test_loss"]
        assert oracle.upper(x, u) == pytest.approx(
            oracle.objective.metrics(oracle.unravel(x), oracle.values(u))["validation_loss"]
        )
    assert losses[5e-4] < min(losses[1e-7], losses[1.0])


def test_a_split_with_one_value_of_a_feature_stays_finite():
    objective = Ridge(train_examples=2)
    _, x, _ = solved(objective)
    assert x.isfinite().all()

"""Sparse regression: its solutions are scikit-learn's, its constants hold, its hypergradients are right."""

import pytest
import torch
from selftune.objectives.tasks.sparse_regression import SparseLinearRegression, SparseRegression
from sklearn.linear_model import ElasticNet

from selftune.errors import SettingError
from selftune.hypergradients.implicit import implicit_hypergradient
from selftune.hypergradients.linear_solvers import ConjugateGradient
from selftune.hypergradients.lower_solvers import ProximalGradient
from selftune.hypergradients.oracle import Oracle

KINDS = [
    (penalty, strengths) for penalty in ("lasso", "elastic_net", "group_lasso") for strengths in ("one", "each")
]


def solved(objective, u=None):
    oracle = Oracle(objective)
    u = oracle.start_u() if u is None else u
    return oracle, ProximalGradient().solve(oracle, u, oracle.start_x(), 1e-11).x, u


@pytest.mark.parametrize("strength", [0.03, 0.2])
def test_solutions_are_those_of_scikit_learn(strength):
    objective = SparseRegression(strength=strength, ridge=0.05)
    _, x, _ = solved(objective)
    inputs, targets = (part.numpy() for part in objective._train)
    both = strength + 0.05
    model = ElasticNet(both, l1_ratio=strength / both, fit_intercept=False, tol=1e-12, max_iter=100_000)
    wanted = torch.tensor(model.fit(inputs, targets).coef_)
    assert float((x - wanted).norm()) < 1e-5
    assert torch.equal(x != 0, wanted != 0)


@pytest.mark.parametrize(("penalty", "strengths"), KINDS)
def test_hypergradients_are_differences_of_the_upper_level(penalty, strengths):
    oracle, x, u = solved(SparseRegression(penalty, strengths, features="linear"))
    z = implicit_hypergradient(oracle, x, u, ConjugateGradient(), 1e-10).value
    width = 1e-4
    for k in range(min(oracle.d, 4)):
        step = width * torch.eye(oracle.d, dtype=torch.float64)[k]
        ahead, behind = (oracle.upper(solved(oracle.objective, u + s)[1], u) for s in (step, -step))
        assert float(z[k]) == pytest.approx((ahead - behind) / (2 * width), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("penalty", "strengths", "tuned"), [(*kind, n) for kind, n in zip(KINDS, (1, 65, 2, 66, 1, 10), strict=True)]
)
def test_what_is_tuned(penalty, strengths, tuned):
    assert len(Oracle(SparseRegression(penalty, strengths)).space) == tuned


def test_groups_leave_together():
    objective = SparseRegression("group_lasso", strength=0.1)
    _, x, _ = solved(objective)
    for group in range(10):
        members = x[objective._groups == group]
        assert bool((members == 0).all()) or bool((members != 0).all())
    assert 0 < int((x == 0).sum()) < 65
    assert objective.hyperparameters[0].names == ("sparse.strength",)
    assert "sparse.strength[bmi]" in SparseRegression("group_lasso", "each").hyperparameters[0].names


def test_a_group_lasso_needs_groups():
    data = torch.randn(8, 3), torch.randn(8)
    with pytest.raises(SettingError, match="are needed by group_lasso"):
        SparseLinearRegression(data, data, data, "group_lasso")


def test_tuning_is_worth_it():
    losses = {}
    for strength in (0.001, 0.04, 0.5):
        oracle, x, u = solved(SparseRegression(strength=strength))
        losses[strength] = oracle.objective.metrics(oracle.unravel(x), oracle.values(u))["test_loss"]
    assert losses[0.04] < min(losses[0.001], losses[0.5])

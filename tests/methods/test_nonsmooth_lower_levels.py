"""Both methods for smooth objectives above lower levels that are not smooth: what they certify, and what not."""

import pytest
import torch
from selftune.objectives.tasks.sparse_regression import SparseLinearRegression

from selftune.hypergradients.implicit import implicit_hypergradient
from selftune.hypergradients.linear_solvers import ConjugateGradient
from selftune.hypergradients.lower_solvers import ProximalGradient
from selftune.hypergradients.oracle import Oracle
from selftune.hyperparameters import Space
from selftune.listener import Listener
from selftune.lower_level.proximal_terms import L1Norm
from selftune.methods import Implicit, ImplicitSettings, InexactLineSearch, InexactLineSearchSettings
from selftune.training.runner import run_in_process
from selftune.training.smooth_trainer import SmoothTrainer

GROUPS = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2])


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def splits():
    inputs = normal(0, 90, 8)
    targets = inputs @ (normal(1, 8) * (normal(2, 8) > 0)) + normal(3, 90)
    return list(zip(inputs.split(30), targets.split(30), strict=True))


def sparse(penalty="lasso", strengths="each", strength=0.1, kind=SparseLinearRegression):
    return kind(*splits(), penalty, strengths, strength, ridge=0.1, groups=GROUPS)


class OwnMap(SparseLinearRegression):
    """The Lasso as a proximal map alone: the active set is not given."""

    def terms(self, values, slopes):
        return {}

    def proximal(self, parameters, values, step):
        return {"weight": L1Norm(values["sparse.strength"]).prox(parameters["weight"], step)}


class Orthogonal(SparseLinearRegression):
    """X'X / n = I: the correlations are the strengths at which weights enter."""

    def __init__(self, *data, **settings):
        (inputs, targets), *others = data
        inputs = torch.linalg.qr(inputs)[0] * len(inputs) ** 0.5
        super().__init__((inputs, targets), *others, **settings)
        self._lowest = self._highest = 1.0


class Record(Listener):
    def __init__(self):
        self.steps, self.reports = [], []

    def reported(self, member, report):
        self.reports.append(report)

    def hyper_step(self, step):
        self.steps.append(step)

    def hypergradients(self):
        return [report for report in self.reports if report.kind == "hypergradient"]


def run(problem, method):
    record = Record()
    last = run_in_process(method, {0: SmoothTrainer(problem, solver="proximal_gradient")}, record)
    return record, last[0]


def search(problem, steps=25, **settings):
    method = InexactLineSearch(steps=steps, settings=InexactLineSearchSettings(**settings))
    record, last = run(problem, method)
    return method, record, last


def exact(problem, u):
    """The true upper level and hypergradient."""
    oracle = Oracle(problem)
    x = ProximalGradient().solve(oracle, u, oracle.start_x(), 1e-13).x
    return oracle.upper(x, u), implicit_hypergradient(oracle, x, u, ConjugateGradient(), 1e-13).value


@pytest.mark.parametrize("penalty", ["lasso", "elastic_net", "group_lasso"])
def test_the_line_search_ends_certified_and_is_right(penalty):
    problem = sparse(penalty)
    method, record, last = search(problem, steps=80, tolerance=1e-5, deferred_test=False)
    assert method.stopped == last.message == "stationary"
    level, z = exact(problem, method._u)
    assert float(z.norm()) <= 1e-5
    assert last.metrics["active_set_certified"] == 1
    points = [Space(problem.hyperparameters).unconstrain(step.hyperparameters) for step in record.steps]
    levels = [exact(problem, u)[0] for u in points] + [level]
    assert len(levels) > 4
    for step, u, before, after in zip(record.steps, points, levels, levels[1:], strict=False):
        assert after <= before - step.certificate["decrease"] + 1e-12
        if step.certificate["certified"]:
            error = float((step.hypergradient - exact(problem, u)[1]).norm())
            assert error <= step.certificate["hypergradient_bound"] + 1e-11


def test_every_row_says_whether_the_active_set_is_certified():
    _, record, _ = search(sparse(), error=1.0, steps=6)
    rows = [(s.certificate["certified"], s.certificate["active_set_certified"]) for s in record.steps]
    assert {(0.0, 0.0), (1.0, 1.0)} >= set(rows)
    hypergradients = record.hypergradients()
    assert 0.0 in {report.metrics["active_set_certified"] for report in hypergradients}
    for report in hypergradients:
        assert report.metrics["certified"] == report.metrics["active_set_certified"]
        assert (report.metrics["bound"] < float("inf")) == bool(report.metrics["certified"])


def test_a_tie_is_never_called_stationary():
    problem = sparse(kind=Orthogonal, strengths="one")
    tied = float(problem._correlation.abs().sort().values[3])
    problem = sparse(kind=Orthogonal, strengths="one", strength=tied)
    method, record, _ = search(problem, tolerance=1e3, steps=1)  # whatever its hypergradient is, it is small
    assert method.stopped == "kink"
    assert not record.steps
    assert all(report.metrics["certified"] == 0 for report in record.hypergradients())


def test_where_no_parameter_is_free_the_end_says_so():
    largest = float(sparse()._correlation.abs().max())
    method, record, last = search(sparse(strengths="one", strength=1.05 * largest))
    assert method.stopped == "pinned"
    assert last.metrics["active_set_certified"] == 1
    assert record.hypergradients()[-1].metrics["certified"] == 1
    method, record, _ = search(sparse(strengths="one", strength=0.95 * largest))
    assert len(record.steps) > 2


def test_a_map_of_ones_own_descends_and_is_never_certified():
    _, own, last = search(sparse(kind=OwnMap), steps=80, tolerance=1e-5)
    known, _, _ = search(sparse(), steps=80, tolerance=1e-5)
    assert last.message == "estimated"
    assert last.metrics["validation_loss"] == pytest.approx(exact(sparse(), known._u)[0], rel=1e-3)
    assert {step.certificate["certified"] for step in own.steps} == {0.0}
    assert {step.certificate["active_set_certified"] for step in own.steps} == {0.0}


@pytest.mark.parametrize("kind", [SparseLinearRegression, OwnMap])
def test_hoag_takes_the_true_hypergradient(kind):
    problem = sparse(kind=kind)
    settings = ImplicitSettings(sequence="exact", error_bounds=True)
    record, last = run(problem, Implicit(steps=15, settings=settings))
    for step in record.steps:
        u = Space(problem.hyperparameters).unconstrain(step.hyperparameters)
        assert torch.allclose(step.hypergradient, exact(problem, u)[1], atol=1e-8)
        assert step.certificate["certified"] == 0
        assert step.certificate["active_set_certified"] == float(kind is SparseLinearRegression)
    assert record.steps[-1].validation_loss < record.steps[0].validation_loss
    assert last.metrics["active_set_certified"] == float(kind is SparseLinearRegression)


def test_the_training_loss_counts_the_term():
    problem = sparse(strengths="one")
    weight, values = (
        {"weight": normal(5, 8)},
        {"sparse.strength": torch.tensor(0.5), "sparse.ridge": torch.tensor(0.1)},
    )
    smooth = float(problem.lower(weight, values))
    assert problem.training_loss(weight, values) == pytest.approx(
        smooth + 0.5 * float(weight["weight"].abs().sum())
    )

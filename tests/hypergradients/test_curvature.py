"""Given constants are compared with what solves meet; a contradiction stops them with the numbers."""

import dataclasses
import pickle

import pytest
import torch
from rounding import rounding
from smooth_problems import PROBLEMS, regression

from selftune.hypergradients.curvature import UpperChords, chord, compare
from selftune.hypergradients.linear_solvers import ConjugateGradient
from selftune.hypergradients.lower_solvers import lower_solvers
from selftune.hypergradients.oracle import Oracle
from selftune.lower_level.smooth_objective import ConstantDisproved, Constants, NotStronglyConvex
from selftune.methods.values import Values
from selftune.methods.work_orders import Differentiate, SolveCandidate
from selftune.training import SmoothTrainer

SOLVERS = ("newton", "accelerated_gradient", "lbfgs", "proximal_gradient")


class Claims:
    """An objective whose constants are multiplied by what somebody claims."""

    def __init__(self, problem, **factors):
        self._problem, self._factors = problem, factors

    def __getattr__(self, name):
        return getattr(self._problem, name)

    def constants(self, values, slopes):
        known = self._problem.constants(values, slopes)
        return dataclasses.replace(known, **{k: getattr(known, k) * f for k, f in self._factors.items()})


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(("name", "factor"), [("strong_convexity", 3.0), ("smoothness", 0.4)])
def test_every_solver_finds_a_wrong_constant(solver, name, factor):
    oracle = Oracle(Claims(regression("one"), **{name: factor}))
    u = oracle.start_u()
    with pytest.raises(ConstantDisproved, match=rf"{name} is given as .* but a curvature of") as caught:
        lower_solvers[solver]().solve(oracle, u, oracle.start_x(), 1e-9)
    given, met = caught.value.given, caught.value.met
    assert met < given if name == "strong_convexity" else met > given
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.met) == (str(caught.value), met)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", ["quadratic", "ridge_per_feature", "softmax_per_class", "total_variation"])
def test_right_constants_are_never_contradicted(name, solver):
    oracle = Oracle(PROBLEMS[name]())
    u = oracle.start_u()
    for shift in (-8.0, 0.0, 8.0) if name != "total_variation" else (0.0,):
        solution = lower_solvers[solver]().solve(oracle, u + shift, oracle.start_x(), 1e-12, max_iterations=300)
        assert solution.error >= 0


def test_ritz_values_see_what_directions_do_not():
    eigenvalues = torch.cat([torch.tensor([0.01], dtype=torch.float64), torch.linspace(1, 2, 40).double()])
    met = ConjugateGradient().solve(lambda v: eigenvalues * v, torch.ones(41).double(), tolerance=1e-10)
    assert met.smallest_curvature == pytest.approx(0.01, rel=1e-6)
    assert met.largest_curvature == pytest.approx(2.0, rel=1e-2)
    assert met.smallest_curvature > 0.01 - rounding(2.0)
    assert met.largest_curvature < 2 + rounding(2.0)


@pytest.mark.parametrize(
    ("name", "factor"), [("strong_convexity", 1.5), ("smoothness", 0.7), ("upper_smoothness", 0.1)]
)
def test_a_trainer_stops_at_a_wrong_constant(name, factor):
    trainer = SmoothTrainer(Claims(regression("one"), **{name: factor}))
    u = trainer.oracle.start_u()
    values = Values(u, trainer.space.constrain(u), version=0)
    orders = [
        Differentiate(values=values, error=1e-8, residual=1e-8, end="a"),
        SolveCandidate(values=values, error=1e-8, end="a", threshold=0.0, early_rejection=False),
    ]
    with pytest.raises(ConstantDisproved, match=name):
        [trainer.execute(order) for order in orders]


def constants(**others):
    known = {"upper_convex": True, "certified": False}
    return Constants(1.0, 4.0, 0.0, 0.0, 2.0, **(known | others))


def test_estimates_give_way_and_a_negative_one_stops():
    estimated = constants(estimated=True)
    wider = compare(estimated, 0.5, 8.0)
    assert (wider.strong_convexity, wider.smoothness) == (0.5, 8.0)
    assert compare(estimated, 1.5, 3.0) is estimated
    with pytest.raises(NotStronglyConvex):
        compare(estimated, -0.5, 3.0)


def test_what_rounding_could_have_made_is_no_contradiction():
    known = constants()
    assert compare(known, 0.9, 4.1, doubt=0.2) is known
    assert compare(known, float("nan"), float("nan")) is known
    x = torch.ones(3, dtype=torch.float64)
    _, _, doubt = chord(1e-15 * x, 1e-12 * x, size=1.0)
    assert doubt > 1
    assert chord(0 * x, x, 1.0) is None


def test_an_upper_level_that_is_not_convex_is_found():
    upper = UpperChords(constants())
    upper.met(torch.zeros(2), torch.zeros(2))
    with pytest.raises(ConstantDisproved, match="upper_convex is given as True, but a curvature of -1"):
        upper.met(torch.ones(2), -torch.ones(2))


def test_certified_and_estimated_exclude_each_other():
    with pytest.raises(ValueError, match="set certified=False"):
        constants(certified=True, estimated=True)

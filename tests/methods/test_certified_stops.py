"""A stop as stationary holds for every start, every built-in smooth objective and every lower-level solver."""

import math

import pytest
import torch
from selftune.objectives.tasks.field_of_experts_denoising import FieldOfExpertsDenoising
from selftune.objectives.tasks.logistic_regression import SoftmaxRegression
from selftune.objectives.tasks.quadratic_bilevel import QuadraticBilevel
from selftune.objectives.tasks.ridge import RidgeRegression
from selftune.objectives.tasks.total_variation_denoising import TotalVariationDenoising

from selftune.hypergradients.implicit import implicit_hypergradient
from selftune.hypergradients.linear_solvers import ConjugateGradient
from selftune.hypergradients.lower_solvers import Newton
from selftune.hypergradients.oracle import Oracle
from selftune.methods import Implicit, ImplicitSettings, InexactLineSearch, InexactLineSearchSettings
from selftune.training import SmoothTrainer

PICTURES = {"train_crops": 1, "validation_crops": 1, "test_crops": 1, "crop": 8}
SOLVERS = ("newton", "accelerated_gradient", "lbfgs")
STARTS = (1e-6, 1e-4, 1e-2, 1.0, 10.0, 30.0, 1e3, 1e6)


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ridge(groups="per_feature"):
    inputs = normal(0, 24, 3)
    targets = inputs @ normal(1, 3) + normal(2, 24)
    return RidgeRegression(*zip(inputs.split(8), targets.split(8), strict=True), groups=groups)


def softmax(groups="per_class"):
    inputs = normal(3, 24, 2)
    labels = (inputs @ normal(4, 2, 2) + normal(5, 24, 2)).argmax(dim=1)
    return SoftmaxRegression(*zip(inputs.split(8), labels.split(8), strict=True), classes=2, groups=groups)


PROBLEMS = {
    "quadratic": lambda: QuadraticBilevel(parameter_count=4, hyperparameter_count=2),
    "ridge": ridge,
    "softmax": softmax,
    "total_variation": lambda: TotalVariationDenoising(**PICTURES),
    "field_of_experts": lambda: FieldOfExpertsDenoising(experts=1, filter_size=3, **PICTURES),
}


def run(problem, start, solver="newton", make=None, work=120, tolerance=1e-4):
    """(method, steps) after a run from hyperparameters that all have this value."""
    trainer = SmoothTrainer(problem, solver=solver)
    method = make or InexactLineSearch(work, settings=InexactLineSearchSettings(tolerance=tolerance))
    method.join(0, trainer.space)
    value = torch.full((len(trainer.space),), start, dtype=torch.float64)
    method._u = torch.cat([h.domain.unconstrain(value[:1]).expand(h.size) for h in trainer.space.tuned]).clone()
    steps = 0
    while not method.stopped:
        for member, order in method.ask().items():
            steps += method.tell(member, trainer.execute(order)) is not None
    return method, steps


def true_length(problem, u, bound=30.0):
    """How far the box lets u move against the hypergradient of a solution to rounding."""
    oracle = Oracle(problem)
    x = Newton().solve(oracle, u, oracle.start_x(), 1e-12).x
    z = implicit_hypergradient(oracle, x, u, ConjugateGradient(), 1e-13).value
    return float((u - (u - z).clamp(-bound, bound)).norm())


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    ("name", "starts", "tolerance"),
    [
        ("quadratic", STARTS, 1e-2),
        ("ridge", STARTS, 1e-3),
        ("softmax", STARTS, 1e-3),
        ("total_variation", (1e-6, 1e-2, 1.0, 1e3), 3e-2),
    ],
)
def test_a_certified_stop_is_stationary_from_every_start(name, starts, tolerance, solver):
    certified = 0
    for start in starts:
        problem = PROBLEMS[name]()
        method, _ = run(problem, start, solver, work=500, tolerance=tolerance)
        if method.stopped == "stationary":
            certified += 1
            assert true_length(problem, method._u) <= tolerance
    assert certified > 1


def test_a_stop_with_an_estimated_constant_has_another_name():
    method, _ = run(PROBLEMS["field_of_experts"](), 1e-2, "accelerated_gradient", work=4000, tolerance=3e-2)
    assert method.stopped == "estimated"


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(("problem", "start"), [(ridge, 30.0), (softmax, 10.0)])
def test_a_loose_solution_that_is_exactly_zero_is_no_end(problem, start, solver):
    exact = Oracle(problem())

    def level(method):
        return exact.upper(Newton().solve(exact, method._u, exact.start_x(), 1e-12).x, method._u)

    before, _ = run(problem(), start, solver, work=1)
    far, steps = run(problem(), start, solver, work=300)
    near, _ = run(problem(), 1.0, solver, work=300)
    assert steps > 3
    assert level(far) - level(near) < 0.1 * (level(before) - level(near))


@pytest.mark.parametrize("start", [30.0, 1e4])
def test_neither_is_it_flat_without_a_bound(start):
    untested = InexactLineSearchSettings(descent_test=False, tolerance=1e-5)
    for make in (
        InexactLineSearch(300, settings=untested),
        Implicit(300, settings=ImplicitSettings(tolerance=1e-5)),
    ):
        method, steps = run(ridge(), start, make=make)
        assert steps > 3
        if method.stopped == "flat":
            assert true_length(ridge(), method._u) <= 2e-5


def test_a_linear_system_that_is_solved_to_rounding_does_not_end_the_search():
    """Of a small system one solve is exact; steps that fail after it need a better x, or shorter steps."""
    problem = ridge()
    ends = []
    for start in (1e-2, 1e4):
        method, _ = run(problem, start, work=2500, tolerance=1e-6)
        assert method.stopped in ("stationary", "budget")
        ends.append(true_length(problem, method._u))
    assert max(ends) < 1e-4


def test_a_start_on_a_plateau_is_a_stationary_point_and_says_so():
    method, steps = run(ridge(), math.exp(25))
    assert (method.stopped, steps) == ("stationary", 0)
    assert true_length(ridge(), method._u) <= 1e-4

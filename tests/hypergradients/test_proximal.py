"""Hypergradients above lower levels that are not smooth: closed forms, finite differences, error bounds, ties."""

import math

import pytest
import torch
from proximal_problems import KINDS, OWN, Lasso, LeastSquares, OwnMap, WeightedLasso, differences, solve, start
from smooth_problems import normal

from selftune.errors import SettingError
from selftune.hypergradients.curvature import compare_products
from selftune.hypergradients.derivative_check import check_derivatives
from selftune.hypergradients.error_bounds import error_bound
from selftune.hypergradients.implicit import corrected_hypergradient, implicit_hypergradient
from selftune.hypergradients.linear_solvers import ConjugateGradient, Minres
from selftune.hypergradients.lower_solvers import ProximalGradient
from selftune.hypergradients.oracle import Oracle
from selftune.hypergradients.proximal import ProximalStep
from selftune.hypergradients.update_maps import GradientStep
from selftune.hyperparameters import Hyperparameter, Positive
from selftune.lower_level.proximal_terms import L1Norm

CG = ConjugateGradient()


def exact(oracle, u, x=None):
    x = solve(oracle, u).x if x is None else x
    return implicit_hypergradient(oracle, x, u, CG, 1e-12)


@pytest.mark.parametrize("name", KINDS | OWN)
@pytest.mark.parametrize("seed", [0, 10])
def test_it_is_the_derivative_of_the_upper_level(name, seed):
    oracle, u = start((KINDS | OWN)[name], seed, spread=0.3)
    solution = solve(oracle, u)
    found = exact(oracle, u, solution.x)
    wanted = differences(oracle, u)  # exact to about 1e-13 / 1e-5
    assert float((found.value - wanted).norm()) < 1e-6 * float(wanted.norm())
    assert found.smallest_curvature >= oracle.constants(u).strong_convexity * (1 - 1e-9)
    assert error_bound(oracle, solution.x, u, solution.error, found).certified == (name in KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_another_linear_solver_finds_the_same(name):
    oracle, u = start(KINDS[name])
    x = solve(oracle, u).x
    found = implicit_hypergradient(oracle, x, u, Minres(), 1e-12).value
    assert torch.allclose(found, exact(oracle, u, x).value, atol=1e-9)


class Orthogonal(Lasso):
    """X'X / n = I, so w = soft(X'y / n, lasso) / (1 + ridge); both strengths are tuned."""

    def __init__(self, start=0.2, ridge=0.3):
        super().__init__(0)
        examples, width = self.inputs.shape
        self.inputs = torch.linalg.qr(self.inputs)[0] * examples**0.5
        self.spectrum = torch.ones(width, dtype=torch.float64)
        self.hyperparameters = (
            Hyperparameter("ridge", Positive(), ridge, tuned=True),
            Hyperparameter("lasso", Positive(), start, tuned=True),
        )
        self.correlation = self.inputs.T @ self.targets / examples

    def solution(self, lasso, ridge):
        c = self.correlation
        return c.sign() * (c.abs() - lasso).clamp(min=0) / (1 + ridge)


@pytest.mark.parametrize("lasso", [0.05, 0.2, 0.6])
def test_an_orthogonal_design_has_a_closed_form(lasso):
    problem, ridge = Orthogonal(lasso), 0.3
    oracle = Oracle(problem)
    u = oracle.start_u()
    w = problem.solution(lasso, ridge)
    solution = solve(oracle, u)
    assert float((solution.x - w).norm()) < 1e-12
    b = oracle.upper_grad_x(w, u)
    by_ridge = -ridge * w / (1 + ridge)
    by_lasso = -lasso * w.sign() / (1 + ridge)
    wanted = torch.stack([by_ridge @ b, by_lasso @ b])
    found = exact(oracle, u, solution.x)
    assert float((found.value - wanted).norm()) < 1e-11
    known = error_bound(oracle, solution.x, u, solution.error, found)
    assert known.certified
    assert known.omega < 1e-10
    assert found.step.active_set(0.0).free == int((w != 0).sum())


@pytest.mark.parametrize("name", KINDS)
def test_the_certified_bound_holds_and_the_active_set_is_the_true_one(name):
    certified, ratios = 0, []
    for seed in range(4):
        oracle, u = start(KINDS[name], 20 * seed, spread=0.5)
        minimiser = solve(oracle, u)
        truth = exact(oracle, u, minimiser.x)
        for draw in range(8):
            if draw % 2:  # where a solver stops
                solution = ProximalGradient().solve(oracle, u, oracle.start_x(), 10.0 ** -(1 + draw / 2))
                x, e = solution.x, solution.error
            else:  # anywhere at this distance, off the surface too
                e = 10.0 ** -(1 + draw / 2)
                direction = normal(seed + draw, oracle.n)
                x = minimiser.x + e * direction / direction.norm()
            found = implicit_hypergradient(oracle, x, u, CG, 10.0 ** -(1 + draw))
            known = error_bound(oracle, x, u, e, found)
            assert known.certified == known.identified == math.isfinite(known.omega)
            error = float((found.value - truth.value).norm())
            if known.certified:
                certified += 1
                mask = torch.stack([found.step.D(v) for v in torch.eye(oracle.n, dtype=x.dtype)]) != 0
                true_mask = torch.stack([truth.step.D(v) for v in torch.eye(oracle.n, dtype=x.dtype)]) != 0
                assert torch.equal(mask, true_mask)
                assert float((found.step.x - minimiser.x).norm()) <= e + 1e-12
                assert error <= known.omega + 1e-11
                if error > 1e-10:
                    ratios.append(known.omega / error)
    assert certified > 8  # of 32
    assert sorted(ratios)[len(ratios) // 2] < 1e4  # and it says something; small groups curve strongly


def test_an_estimated_bound_is_never_certified():
    for make in OWN.values():
        oracle, u = start(make)
        for tolerance in (1e-2, 1e-6, 1e-13):
            solution = solve(oracle, u, tolerance)
            found = implicit_hypergradient(oracle, solution.x, u, CG, tolerance)
            known = error_bound(oracle, solution.x, u, solution.error, found)
            assert not known.certified
            assert not known.identified
            assert math.isfinite(known.omega)


@pytest.mark.parametrize("error", [0.0, 1e-14, 1e-9])
def test_a_tie_is_not_certified_however_accurate_the_solution(error):
    problem = Orthogonal()
    tied = float(problem.correlation.abs().sort().values[6])  # this weight is about to enter
    oracle = Oracle(Orthogonal(start=tied))
    u = oracle.start_u()
    found = exact(oracle, u)
    known = error_bound(oracle, found.step.x, u, error, found)
    assert not known.identified
    assert not known.certified
    assert known.omega == math.inf
    sides = [exact(oracle, u + torch.tensor([0.0, s], dtype=torch.float64)).value[1] for s in (-1e-6, 1e-6)]
    assert abs(float(sides[0] - sides[1])) > 1e-3  # there is no derivative there


def test_above_the_largest_useful_strength_the_hypergradient_is_zero_and_certified():
    largest = float(Orthogonal().correlation.abs().max())
    for factor, free in ((1.01, 0), (0.99, 1)):
        oracle = Oracle(Orthogonal(start=factor * largest))
        u = oracle.start_u()
        solution = solve(oracle, u, 1e-6)
        found = implicit_hypergradient(oracle, solution.x, u, CG, 1e-9)
        known = error_bound(oracle, solution.x, u, solution.error, found)
        assert known.certified
        assert found.step.active_set(0.0).free == free
        assert bool((found.value == 0).all()) == (free == 0)
        assert known.omega == 0 if free == 0 else known.omega < 1e-6
        assert torch.allclose(differences(oracle, u), found.value, atol=1e-5)
    oracle = Oracle(Orthogonal(start=largest))
    found = exact(oracle, oracle.start_u())
    assert not error_bound(oracle, found.step.x, oracle.start_u(), 1e-13, found).certified


def test_a_map_of_ones_own_gives_what_the_built_in_term_gives():
    class Threshold(torch.autograd.Function):
        @staticmethod
        def forward(ctx, w, level):
            ctx.save_for_backward(w, level)
            return torch.from_numpy((w.sign() * (w.abs() - level).clamp(min=0)).numpy().copy())

        @staticmethod
        def backward(ctx, along):
            w, level = ctx.saved_tensors
            kept = along * (w.abs() > level)
            return kept, (-kept * w.sign()).sum()

    class Own(Lasso):
        def terms(self, values, slopes):
            return {}

        def proximal(self, parameters, values, step):
            return {"w": Threshold.apply(parameters["w"], step * values["lasso"])}

    (own, u), (built_in, _) = start(Own), start(Lasso)
    x = solve(built_in, u).x
    torch.testing.assert_close(exact(own, u, x).value, exact(built_in, u, x).value, rtol=1e-9, atol=0)


class ByFloat(OwnMap):
    def proximal(self, parameters, values, step):
        w = parameters["w"]
        return {"w": w.sign() * (w.abs() - step * values["lasso"].detach()).clamp(min=0)}


class Detached(OwnMap):
    def proximal(self, parameters, values, step):
        return {name: w.detach() for name, w in super().proximal(parameters, values, step).items()}


class AtZero(OwnMap):
    def proximal(self, parameters, values, step):
        w = parameters["w"]
        size = (w - w).norm(dim=0) / (w - w).norm(dim=0)
        return {"w": torch.where(w.abs() > 0, w, size)}


class WrongName(Lasso):
    def terms(self, values, slopes):
        return {"weights": L1Norm(values["lasso"])}


@pytest.mark.parametrize(
    ("make", "error", "fragment"),
    [
        (ByFloat, SettingError, "in a way that autograd cannot follow, such as float"),
        (Detached, SettingError, "autograd cannot follow the proximal map from what it is applied to"),
        (AtZero, FloatingPointError, "the derivative of the proximal map is not finite"),
        (WrongName, SettingError, "'weights' is no parameter; they are w"),
    ],
)
def test_what_cannot_be_differentiated_is_refused(make, error, fragment):
    oracle = Oracle(make())
    with pytest.raises(error, match=fragment):
        ProximalStep(oracle, normal(0, oracle.n), oracle.start_u())


def test_what_knows_smooth_lower_levels_only_refuses_others():
    oracle, u = start(Lasso)
    found = exact(oracle, u)
    with pytest.raises(SettingError, match="without terms that are not smooth"):
        corrected_hypergradient(oracle, found.step.x, u, found, CG)
    with pytest.raises(SettingError, match="leaves out the lower level's term that is not smooth"):
        GradientStep(oracle, 0.1)


def test_a_warm_start_on_another_active_set_does_no_harm():
    oracle, u = start(WeightedLasso)
    before = exact(oracle, u)
    moved = u + 0.5
    x = solve(oracle, moved).x
    cold, warm = exact(oracle, moved, x), implicit_hypergradient(oracle, x, moved, CG, 1e-12, start=before.start)
    assert torch.equal(before.step.x != 0, x != 0) is False
    assert torch.allclose(cold.value, warm.value, atol=1e-10)
    again = implicit_hypergradient(oracle, x, moved, CG, 1e-12, start=cold.start)
    assert again.products <= 1


def test_a_smooth_lower_level_takes_no_step():
    oracle = Oracle(LeastSquares())
    u = oracle.start_u()
    found = implicit_hypergradient(oracle, oracle.start_x(), u, CG, 1e-9)
    assert found.step is None
    assert found.start is found.q
    assert oracle.counts.grad == 0


@pytest.mark.parametrize("name", KINDS | OWN)
def test_right_maps_pass_the_check_before_the_start(name):
    for seed in range(3):
        check_derivatives((KINDS | OWN)[name](seed))


class NoStep(OwnMap):
    def proximal(self, parameters, values, step):
        w = parameters["w"]
        return {"w": w.sign() * (w.abs() - values["lasso"]).clamp(min=0)}


class Expands(OwnMap):
    def proximal(self, parameters, values, step):
        return {"w": parameters["w"] / (1 - step * values["lasso"])}


class Turns(OwnMap):
    def proximal(self, parameters, values, step):
        w = parameters["w"]  # solves w+ + step * K w+ = w for an antisymmetric K, which is no gradient
        turn = torch.triu(torch.ones(len(w), len(w), dtype=w.dtype), 1)
        identity = torch.eye(len(w), dtype=w.dtype)
        return {"w": torch.linalg.solve(identity + step * values["lasso"] * (turn - turn.T), w)}


class Half(torch.autograd.Function):
    @staticmethod
    def forward(ctx, w, level):
        ctx.save_for_backward(w, level)
        return w.sign() * (w.abs() - level).clamp(min=0)

    @staticmethod
    def backward(ctx, along):
        w, level = ctx.saved_tensors
        kept = along * (w.abs() > level)
        return kept, -0.5 * (kept * w.sign()).sum()


class WrongDerivative(OwnMap):
    def proximal(self, parameters, values, step):
        return {"w": Half.apply(parameters["w"], step * values["lasso"])}


@pytest.mark.parametrize(
    ("make", "fragment"),
    [
        (NoStep, "multiply strengths by step"),
        (Expands, "it expands what it is applied to"),
        (Turns, "one that is not symmetric is no proximal map"),
        (WrongDerivative, "correct its derivative"),
        (ByFloat, "in a way that autograd cannot follow"),
        (Detached, "autograd cannot follow the proximal map"),
    ],
)
def test_a_map_that_is_no_proximal_map_is_refused(make, fragment):
    with pytest.raises(SettingError, match=f"proximal: .*{fragment}"):
        check_derivatives(make())


class Shrinks(OwnMap):
    """The proximal map makes everything small, so the system that is solved is small against the Hessian."""

    hyperparameters = (*OwnMap.hyperparameters[:2], Hyperparameter("shrink", Positive(), 1e4, tuned=True))


def test_the_curvatures_that_are_reported_are_those_of_the_smooth_part():
    oracle, u = start(Shrinks)
    found = exact(oracle, u)
    constants = oracle.constants(u)
    assert constants.strong_convexity <= found.smallest_curvature * (1 + 1e-9)
    assert found.smallest_curvature <= found.largest_curvature <= constants.smoothness * (1 + 1e-9)
    compare_products(constants, found.smallest_curvature, found.largest_curvature, found.b)


def test_an_estimate_is_the_same_whatever_was_estimated_before():
    bounds = []
    for earlier in (0, 2):
        oracle, u = start(OwnMap)
        x = solve(oracle, u, 1e-3).x
        found = implicit_hypergradient(oracle, x, u, CG, 1e-6)
        for _ in range(earlier):
            error_bound(oracle, x, u, 1e-2, found)
        bounds.append(error_bound(oracle, x, u, 1e-3, found).omega)
    assert bounds[0] == bounds[1] > 0

"""Every derivative of the oracle against differences, its counters, and the constants it passes on."""

from __future__ import annotations

import pickle

import pytest
import torch
from rounding import rounding
from selftune.objectives.tasks.quadratic_bilevel import QuadraticBilevel
from selftune.objectives.tasks.ridge import RidgeRegression
from selftune.objectives.tasks.total_variation_denoising import TotalVariationDenoising
from smooth_problems import PROBLEMS, Plain, WithoutClosedForms, draw, hessian, jacobian, normal, relative

from selftune.hypergradients.lower_solvers import Newton, lower_solvers
from selftune.hypergradients.oracle import Counts, Oracle
from selftune.hyperparameters import Hyperparameter, Interval, Positive, Space

STEP = 1e-6


@pytest.fixture(params=PROBLEMS)
def oracle(request):
    return Oracle(PROBLEMS[request.param]())


@pytest.fixture(params=["closed", "autograd"])
def any_oracle(request, oracle):
    """With the objective's closed forms, and without."""
    return oracle if request.param == "closed" else Oracle(WithoutClosedForms(oracle.objective))


def difference(function, at, along):
    return (function(at + STEP * along) - function(at - STEP * along)) / (2 * STEP)


def test_gradient_against_differences(any_oracle):
    x, u = draw(any_oracle, 1)
    v = normal(2, any_oracle.n)
    wanted = difference(lambda at: any_oracle.objective.lower(any_oracle.unravel(at), any_oracle.values(u)), x, v)
    assert torch.dot(any_oracle.grad_x(x, u), v).item() == pytest.approx(wanted.item(), rel=1e-6)


def test_value_and_gradient_agree_with_the_parts(any_oracle):
    x, u = draw(any_oracle, 1)
    value, gradient = any_oracle.value_and_grad(x, u)
    assert value == pytest.approx(any_oracle.objective.lower(any_oracle.unravel(x), any_oracle.values(u)).item())
    torch.testing.assert_close(gradient, any_oracle.grad_x(x, u))


@pytest.mark.parametrize("forward", [False, True])
def test_hessian_products_against_differences(any_oracle, forward):
    x, u = draw(any_oracle, 3)
    product = any_oracle.hvp(x, u, forward=forward)
    for seed in (4, 5):
        v = normal(seed, any_oracle.n)
        assert relative(product(v), difference(lambda at: any_oracle.grad_x(at, u), x, v)) < 1e-6


def test_mixed_products_against_differences_and_each_other(any_oracle):
    x, u = draw(any_oracle, 6)
    q, w = normal(7, any_oracle.n), normal(8, any_oracle.d)
    along = any_oracle.J(x, u, w)
    assert relative(along, difference(lambda at: any_oracle.grad_x(x, at), u, w)) < 1e-6
    there, back = torch.dot(along, q).item(), torch.dot(w, any_oracle.JT(x, u, q)).item()
    assert there == pytest.approx(back, rel=1e-12, abs=1e-12 * float(along.norm() * q.norm()))


def test_upper_gradients_against_differences(oracle):
    x, u = draw(oracle, 9)
    v, w = normal(10, oracle.n), normal(11, oracle.d)
    by_x = difference(lambda at: oracle.upper(at, u), x, v)
    assert torch.dot(oracle.upper_grad_x(x, u), v).item() == pytest.approx(by_x, rel=1e-6)
    by_u = difference(lambda at: oracle.upper(x, at), u, w)
    assert torch.dot(oracle.upper_grad_u(x, u), w).item() == pytest.approx(by_u, rel=1e-6, abs=1e-9)


def test_hessian_is_symmetric(oracle):
    matrix = hessian(oracle, *draw(oracle, 12))
    torch.testing.assert_close(matrix, matrix.T)


def test_results_carry_no_graph(any_oracle):
    x, u = draw(any_oracle, 13)
    x.requires_grad_()
    u.requires_grad_()
    w = normal(14, any_oracle.d)
    results = [
        any_oracle.grad_x(x, u),
        any_oracle.value_and_grad(x, u)[1],
        any_oracle.hvp(x, u)(x.detach()),
        any_oracle.JT(x, u, x.detach()),
        any_oracle.J(x, u, w),
        any_oracle.upper_grad_x(x, u),
        any_oracle.upper_grad_u(x, u),
    ]
    assert not any(result.requires_grad for result in results)


def test_works_without_gradients_switched_on(any_oracle):
    x, u = draw(any_oracle, 13)
    w = normal(14, any_oracle.d)
    wanted = any_oracle.J(x, u, w)
    with torch.no_grad():
        torch.testing.assert_close(any_oracle.J(x, u, w), wanted)
        assert any_oracle.hvp(x, u)(x).isfinite().all()


# Hypergradients from the parts -----------------------------------------------------------------------


def exact_hypergradient(oracle, u, x):
    q = torch.linalg.solve(hessian(oracle, x, u), oracle.upper_grad_x(x, u))
    return oracle.upper_grad_u(x, u) - oracle.JT(x, u, q)


def response(oracle, u, start=None):
    return Newton().solve(oracle, u, oracle.start_x() if start is None else start, 1e-12).x


def test_quadratic_hypergradient_in_closed_form():
    oracle = Oracle(PROBLEMS["quadratic"]())
    problem = oracle.objective
    for seed in range(5):
        u = 3 * normal(seed, oracle.d)
        torch.testing.assert_close(response(oracle, u), problem.response(u), rtol=0, atol=1e-9)
        assert relative(exact_hypergradient(oracle, u, problem.response(u)), problem.hypergradient(u)) < 1e-10
    assert problem.hypergradient(problem.optimum()).norm() < 1e-8


def test_ridge_hypergradient_in_closed_form():
    (x, y), (xv, yv) = ((normal(seed, 40, 6), normal(seed + 1, 40)) for seed in (20, 30))
    oracle = Oracle(RidgeRegression((x, y), (xv, yv), (xv, yv), groups="per_feature"))

    def solve(u):
        return torch.linalg.solve(x.T @ x / 40 + torch.diag(u.exp()), x.T @ y / 40)

    for seed in range(5):
        u = normal(seed, 6)
        w = solve(u)
        q = torch.linalg.solve(x.T @ x / 40 + torch.diag(u.exp()), xv.T @ (xv @ w - yv) / 40)
        found = exact_hypergradient(oracle, u, oracle.objective.solution(oracle.values(u)))
        assert relative(found, -u.exp() * w * q) < 1e-10
        v = normal(seed + 50, 6)
        along = difference(lambda at: 0.5 * (xv @ solve(at) - yv).square().mean(), u, v)
        assert torch.dot(found, v).item() == pytest.approx(along.item(), abs=1e-6 * float(found.norm()))


@pytest.mark.parametrize(
    "name",
    ["softmax_one", "softmax_per_class", "softmax_per_weight", "total_variation", "field_of_experts", "plain"],
)
def test_hypergradient_against_differences(name):
    oracle = Oracle(PROBLEMS[name]())
    _, u = draw(oracle, 15, spread=0.3)
    x = response(oracle, u)
    v = normal(16, oracle.d)
    up, down = (oracle.upper(response(oracle, at, x), at) for at in (u + 1e-4 * v, u - 1e-4 * v))
    found = torch.dot(exact_hypergradient(oracle, u, x), v).item()
    assert found == pytest.approx((up - down) / 2e-4, rel=1e-5)


# Vectors, trees and spaces ----------------------------------------------------------------------------


def test_parameters_are_raveled_in_order(oracle):
    x = normal(17, oracle.n)
    tree = oracle.unravel(x)
    assert {name: leaf.shape for name, leaf in tree.items()} == {
        name: leaf.shape for name, leaf in oracle.objective.parameters().items()
    }
    torch.testing.assert_close(oracle.ravel(tree), x)


def test_start_keeps_all_digits():
    oracle = Oracle(Plain())
    values = oracle.values(oracle.start_u())
    assert values["plain.shift"].item() == pytest.approx(0.3, rel=rounding())
    assert values["plain.strength"].tolist() == pytest.approx([0.2, 0.5], rel=rounding())


def test_starts_cannot_be_changed_from_outside():
    oracle = Oracle(Plain())
    oracle.start_x().add_(1)
    assert oracle.start_x().abs().max() == 0


def test_a_changed_vector_is_not_mistaken_for_the_old_one(oracle):
    x, u = draw(oracle, 18)
    oracle.grad_x(x, u)
    u += 0.1
    torch.testing.assert_close(oracle.grad_x(x, u), oracle.grad_x(x, u.clone()))


def test_a_fixed_hyperparameter_has_no_column():
    task = PROBLEMS["total_variation"]()
    strength, smoothing = task.hyperparameters
    space = Space([strength, Hyperparameter(smoothing.name, smoothing.domain, smoothing.value)])
    oracle = Oracle(task, space)
    x, u = draw(oracle, 19)
    assert oracle.d == 1
    assert oracle.norm_J(x, u) == pytest.approx(float(jacobian(oracle, x, u).norm()), rel=1e-9)


def test_domains_decide_the_jacobian():
    task = PROBLEMS["ridge_per_feature"]()
    (strength,) = task.hyperparameters
    narrow = Space([Hyperparameter(strength.name, Interval(0.0, 2.0), strength.value, strength.parts, tuned=True)])
    oracle = Oracle(task, narrow)
    x, u = draw(oracle, 20)
    assert oracle.norm_J(x, u) == pytest.approx(
        float(torch.linalg.matrix_norm(jacobian(oracle, x, u), 2)), rel=1e-9
    )
    assert oracle.constants(u).jacobian_lipschitz < float(Oracle(task).constants(u).jacobian_lipschitz) * 10


def test_float32_gives_the_same_to_its_accuracy():
    small = {"train_crops": 2, "validation_crops": 1, "test_crops": 1, "crop": 9}
    double, single = (Oracle(TotalVariationDenoising(dtype=dtype, **small)) for dtype in ("float64", "float32"))
    x, u = draw(double, 21)
    found = single.grad_x(x.float(), u.float())
    assert found.dtype == torch.float32
    assert single.start_u().dtype == torch.float32
    assert relative(found.double(), double.grad_x(x, u)) < 1e-4


def test_oracles_travel(oracle):
    x, u = draw(oracle, 22)
    wanted = oracle.grad_x(x, u)
    arrived = pickle.loads(pickle.dumps(oracle))
    torch.testing.assert_close(arrived.grad_x(x, u), wanted)
    assert arrived.counts.grad == 2


# Counters ---------------------------------------------------------------------------------------------


def test_every_call_is_counted(any_oracle):
    oracle = any_oracle
    x, u = draw(oracle, 23)
    oracle.grad_x(x, u)
    oracle.value_and_grad(x, u)
    product = oracle.hvp(x, u)
    assert oracle.counts == Counts(grad=2)
    product(x)
    product(x)
    oracle.hvp(x, u, forward=True)(x)
    oracle.JT(x, u, x)
    oracle.J(x, u, u)
    oracle.upper(x, u)
    oracle.upper_grad_x(x, u)
    oracle.upper_grad_u(x, u)
    oracle.upper_value_and_grad(x, u)
    assert oracle.counts == Counts(grad=2, hvp=3, jac=2, up=4)
    assert oracle.counts.work == 7


class Watched(QuadraticBilevel):
    """Counts the calls of its own functions."""

    gradients = products = uppers = 0

    def lower_gradient(self, parameters, values):
        self.gradients += 1
        return super().lower_gradient(parameters, values)

    def hessian_product(self, parameters, values):
        product = super().hessian_product(parameters, values)

        def watched(v):
            self.products += 1
            return product(v)

        return watched

    def upper(self, parameters, values):
        self.uppers += 1
        return super().upper(parameters, values)


@pytest.mark.parametrize("name", lower_solvers)
def test_counters_equal_the_calls_that_the_objective_sees(name):
    problem = Watched()
    oracle = Oracle(problem)
    u = normal(28, oracle.d)
    x = lower_solvers[name]().solve(oracle, u, oracle.start_x(), 1e-8).x
    oracle.JT(x, u, oracle.upper_grad_x(x, u))
    assert oracle.counts == Counts(grad=problem.gradients - 1, hvp=problem.products, jac=1, up=problem.uppers)


def test_counts_add_and_subtract():
    before = Counts(1, 2, 3, 4)
    after = before.copy()
    after.hvp += 5
    assert after - before == Counts(hvp=5)
    assert before + Counts(hvp=5) == after


# Estimates --------------------------------------------------------------------------------------------


def test_estimated_norm_is_near_the_exact_one_and_costs_what_it_says():
    oracle = Oracle(Plain(), seed=1)
    x, u = draw(oracle, 24)
    exact = float(torch.linalg.matrix_norm(jacobian(oracle, x, u), 2))
    oracle.counts = Counts()
    assert exact <= oracle.norm_J(x, u) <= 1.1 * exact * (1 + 1e-9)
    assert oracle.counts.jac == 16
    oracle.norm_J(x, u)
    assert oracle.counts.jac == 20


def test_lipschitz_is_the_proven_constant_where_there_is_one():
    oracle = Oracle(PROBLEMS["softmax_one"]())
    x, u = draw(oracle, 25)
    constants = oracle.constants(u)
    assert oracle.lipschitz(x, u, x, 0.1) == (constants.hessian_lipschitz, constants.jacobian_lipschitz)
    assert oracle.counts.work == 0


def test_estimated_lipschitz_constants_stay_below_twice_the_proven_ones():
    oracle = Oracle(Plain())
    for seed in range(20):
        x, u = draw(oracle, seed, spread=0.1)
        constants = oracle.constants(u)
        change_of_hessian, change_of_jacobian = oracle.lipschitz(x, u, normal(seed, oracle.n), 1e-3)
        assert 0 < change_of_hessian <= 2.5 * constants.hessian_lipschitz
        assert 0 < change_of_jacobian <= 2.5 * constants.jacobian_lipschitz
    assert oracle.counts == Counts(hvp=40, jac=40)


def test_estimates_draw_from_the_oracle_s_own_generator():
    x, u = draw(Oracle(Plain()), 26)
    torch.manual_seed(0)
    first = Oracle(Plain(), seed=3).norm_J(x, u)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert Oracle(Plain(), seed=3).norm_J(x, u) == first
    assert torch.equal(state, torch.get_rng_state())


def test_the_upper_level_of_a_positive_domain_stays_finite():
    oracle = Oracle(
        PROBLEMS["ridge_one"](), Space([Hyperparameter("ridge.strength", Positive(), 1.0, tuned=True)])
    )
    x, u = draw(oracle, 27)
    assert oracle.upper_grad_u(x, u).tolist() == [0.0]

import itertools

import pytest
import torch
from finite_sums import LOWER, Quadratic, normal, zeros

from selftune.errors import SettingError
from selftune.hypergradients.stochastic import Storm


def descend(gradient, eta, steps, rate=0.05, seed=0):
    """Points of descent along STORM's direction, one example per step."""
    storm, generator = Storm(eta), torch.Generator().manual_seed(seed)
    x, last, points = zeros(5), None, []
    for _ in range(steps):
        index = torch.randint(LOWER, (1,), generator=generator)
        direction = storm.update(gradient(x, index), None if last is None else gradient(last, index))
        last, x = x, x - rate * direction
        points.append(x)
    return points


def test_eta_one_is_plain_stochastic_gradient_descent():
    problem, u = Quadratic(), normal(30, 3)
    gradient = lambda x, index: problem.oracle.grad_x(x, u, index)  # noqa: E731
    generator, x = torch.Generator().manual_seed(0), zeros(5)
    for point in descend(gradient, 1.0, 30):
        x = x - 0.05 * gradient(x, torch.randint(LOWER, (1,), generator=generator))
        assert torch.equal(point, x)


def test_the_first_direction_is_the_gradient():
    storm, new = Storm(0.1), normal(0, 2, 3)
    assert torch.equal(storm.update(new, normal(1, 2, 3)), new)


def test_later_directions_follow_the_recursion():
    storm = Storm(0.3)
    first, new, old = normal(0, 4), normal(1, 4), normal(2, 4)
    storm.update(first)
    torch.testing.assert_close(storm.update(new, old), new + 0.7 * (first - old), rtol=1e-14, atol=0)


def test_full_gradients_pass_unchanged():
    problem, u = Quadratic(), normal(30, 3)
    storm, last = Storm(0.2), normal(40, 5)
    storm.update(problem.oracle.grad_x(last, u))
    for seed in range(41, 46):
        x = normal(seed, 5)
        found = storm.update(problem.oracle.grad_x(x, u), problem.oracle.grad_x(last, u))
        torch.testing.assert_close(found, problem.oracle.grad_x(x, u), rtol=1e-12, atol=1e-12)
        last = x


def test_the_noise_falls_with_eta():
    problem, u = Quadratic(), normal(30, 3)
    gradient = lambda x, index: problem.oracle.grad_x(x, u, index)  # noqa: E731

    def noise(eta, rate=0.002):
        """Mean square distance of the directions from the full gradients, after a hundred steps."""
        points = descend(gradient, eta, 1500, rate)[100:]
        directions = [(old - new) / rate for old, new in itertools.pairwise(points)]
        full = [problem.oracle.grad_x(x, u) for x in points[:-1]]
        errors = [(d - g).square().sum() for d, g in zip(directions, full, strict=True)]
        return float(torch.stack(errors).mean())

    assert noise(0.05) < 0.1 * noise(1.0)  # an average with this memory alone: 0.05 / 1.95


def test_state_round_trip():
    one, other = Storm(0.4), Storm(0.4)
    one.update(normal(0, 3))
    other.load_state_dict(one.state_dict())
    new, old = normal(1, 3), normal(2, 3)
    assert torch.equal(one.update(new, old), other.update(new, old))
    fresh = Storm(0.4)
    fresh.load_state_dict(Storm(0.4).state_dict())
    assert torch.equal(fresh.update(new), new)


def test_the_direction_does_not_change_with_the_gradient_it_came_from():
    storm, gradient = Storm(0.5), torch.ones(2)
    storm.update(gradient)
    gradient.zero_()
    assert storm.update(torch.ones(2), torch.zeros(2)).tolist() == [1.5, 1.5]


@pytest.mark.parametrize("eta", [0.0, -0.1, 1.1, float("nan")])
def test_eta_is_in_range(eta):
    with pytest.raises(SettingError, match=r"eta: must be in \(0, 1\]"):
        Storm(eta)


def test_the_old_gradient_is_asked_for():
    storm = Storm(0.5)
    storm.update(torch.ones(2))
    with pytest.raises(SettingError, match="old: is missing"):
        storm.update(torch.ones(2))

"""Update rules: check C23, state round trips, boxes, and one test that every rule passes."""

import copy
import math

import pytest
import torch

from selftune.errors import SettingError
from selftune.methods.update_rules import OptimisticMirrorDescent, UpdateRule, UpdateSettings

RULES = ["adam", "sgd", "rmsprop", "optimistic_mirror_descent"]


def descend(rule, steps, gradient, start=(2.0, -1.0)):
    """Vectors before every step."""
    u = torch.tensor(start, dtype=torch.float64)
    updates = UpdateRule(rule, [u])
    path = []
    for step in range(steps):
        path.append(u.clone())
        updates.step([gradient(u, step)])
    return torch.stack(path)


@pytest.mark.parametrize("name", RULES)
def test_a_shorter_step_is_one_at_a_smaller_learning_rate(name):
    whole, half = torch.ones(2), torch.ones(2)
    one, other = UpdateRule(UpdateSettings(name, 0.1), [whole]), UpdateRule(UpdateSettings(name, 0.05), [half])
    for length, gradient in ((0.5, 3.0), (0.5, -1.0), (0.5, 2.0)):
        one.step([torch.full((2,), gradient)], length)
        other.step([torch.full((2,), gradient)])
    torch.testing.assert_close(whole, half)
    one.step([torch.ones(2)])  # the learning rate itself is as before
    other.step([torch.ones(2)], 2.0)
    torch.testing.assert_close(whole, half)


@pytest.mark.parametrize("name", RULES)
def test_every_rule_goes_down_a_bowl_and_stays_in_its_box(name):
    target = torch.tensor([0.5, 3.0], dtype=torch.float64)
    settings = UpdateSettings(name, 0.3, bound=2.0)
    path = descend(settings, 200, lambda u, _: u - target)
    assert path.abs().max() <= 2
    torch.testing.assert_close(path[-1], target.clamp(-2, 2), atol=0.2, rtol=0)


@pytest.mark.parametrize("name", RULES)
def test_state_round_trip_continues_the_same_path(name):
    def gradient(u, step):
        return u - math.sin(step)

    settings = UpdateSettings(name, 0.1)
    whole = descend(settings, 20, gradient)
    u = torch.tensor([2.0, -1.0], dtype=torch.float64)
    updates = UpdateRule(settings, [u])
    for step in range(20):
        torch.testing.assert_close(u, whole[step], atol=0, rtol=0)
        updates.step([gradient(u, step)])
        state, u = copy.deepcopy(updates.state_dict()), u.clone()
        updates = UpdateRule(settings, [u])
        updates.load_state_dict(state)


@pytest.mark.parametrize("name", RULES)
def test_vectors_have_their_own_rates_and_rest_without_a_gradient(name):
    fast, slow, resting = (torch.zeros(3) for _ in range(3))
    updates = UpdateRule(UpdateSettings(name, 0.01), [fast, slow, resting], [0.1, None, None])
    updates.step([torch.ones(3), torch.ones(3), None])
    torch.testing.assert_close(fast, 10 * slow)
    assert (slow < 0).all()
    assert (resting == 0).all()


def mirror(path_gradient, steps, **settings):
    u = torch.zeros(2, dtype=torch.float64)
    rule = OptimisticMirrorDescent([u], **settings)
    path = []
    for step in range(steps):
        path.append(u.clone())
        u.grad = path_gradient(u, step)
        rule.step()
    return torch.stack(path)


def test_without_hints_it_is_online_gradient_descent_with_the_same_steps():
    def gradient(u, step):
        return u - math.cos(step)

    path = mirror(gradient, 30, lr=0.7, optimistic=False, bound=0.8)
    u, largest, change = torch.zeros(2, dtype=torch.float64), 0.0, 0.0
    for step in range(30):
        torch.testing.assert_close(path[step], u)
        z = gradient(u, step)
        largest = max(largest, float(z.norm()))
        u = (u - 0.7 / math.sqrt(1e-24 + 4 * largest**2 + change) * z).clamp(-0.8, 0.8)
        change += float(z @ z)


def test_the_regret_against_a_constant_gradient_is_bounded():
    z = torch.tensor([1.0, -2.0], dtype=torch.float64)
    regrets = []
    for rounds in (50, 500):
        path = mirror(lambda u, _: z.clone(), rounds, lr=1.0, bound=1.0)
        best = -z.sign()
        regrets.append(float(((path - best) @ z).sum()))
    assert regrets[1] == pytest.approx(regrets[0])


def test_it_tracks_a_slow_drift_better_than_shrinking_steps():
    def target(step):
        return torch.tensor([math.sin(0.01 * step), math.cos(0.01 * step)], dtype=torch.float64)

    rounds = 2000
    path = mirror(lambda u, step: u - target(step), rounds, lr=0.5, restart=50)
    u, shrinking = torch.zeros(2, dtype=torch.float64), []
    for step in range(rounds):
        shrinking.append((u - target(step)).norm())
        u = u - 0.5 / math.sqrt(step + 1) * (u - target(step))
    errors = torch.stack([(path[step] - target(step)).norm() for step in range(rounds)])
    assert errors.mean() < torch.stack(shrinking).mean()


def test_zero_gradients_move_nothing():
    path = mirror(lambda u, _: torch.zeros_like(u), 5, lr=1.0)
    assert (path == 0).all()


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"rule": "adagrad"}, "rule"),
        ({"learning_rate": -0.1}, "learning_rate"),
        ({"learning_rate": math.inf}, "learning_rate"),
        ({"rule": "sgd", "momentum": 1.0}, "momentum"),
        ({"momentum": 0.5}, "momentum"),
        ({"rule": "optimistic_mirror_descent", "restart": 0}, "restart"),
        ({"restart": 5}, "restart"),
        ({"bound": 0.0}, "bound"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, key):
    with pytest.raises(SettingError) as error:
        UpdateSettings(**settings)
    assert error.value.key == key

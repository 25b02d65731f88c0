"""Pools of hyperparameters: units of a layer, and classes, move together as well as one by one."""

import pytest
import torch

from selftune.errors import SettingError
from selftune.hyperparameters import Hyperparameter, Positive, Space
from selftune.methods import Budget, OnlineImplicit, OnlineImplicitSettings
from selftune.methods.pooling import Pools
from selftune.methods.reports import ImplicitHypergradient, Trained


def space():
    units = Hyperparameter("decay", Positive(), (0.1,) * 5, tuple("abcde"), tuned=True, pools=(3, 2))
    alone = Hyperparameter("noise", Positive(), 0.1, tuned=True)
    return Space([units, alone])


def method(**settings):
    settings = {"warmup_steps": 0, "train_steps": 1, "optimizer": "sgd", "learning_rate": 0.1, **settings}
    made = OnlineImplicit(Budget(steps=50), OnlineImplicitSettings(**settings))
    made.join(0, space())
    return made


def step(made, number, hypergradient):
    (order,) = made.ask().values()
    found = ImplicitHypergradient(hypergradient=hypergradient, system_residual=torch.tensor(0.5))
    report = Trained(
        number=order.number,
        version=order.version,
        training_step=number + 1,
        training_loss=1.0,
        measures={"validation_loss": 1.0},
        hypergradient=found,
    )
    made.tell(0, report)


def test_members_take_their_share_and_the_step_of_their_pool():
    made, gradient = method(pooled=0.25), torch.tensor([1.0, 2.0, 3.0, -1.0, 1.0, 5.0])
    before = made.values.unconstrained.clone()
    step(made, 0, gradient)
    pooled = torch.tensor([6.0, 6.0, 6.0, 0.0, 0.0, 0.0])
    own = torch.tensor([0.25] * 5 + [1.0]) * gradient
    torch.testing.assert_close(before - made.values.unconstrained, 0.1 * (own + pooled))


def test_without_a_share_nothing_is_pooled():
    made, gradient = method(), torch.tensor([1.0, 2.0, 3.0, -1.0, 1.0, 5.0])
    before = made.values.unconstrained.clone()
    step(made, 0, gradient)
    torch.testing.assert_close(before - made.values.unconstrained, 0.1 * gradient)


def test_a_signal_that_noise_hides_from_each_member_moves_the_pool():
    """Of 200 members each has a hypergradient of 0.2 and noise of deviation 1."""
    generator = torch.Generator().manual_seed(0)
    gradients = 0.2 + torch.randn(40, 200, generator=generator)
    units = Hyperparameter(
        "decay", Positive(), (0.1,) * 200, tuple(map(str, range(200))), tuned=True, pools=(200,)
    )
    moved = {}
    for share in (None, 0.25):
        settings = OnlineImplicitSettings(warmup_steps=0, train_steps=1, learning_rate=0.01, pooled=share)
        made = OnlineImplicit(Budget(steps=50), settings)
        made.join(0, Space([units]))
        before = made.values.unconstrained.clone()
        for number, gradient in enumerate(gradients):
            step(made, number, gradient)
        change = made.values.unconstrained - before
        moved[share] = float(-change.mean())
    assert moved[0.25] > 3 * moved[None] > 0


def test_a_restored_method_goes_on_as_it_would_have():
    gradients = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    made = method(pooled=0.25, optimizer="rmsprop")
    for number, gradient in enumerate(gradients[:3]):
        step(made, number, gradient)
    other = method(pooled=0.25, optimizer="rmsprop")
    other.load_state_dict(made.state_dict())
    for one in (made, other):
        for number, gradient in enumerate(gradients[3:], 3):
            step(one, number, gradient)
    assert torch.equal(made.values.unconstrained, other.values.unconstrained)


def test_what_has_no_pools_is_refused():
    alone = Space([Hyperparameter("noise", Positive(), 0.1, tuned=True)])
    assert len(Pools(alone, 0.5)) == 0
    made = OnlineImplicit(Budget(steps=50), OnlineImplicitSettings(warmup_steps=0, pooled=0.5))
    (mistake,) = made.mistakes(alone)
    assert (mistake.key, "by unit or by class" in mistake.message) == ("method.pooled", True)
    with pytest.raises(SettingError, match=r"pooled: must be from 0 to 1"):
        OnlineImplicitSettings(pooled=2.0)
    with pytest.raises(SettingError, match=r"pooled: is not for optimistic_mirror_descent"):
        OnlineImplicitSettings(pooled=0.5, optimizer="optimistic_mirror_descent")

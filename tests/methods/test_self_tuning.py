import copy
import itertools

import pytest
import torch

from selftune.errors import SettingError
from selftune.methods import Budget, Response, SelfTuning, SelfTuningSettings
from selftune.methods.reports import Diverged


def settings(**changes):
    return SelfTuningSettings(**{"warmup_steps": 20, "train_steps": 5, "learning_rate": 0.05} | changes)


def test_hyperparameters_reach_the_optimum(space, drive, quadratic_trainer):
    method = SelfTuning(Budget(steps=2000), settings(optimizer="adam", tune_scale=False))
    steps = drive(method, {0: quadratic_trainer([1.0, -2.0])}, space)
    torch.testing.assert_close(method.hyperparameters, torch.tensor([1.0, -2.0]), atol=1e-2, rtol=0)
    assert steps[-1].validation_loss < 1e-3 < steps[0].validation_loss


@pytest.mark.parametrize("curvature", [0.01, 1.0])
def test_scales_reach_the_square_root_of_entropy_weight_over_curvature(space, drive, quadratic_trainer, curvature):
    weight = 0.01
    method = SelfTuning(Budget(steps=20_000), settings(optimizer="adam", entropy_weight=weight))
    steps = drive(method, {0: quadratic_trainer([0.0, 0.0], curvature)}, space)
    torch.testing.assert_close(steps[-1].scale, torch.full((2,), (weight / curvature) ** 0.5), rtol=0.02, atol=0)


def test_scales_stay_within_their_bounds(space, drive, quadratic_trainer):
    for weight, bound in ((0.0, 0.01), (100.0, 3.0)):
        method = SelfTuning(
            Budget(steps=10_000), settings(optimizer="adam", entropy_weight=weight, scale_learning_rate=0.1)
        )
        steps = drive(method, {0: quadratic_trainer([0.0, 0.0])}, space)
        torch.testing.assert_close(steps[-1].scale, torch.full((2,), bound))


def test_scales_move_as_rarely_as_they_are_set_and_as_much_further(space, drive, quadratic_trainer):
    orders = []
    method = SelfTuning(Budget(steps=100), settings(scale_every=3, optimizer="sgd", learning_rate=0.01))
    steps = drive(method, {0: quadratic_trainer([0.0, 0.0])}, space, orders)
    asked = [order.tune_scale for _, order in orders if order.kind == "cycle" and order.hypergradient]
    assert asked[:7] == [True, False, False, True, False, False, True]
    moved = [not torch.equal(one.scale, other.scale) for one, other in itertools.pairwise(steps)]
    assert moved[:6] == asked[:6]
    every = drive(
        SelfTuning(Budget(steps=100), settings(optimizer="sgd", learning_rate=0.01)),
        {0: quadratic_trainer([0.0, 0.0])},
        space,
    )
    torch.testing.assert_close(
        steps[1].scale - steps[0].scale, 3 * (every[1].scale - every[0].scale), rtol=0.02, atol=0
    )


def test_nothing_moves_during_the_warm_up_and_the_budget_is_exact(space, drive, quadratic_trainer):
    orders = []
    trainer = quadratic_trainer([1.0, 1.0])
    steps = drive(SelfTuning(Budget(steps=33), settings()), {0: trainer}, space, orders)
    cycles = [order for _, order in orders if order.kind == "cycle"]
    assert sum(order.steps for order in cycles) == trainer.training_step == 33
    warmup = [order for order in cycles if not order.hypergradient]
    assert sum(order.steps for order in warmup) == 20
    assert all(torch.equal(order.values.unconstrained, torch.zeros(2)) for order in warmup)
    assert [step.training_step for step in steps] == [25, 30, 33]
    assert orders[-1][1].kind == "finish"


def test_a_budget_of_seconds_ends_after_them(space, drive, quadratic_trainer):
    steps = drive(SelfTuning(Budget(seconds=42.0), settings()), {0: quadratic_trainer([1.0, 1.0])}, space)
    assert [step.seconds for step in steps] == [25.0, 30.0, 35.0, 40.0, 45.0]


def test_several_hyper_steps_follow_one_training_cycle(space, drive, quadratic_trainer):
    method = SelfTuning(Budget(steps=40), settings(validation_steps=3, warmup_steps=0))
    steps = drive(method, {0: quadratic_trainer([1.0, 1.0])}, space)
    assert [step.training_step for step in steps][:6] == [5, 5, 5, 10, 10, 10]


def test_a_team_shares_the_mean_hypergradient(space, drive, quadratic_trainer):
    team = {0: quadratic_trainer([1.0, 0.0]), 1: quadratic_trainer([3.0, 2.0])}
    steps = drive(SelfTuning(Budget(steps=30), settings(), team_size=2), team, space)
    torch.testing.assert_close(steps[0].hypergradient, torch.tensor([-2.0, -1.0]))


def test_nothing_is_asked_before_the_team_is_complete(space):
    method = SelfTuning(Budget(steps=30), settings(), team_size=2)
    method.join(0, space)
    assert method.ask() == {}
    method.join(1, space)
    assert set(method.ask()) == {0, 1}
    assert method.ask() == {}


def test_a_diverged_member_leaves_and_the_rest_go_on(space, drive, quadratic_trainer):
    class Diverging(quadratic_trainer):
        def execute(self, order):
            if self.training_step >= 30:
                return Diverged(number=order.number, training_step=30, message="loss is nan")
            return super().execute(order)

    team = {0: quadratic_trainer([1.0, 0.0]), 1: Diverging([3.0, 2.0])}
    steps = drive(SelfTuning(Budget(steps=60), settings(), team_size=2), team, space)
    assert steps[-1].training_step == 60
    torch.testing.assert_close(steps[0].hypergradient, torch.tensor([-2.0, -1.0]))
    assert steps[-1].hypergradient[1] > 0  # only the first member's target is left


def test_the_rest_of_a_team_moves_on_when_the_member_it_waits_for_is_lost(space, quadratic_trainer):
    team = {0: quadratic_trainer([1.0, 0.0]), 1: quadratic_trainer([3.0, 2.0])}
    method = SelfTuning(Budget(steps=13), settings(warmup_steps=5), team_size=2)
    for member in team:
        method.join(member, space)
    for member, order in method.ask().items():  # the warm-up
        method.tell(member, team[member].execute(order))
    before = method.ask()
    assert method.tell(0, team[0].execute(before[0])) is None
    step = method.leave(1)
    assert step is not None
    assert step.training_step == 10
    torch.testing.assert_close(step.hypergradient, torch.tensor([-1.0, 0.0]))  # that of the member that reported
    after = method.ask()
    assert set(after) == {0}
    assert not torch.equal(after[0].values.unconstrained, before[0].values.unconstrained)
    assert after[0].steps == 3  # what the budget leaves
    assert method.leave(0) is None
    assert method.done


def test_a_state_stays_what_it_was_while_the_method_goes_on(space, drive, quadratic_trainer):
    method = SelfTuning(Budget(steps=100), settings(optimizer="adam", warmup_steps=0))
    method.join(0, space)
    trainer = quadratic_trainer([1.0, -1.0])
    method.tell(0, trainer.execute(method.ask()[0]))
    state = method.state_dict()
    kept = copy.deepcopy(state)
    drive(method, {0: trainer}, space)
    moments = [s["updates"]["state"][0]["exp_avg"] for s in (state, kept)]
    assert torch.equal(*moments)


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "sgd", "optimistic_mirror_descent"])
def test_state_round_trip_gives_the_same_trajectory(space, quadratic_trainer, optimizer):
    def run(interrupt_after):
        method = SelfTuning(Budget(steps=100), settings(optimizer=optimizer))
        trainer = quadratic_trainer([1.0, -1.0])
        method.join(0, space)
        seen, rounds = [], 0
        while not method.done:
            for member, order in method.ask().items():
                step = method.tell(member, trainer.execute(order))
                seen += [step] if step else []
            rounds += 1
            if rounds == interrupt_after:
                state = copy.deepcopy(method.state_dict())
                method = SelfTuning(Budget(steps=100), settings(optimizer=optimizer))
                method.load_state_dict(state)
        return torch.stack([torch.cat([s.hyperparameters, s.scale, s.hypergradient]) for s in seen])

    undisturbed = run(None)
    assert torch.equal(undisturbed, run(3))
    assert torch.equal(undisturbed, run(9))


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: SelfTuningSettings(train_steps=0), "train_steps"),
        (lambda: SelfTuningSettings(scale=5.0), "scale"),
        (lambda: SelfTuningSettings(learning_rate=float("nan")), "learning_rate"),
        (lambda: Response(rank=0), "rank"),
        (lambda: Response(every=0), "every"),
        (lambda: Response(batch_parts=0), "batch_parts"),
        (lambda: Response(centered=False, joint=True, linearize=False, every=2), "every"),
        (lambda: Response(centered=False, joint=True, linearize=False, paired=True), "paired"),
        (lambda: SelfTuningSettings(scale_every=0), "scale_every"),
        (lambda: SelfTuningSettings(validation_parts=0), "validation_parts"),
        (lambda: SelfTuningSettings(cost=1.0), "cost"),
        (lambda: SelfTuningSettings(cost=2.0, scale_every=2), "scale_every"),
        (lambda: SelfTuningSettings(cost=2.0, response=Response(every=2)), "response.every"),
        (
            lambda: SelfTuningSettings(cost=2.0, response=Response(centered=False, joint=True, linearize=False)),
            "cost",
        ),
        (lambda: Response(joint=True), "linearize"),
        (lambda: Budget(), ""),
        (lambda: Budget(steps=1, seconds=1.0), ""),
        (lambda: Budget(steps=0), "steps"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, key):
    with pytest.raises(SettingError) as error:
        make()
    assert error.value.key == key


def test_hyper_steps_without_training_keep_the_loss_of_the_last_training(space, drive, quadratic_trainer):
    method = SelfTuning(Budget(steps=20), settings(validation_steps=2, warmup_steps=0))
    steps = drive(method, {0: quadratic_trainer([1.0, 1.0])}, space)
    assert [step.training_step for step in steps] == [5, 5, 10, 10, 15, 15, 20]
    assert all(step.training_loss == 1.0 for step in steps)


def test_a_long_warm_up_is_checkpointed(space, drive, quadratic_trainer):
    orders = []
    method = SelfTuning(Budget(steps=1100), settings(warmup_steps=1000, checkpoint_every=50))
    drive(method, {0: quadratic_trainer([1.0, 1.0])}, space, orders)
    warmup = [o for _, o in orders if o.kind == "cycle" and not o.hypergradient]
    assert sum(o.checkpoint for o in warmup) == 4  # every 50 cycles' worth of training steps

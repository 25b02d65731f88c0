import copy
from dataclasses import replace

import pytest
import torch

from selftune.errors import SettingError
from selftune.hyperparameters import Hyperparameter, Interval, Space
from selftune.methods import Ball, Box, Budget, Penalty, PenaltySettings
from selftune.methods.reports import Diverged, PenaltyGradient, Trained, TrainingFinished

START = torch.tensor([0.5, -0.5])


@pytest.fixture
def space():
    names = ("a.x", "b.y")
    return Space([Hyperparameter(n, Interval(), float(s), tuned=True) for n, s in zip(names, START, strict=True)])


class PairTrainer:
    """One half of min_u 0.5 |x(u) - target|^2, x(u) = argmin 0.5 |x - u|^2: psi has curvature 1 / (1 + sigma)."""

    def __init__(self, target, noise=0.0, seed=0):
        self.target = torch.tensor(target)
        self.noise = noise
        self.generator = torch.Generator().manual_seed(seed)
        self.training_step = 0

    def execute(self, order):
        if order.kind == "finish":
            return TrainingFinished(number=order.number, training_step=self.training_step)
        self.training_step += order.steps
        u, sigma = order.values.unconstrained, order.sigma * order.penalized
        x = (u + sigma * self.target) / (1 + sigma)
        report = Trained(
            number=order.number,
            training_step=self.training_step,
            training_loss=1.0 + order.penalized if order.steps else float("nan"),
            seconds=float(order.steps),
        )
        if not order.hypergradient:
            return report
        rows = (u - x) + self.noise * torch.randn(order.settings["batches"], 2, generator=self.generator)
        return replace(
            report,
            measures={"validation_loss": 0.5 * float((x - self.target).square().sum())},
            hypergradient=PenaltyGradient(
                hypergradient=rows.mean(dim=0),
                per_batch=rows,
                gradient_norm=None if order.penalized else torch.tensor(0.25),
            ),
        )


def settings(**changes):
    common = {"warmup_steps": 20, "train_steps": 5, "learning_rate": 0.05, "sigma": 0.3, "smallest_sigma": 0.01}
    return PenaltySettings(**common | changes)


def pairs(*targets, **options):
    return {m: PairTrainer(t, **options) for k, t in enumerate(targets) for m in (2 * k, 2 * k + 1)}


def test_hyperparameters_reach_the_optimum(space, drive):
    method = Penalty(Budget(steps=2000), settings(optimizer="adam"))
    steps = drive(method, pairs([1.0, -2.0]), space)
    torch.testing.assert_close(method.hyperparameters, torch.tensor([1.0, -2.0]), atol=1e-2, rtol=0)
    assert steps[-1].validation_loss < 1e-3 < steps[0].validation_loss
    assert method.stopped == "budget"


def test_the_hypergradient_is_that_of_psi_and_sigma_follows_its_schedule(space, drive):
    target = torch.tensor([1.0, -2.0])
    steps = drive(
        Penalty(Budget(steps=1000), settings(sigma=0.8, smallest_sigma=0.2, sigma_decay=0.5)),
        pairs(target.tolist()),
        space,
    )
    for step in steps:
        sigma = step.certificate["sigma"]
        assert sigma == pytest.approx(max(0.2, 0.8 / (step.number + 1) ** 0.5))
        expected = (step.hyperparameters - target) / (1 + sigma)
        torch.testing.assert_close(step.hypergradient, expected, rtol=1e-4, atol=1e-5)
    assert steps[-1].certificate["sigma"] == 0.2


def test_measures_are_those_of_the_lower_network(space, drive):
    first = drive(Penalty(Budget(steps=100), settings()), pairs([1.0, -2.0]), space)[0]
    offset = START - torch.tensor([1.0, -2.0])
    assert first.validation_loss == pytest.approx(0.5 * float(offset @ offset))
    assert first.training_loss == 1.0
    assert first.certificate["penalized_validation_loss"] == pytest.approx(first.validation_loss / 1.3**2)
    assert first.certificate["lower_gradient_norm"] == 0.25
    assert first.certificate["certified"] == 0.0
    assert "hypergradient_noise" not in first.certificate
    assert not first.scale.any()


def test_hyper_steps_without_training_keep_the_loss_of_the_last_training(space, drive):
    steps = drive(Penalty(Budget(steps=40), settings(validation_steps=2)), pairs([1.0, 0.0]), space)
    assert [step.training_step for step in steps][:4] == [25, 25, 30, 30]
    assert all(step.training_loss == 1.0 for step in steps)


def test_the_noise_of_batches_is_the_standard_error_of_the_hypergradient(space, drive):
    fixed = settings(learning_rate=0.0, batches=8, sigma=0.5, sigma_decay=0.0)
    # independent noise in both halves: variance 2 noise^2 / (batches sigma^2) in each of two entries
    team = {0: PairTrainer([1.0, 0.0], 0.1, seed=0), 1: PairTrainer([1.0, 0.0], 0.1, seed=1)}
    steps = drive(Penalty(Budget(steps=5000), fixed), team, space)
    expected = (2 * 2 * 0.1**2 / (8 * 0.5**2)) ** 0.5
    measured = torch.tensor([step.certificate["hypergradient_noise"] for step in steps]).square().mean().sqrt()
    scatter = torch.stack([step.hypergradient for step in steps]).var(dim=0).sum().sqrt()
    assert float(measured) == pytest.approx(expected, rel=0.05)
    assert float(scatter) == pytest.approx(expected, rel=0.05)
    # the same noise in both cancels
    same = drive(Penalty(Budget(steps=100), fixed), pairs([1.0, 0.0], noise=0.1), space)
    assert max(step.certificate["hypergradient_noise"] for step in same) < 1e-6


def test_nothing_moves_during_the_warm_up_and_roles_alternate(space):
    method, team = Penalty(Budget(steps=33), settings(), team_size=4), pairs([1.0, 0.0], [2.0, 0.0])
    for member in list(team)[:3]:
        method.join(member, space)
        assert method.ask() == {}
    method.join(3, space)
    orders = method.ask()
    assert [order.penalized for order in orders.values()] == [False, True, False, True]
    assert not any(order.hypergradient for order in orders.values())
    assert all(torch.equal(order.values.unconstrained, START) for order in orders.values())
    assert all(order.sigma == 0.3 and order.steps == 20 for order in orders.values())
    assert method.ask() == {}


def test_pairs_are_averaged(space, drive):
    steps = drive(Penalty(Budget(steps=30), settings(), team_size=4), pairs([1.0, 0.0], [3.0, 2.0]), space)
    expected = (START - torch.tensor([2.0, 1.0])) / 1.3
    torch.testing.assert_close(steps[0].hypergradient, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("constraint", [Box(low=-1.0, high=(0.7, 0.0)), Ball(0.9)])
def test_hyperparameters_stay_in_the_constraint_and_reach_its_nearest_point(space, drive, constraint):  # C15, C20
    method = Penalty(Budget(steps=3000), settings(optimizer="sgd", learning_rate=0.5, constraint=constraint))
    steps = drive(method, pairs([1.0, -2.0]), space)
    visited = torch.stack([step.hyperparameters for step in steps])
    for u in visited:
        torch.testing.assert_close(constraint(u), u)
    target = torch.tensor([1.0, -2.0])  # psi is isotropic: its minimiser in the set is the target's projection
    torch.testing.assert_close(method.hyperparameters, constraint(target), rtol=0, atol=1e-3)


def test_a_start_outside_of_the_constraint_is_refused(space):
    method = Penalty(Budget(steps=30), settings(constraint=Box(low=0.0)))
    with pytest.raises(SettingError, match=r"nearest point inside is \[0.5, 0.0\]") as error:
        method.join(0, space)
    assert error.value.key == "constraint"


# Losses of members ------------------------------------------------------------------------------------


class Diverging(PairTrainer):
    def execute(self, order):
        if self.training_step >= 30 and order.kind == "cycle":
            return Diverged(number=order.number, training_step=30, message="loss is nan")
        return super().execute(order)


@pytest.mark.parametrize("victim", range(4))
def test_a_pair_that_loses_a_member_no_longer_counts_and_is_ended(space, drive, victim):
    targets = [1.0, 0.0], [3.0, 2.0]
    team = pairs(*targets)
    team[victim] = Diverging(targets[victim // 2])
    orders = []
    method = Penalty(Budget(steps=60), settings(), team_size=4)
    steps = drive(method, team, space, orders)
    assert [step.training_step for step in steps] == list(range(25, 65, 5))
    left = torch.tensor(targets[1 - victim // 2])
    for step in steps[2:]:
        expected = (step.hyperparameters - left) / (1 + step.certificate["sigma"])
        torch.testing.assert_close(step.hypergradient, expected, rtol=1e-3, atol=1e-5)
    of_partner = [order.kind for member, order in orders if member == victim ^ 1]
    assert of_partner.count("finish") == 1
    assert of_partner[-1] == "finish"
    assert len(of_partner) < len([order for member, order in orders if member // 2 != victim // 2]) // 2
    assert method.stopped == "budget"
    assert method.done


@pytest.mark.parametrize("victim", range(2))
def test_when_the_only_pair_breaks_the_other_member_is_ended(space, drive, victim):
    team = pairs([1.0, 0.0])
    team[victim] = Diverging([1.0, 0.0])
    orders = []
    method = Penalty(Budget(steps=60), settings(), team_size=2)
    drive(method, team, space, orders)
    assert method.stopped == "lost"
    assert method.message == "every pair has lost a trainer"
    assert orders[-1][0] == victim ^ 1
    assert orders[-1][1].kind == "finish"


def cycle(method, team):
    return {member: team[member].execute(order) for member, order in method.ask().items()}


def begun(space, team):
    method = Penalty(Budget(steps=33), settings(warmup_steps=5), team_size=len(team))
    for member in team:
        method.join(member, space)
    for member, report in cycle(method, team).items():  # the warm-up
        method.tell(member, report)
    return method


def test_nobody_waits_for_what_is_left_of_a_pair(space):
    team = pairs([1.0, 0.0], [3.0, 2.0])
    method = begun(space, team)
    reports = cycle(method, team)
    assert method.tell(2, reports[2]) is None
    assert method.tell(3, reports[3]) is None
    step = method.leave(1)  # member 0 is still at work
    assert step is not None
    torch.testing.assert_close(step.hypergradient, (START - torch.tensor([3.0, 2.0])) / 1.3, rtol=1e-4, atol=1e-5)
    assert set(method.ask()) == {2, 3}
    assert method.tell(0, reports[0]) is None
    orders = method.ask()
    assert {member: order.kind for member, order in orders.items()} == {0: "finish"}
    assert method.ask() == {}
    method.tell(0, team[0].execute(orders[0]))
    assert not method.done


def test_a_report_of_a_broken_pair_is_forgotten(space):
    team = pairs([1.0, 0.0], [3.0, 2.0])
    method = begun(space, team)
    reports = cycle(method, team)
    for member in (0, 2):
        assert method.tell(member, reports[member]) is None
    assert method.leave(1) is None
    step = method.tell(3, reports[3])
    torch.testing.assert_close(step.hypergradient, (START - torch.tensor([3.0, 2.0])) / 1.3, rtol=1e-4, atol=1e-5)


def test_a_pair_that_loses_both_members_is_counted_once(space):
    team = pairs([1.0, 0.0], [3.0, 2.0])
    method = begun(space, team)
    reports = cycle(method, team)
    method.leave(0)
    method.leave(1)
    assert method.team_size == 2
    method.tell(2, reports[2])
    assert method.tell(3, reports[3]) is not None
    method.leave(3)
    assert method.stopped == "lost"
    assert {member: order.kind for member, order in method.ask().items()} == {2: "finish"}


def test_only_lower_networks_of_whole_pairs_are_results(space):
    team = pairs([1.0, 0.0], [3.0, 2.0])
    method = begun(space, team)
    ends = {member: TrainingFinished(training_step=1, measures={"test_loss": float(member)}) for member in team}
    assert sorted(method.results(ends)) == [0, 2]
    assert sorted(method.results(ends | {2: Diverged()})) == [0]
    method.leave(1)
    assert sorted(method.results(ends)) == [2]


def test_a_network_that_came_to_its_end_stays_a_result_although_its_partner_is_lost_then(space):
    team = pairs([1.0, 0.0])
    method = begun(space, team)
    while method.stopped is None:
        reports = cycle(method, team)
        for member, report in reports.items():
            method.tell(member, report)
        method._training_step = max(method._training_step, 28)
    method.leave(1)
    assert method.stopped == "budget"
    assert sorted(method.results({0: TrainingFinished(training_step=1)})) == [0]


def test_losses_and_diagnostics_are_those_of_the_networks_that_come_out(space):
    team = pairs([1.0, 0.0], [3.0, 2.0])
    method = begun(space, team)
    reports = {
        member: replace(
            report,
            measures={**report.measures, "validation_accuracy": 0.1 * member, "diagnostic/rank": float(member)},
        )
        for member, report in cycle(method, team).items()
    }
    steps = [method.tell(member, report) for member, report in reports.items()]
    assert steps[-1].diagnostics == {"validation_accuracy": 0.1, "rank": 1.0}
    assert (
        steps[-1].training_loss == (reports[0].metrics["training_loss"] + reports[2].metrics["training_loss"]) / 2
    )


def test_a_member_lost_before_its_partner_joins_breaks_the_pair(space):
    method = Penalty(Budget(steps=33), settings(), team_size=4)
    method.join(0, space)
    method.leave(3)
    method.join(1, space)
    assert set(method.ask()) == {0, 1}  # a team of one pair now
    method.join(2, space)
    assert {member: order.kind for member, order in method.ask().items()} == {2: "finish"}


# State ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "sgd", "optimistic_mirror_descent"])
def test_state_round_trip_gives_the_same_trajectory(space, optimizer, broken):
    def make():
        return Penalty(Budget(steps=100), settings(optimizer=optimizer, constraint=Ball(1.0)), team_size=4)

    def run(interrupt_after):
        method, team = make(), pairs([1.0, -1.0], [0.0, 2.0])
        if broken:
            team[1] = Diverging([1.0, -1.0])
        for member in team:
            method.join(member, space)
        seen, rounds = [], 0
        while not method.done:
            for member, order in method.ask().items():
                step = method.tell(member, team[member].execute(order))
                seen += [step] if step else []
            rounds += 1
            if rounds == interrupt_after:
                state = copy.deepcopy(method.state_dict())
                method = make()
                method.load_state_dict(state)
        return torch.stack([torch.cat([s.hyperparameters, s.hypergradient]) for s in seen])

    undisturbed = run(None)
    for interrupt_after in (1, 4, 9):
        assert torch.equal(undisturbed, run(interrupt_after))


# Settings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"sigma": 0.0}, "sigma"),
        ({"sigma": float("nan")}, "sigma"),
        ({"smallest_sigma": 0.0}, "smallest_sigma"),
        ({"sigma": 0.1, "smallest_sigma": 0.2}, "smallest_sigma"),
        ({"sigma_decay": -0.1}, "sigma_decay"),
        ({"proximal": 0.0}, "proximal"),
        ({"relaxation": 0.0}, "relaxation"),
        ({"relaxation": 1.5}, "relaxation"),
        ({"batches": 0}, "batches"),
        ({"momentum": 0.0}, "momentum"),
        ({"momentum": 1.5}, "momentum"),
        ({"momentum": 0.5}, "train_steps"),
        ({"momentum": 0.5, "train_steps": 1, "batches": 2}, "batches"),
        ({"momentum": 0.5, "train_steps": 1, "validation_steps": 2}, "validation_steps"),
        ({"momentum": 0.5, "train_steps": 1, "proximal": 1.0}, "proximal"),
        ({"momentum": 0.5, "train_steps": 1, "relaxation": 0.5}, "relaxation"),
        ({"learning_rate": -1.0}, "learning_rate"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, key):
    with pytest.raises(SettingError) as error:
        PenaltySettings(**changes)
    assert error.value.key == key


@pytest.mark.parametrize("size", [1, 3])
def test_a_team_that_is_not_made_of_pairs_is_refused(size):
    with pytest.raises(SettingError, match="must be a multiple of 2") as error:
        Penalty(Budget(steps=10), team_size=size)
    assert error.value.key == "team_size"

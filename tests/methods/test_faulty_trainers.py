"""Teams with trainers that lie: outvoted, named, excluded, started again from a team-mate's state, or ended."""

import copy
import math
from dataclasses import replace

import pytest
import torch

from selftune.methods import Aggregation, Budget, Penalty, PenaltySettings, SelfTuning, SelfTuningSettings
from selftune.methods.reports import (
    Diverged,
    PenaltyGradient,
    ResponseHypergradient,
    StateMissing,
    Trained,
    TrainingFinished,
)
from selftune.methods.work_orders import FinishTraining
from selftune.training.state_store import StateStore

TARGET = torch.tensor([1.0, -2.0])
NONSENSE = {"nan": torch.nan, "far": 1e12, "infinite": -torch.inf}


class Trainer:
    """Descends 0.5 |u - target|^2; ``lies`` says at which training steps its hypergradients are nonsense.

    Its state is whose network it has, and how far it is trained; like real ones, it keeps states by key.
    """

    def __init__(self, member, lies=lambda step: False, nonsense=torch.nan, loss=None):
        self.member, self.lies, self.nonsense, self.loss = member, lies, nonsense, loss
        self.network, self.training_step = member, 0
        self.kept = {}
        self.orders = []

    def execute(self, order, warm=None):
        self.orders.append(order)
        if order.kind == "finish":
            return TrainingFinished(number=order.number, training_step=self.training_step)
        if order.start is not None:
            if warm is None:
                return StateMissing(number=order.number, training_step=self.training_step)
            self.network, self.training_step = warm
        self.kept = {key: state for key, state in self.kept.items() if key in order.states}
        self.training_step += order.steps
        report = Trained(number=order.number, training_step=self.training_step, training_loss=1.0, seconds=1.0)
        if order.hypergradient:
            lying = self.network == self.member and self.lies(self.training_step)
            report = replace(
                report,
                measures={"validation_loss": self.loss if lying and self.loss else self.validation_loss(order)},
                hypergradient=self.gradient(order, lying),
            )
        if order.end is not None:
            self.kept[order.end] = (self.network, self.training_step)
        return report

    def export_state(self, key):
        return copy.copy(self.kept.get(key))

    def validation_loss(self, order):
        return 0.5 * float((order.values.unconstrained - TARGET).square().sum())

    def gradient(self, order, lying):
        found = order.values.unconstrained - TARGET + 0.01 * self.member
        if lying:
            found = torch.full_like(found, self.nonsense)
        return ResponseHypergradient(hypergradient=found, scale_gradient=0.1 * found)


class HalfOfAPair(Trainer):
    def gradient(self, order, lying):
        rows = (order.values.unconstrained - TARGET).expand(order.settings["batches"], 2) * order.sigma
        rows = rows * order.penalized + 0.01 * (self.member // 2) * order.sigma
        if lying:
            rows = torch.full_like(rows, self.nonsense)
        norm = None if order.penalized else torch.tensor(0.5)
        return PenaltyGradient(hypergradient=rows.mean(dim=0), per_batch=rows, gradient_norm=norm)


def method(members=5, steps=100, **aggregation):
    given = Aggregation(**{"name": "krum", "settings": {"faulty": 1}, **aggregation})
    settings = SelfTuningSettings(warmup_steps=4, train_steps=2, learning_rate=0.05, aggregation=given)
    return SelfTuning(Budget(steps=steps), settings, members)


def drive(machine, team, space, until=math.inf, join=True, states=None):
    """The hyper-steps; ends early after so many."""
    for member in team if join else ():
        machine.join(member, space)
    steps, last, states = [], {}, states or StateStore()
    while not machine.done and len(steps) < until:
        orders = machine.ask()
        assert orders
        for member, order in orders.items():
            last[member] = team[member].execute(order, states.copies({member: order}, team).get(member))
            states.did(member, order, last[member])
            step = machine.tell(member, last[member])
            if step is not None:
                steps.append(step)
    return steps, machine.results(last)


def team(size=5, liar=2, lies=lambda step: True, kind=Trainer, **more):
    return {
        m: kind(m, lies if m == liar else lambda step: False, **(more if m == liar else {})) for m in range(size)
    }


@pytest.mark.parametrize("name", ["krum", "multi_krum", "trimmed_mean", "coordinate_median", "geometric_median"])
@pytest.mark.parametrize("nonsense", NONSENSE)
def test_a_liar_is_outvoted_and_named(space, name, nonsense):
    settings = {"faulty": 1} if name in ("krum", "multi_krum", "trimmed_mean") else {}
    lies = team(lies=lambda step: step % 4 == 0, nonsense=NONSENSE[nonsense], loss=1e9)
    steps, results = drive(method(name=name, settings=settings), lies, space)
    honest, _ = drive(method(name=name, settings=settings), team(lies=lambda step: False), space)
    for step, clean in zip(steps, honest, strict=True):
        torch.testing.assert_close(step.hyperparameters, clean.hyperparameters, atol=0.05, rtol=0)
        assert step.validation_loss < 10
        assert list(step.faults) == ([2] if step.training_step % 4 == 0 else [])
        assert clean.faults == {}
    first = next(step for step in steps if step.faults)
    assert first.faults[2].first
    assert first.faults[2].reason.startswith("its hypergradient ")
    assert set(results) == set(range(5))  # never twice in a row


def test_the_mean_knows_no_faults(space):
    machine = SelfTuning(Budget(steps=20), SelfTuningSettings(warmup_steps=0), 3)
    trainers = team(3, lies=lambda step: False)
    steps, _ = drive(machine, trainers, space)
    assert all(step.faults == {} for step in steps)
    assert not any(order.unchecked for order in trainers[0].orders if order.kind == "cycle")


def test_trainers_of_a_team_that_votes_report_whatever_they_find(space):
    trainers = team()
    drive(method(steps=10), trainers, space)
    assert all(order.unchecked for order in trainers[0].orders if order.kind == "cycle")


def test_after_offences_in_a_row_it_starts_again_from_the_network_of_a_team_mate(space):
    trainers = team(liar=0)
    steps, results = drive(method(offences=3), trainers, space)
    faulty = [step.number for step in steps if step.faults]
    assert faulty == [0, 1, 2]
    assert steps[2].faults[0].remark == "excluded, to start again from the network of another trainer"
    assert trainers[0].network == 1
    cycles = [[order for order in trainer.orders if order.kind == "cycle"] for trainer in trainers.values()]
    (keeping,) = [number for number, order in enumerate(cycles[1]) if order.end is not None]
    (starting,) = [number for number, order in enumerate(cycles[0]) if order.start is not None]
    assert starting == keeping + 1
    start = cycles[0][starting]
    assert start.start == cycles[1][keeping].end
    assert start.checkpoint
    assert trainers[1].kept == {}  # nobody needs it any more
    assert all(trainer.training_step == 100 for trainer in trainers.values())
    assert set(results) == set(range(5))


def test_what_an_excluded_trainer_says_does_not_count(space):
    machine = method(offences=1)
    trainers = team(liar=4, loss=1e9)
    steps, _ = drive(machine, trainers, space, until=4)
    assert [bool(step.faults) for step in steps] == [True, False, False, False]
    assert all(step.validation_loss < 10 for step in steps)
    assert trainers[4].network == 0


def test_one_that_lies_again_and_again_is_ended_and_its_network_is_no_result(space):
    class Incorrigible(Trainer):
        def gradient(self, order, lying):
            return super().gradient(order, self.member == 2)

    trainers = team(kind=Incorrigible)
    machine = method(offences=2, restarts=1)
    steps, results = drive(machine, trainers, space)
    remarks = [fault.remark for step in steps for fault in step.faults.values() if fault.remark]
    assert remarks == ["excluded, to start again from the network of another trainer", "excluded for good"]
    assert isinstance(trainers[2].orders[-1], FinishTraining)
    assert trainers[2].training_step < 30
    assert set(results) == {0, 1, 3, 4}
    assert machine.done
    assert all(trainer.training_step == 100 for member, trainer in trainers.items() if member != 2)


def test_without_restarts_it_is_ended_at_once(space):
    steps, results = drive(method(offences=1, restarts=0), team(), space)
    assert steps[0].faults[2].final
    assert 2 not in results


@pytest.mark.parametrize("broken_at", [1, 3, 5, 8])
def test_the_state_holds_all_of_it(space, broken_at):
    whole, _ = drive(method(offences=2), team(), space)
    first, trainers, states = method(offences=2), team(), StateStore()
    before, _ = drive(first, trainers, space, until=broken_at, states=states)
    second, going_on = method(offences=2), StateStore()
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    going_on.load_state_dict(copy.deepcopy(states.state_dict()))
    after, _ = drive(second, trainers, space, states=going_on)
    assert len(before) + len(after) == len(whole)
    for one, other in zip(before + after, whole, strict=True):
        assert torch.equal(one.hyperparameters, other.hyperparameters)
        assert one.faults == other.faults


def test_a_state_that_got_lost_is_sent_again(space):
    class Forgetful(Trainer):
        def execute(self, order, warm=None):
            forgets = sum(one.start is not None for one in self.orders if one.kind == "cycle") == 0
            return super().execute(order, None if forgets else warm)

    trainers = team(kind=Forgetful)
    steps, results = drive(method(offences=1), trainers, space)
    starts = [order for order in trainers[2].orders if order.kind == "cycle" and order.start is not None]
    assert len(starts) == 2
    assert trainers[2].network == 0
    assert 2 in results
    assert sum(bool(step.faults) for step in steps) == 1


def test_the_source_of_a_restart_may_be_lost(space):
    machine, trainers, states = method(members=6, offences=1), team(6), StateStore()
    for member in trainers:
        machine.join(member, space)
    lost = False
    while not machine.done:
        for member, order in machine.ask().items():
            warm = states.copies({member: order}, trainers).get(member)
            if member == 0 and order.kind == "cycle" and order.end is not None and not lost:
                lost, report = True, Diverged(number=order.number, message="gone")
            else:
                report = trainers[member].execute(order, warm)
            states.did(member, order, report)
            machine.tell(member, report)
    assert lost
    assert trainers[2].network == 1


def test_nothing_moves_while_more_lie_than_can_be_outvoted(space):
    trainers = {m: Trainer(m, lambda step, liar=m > 1: liar and step == 8) for m in range(5)}
    steps, _ = drive(method(offences=5), trainers, space)
    (at,) = [number for number, step in enumerate(steps) if step.training_step == 8]
    assert torch.equal(steps[at].hypergradient, torch.zeros(2))
    assert torch.equal(steps[at + 1].hyperparameters, steps[at].hyperparameters)
    assert set(steps[at].faults) == {2, 3, 4}
    assert not torch.equal(steps[at + 2].hyperparameters, steps[at + 1].hyperparameters)


def test_a_team_that_becomes_too_small_comes_to_its_end(space):
    machine, trainers = method(), team(lies=lambda step: False)
    for member in trainers:
        machine.join(member, space)
    for _ in range(4):
        for member, order in machine.ask().items():
            machine.tell(member, trainers[member].execute(order))
    for member in (0, 1, 2):
        machine.leave(member)
    orders = machine.ask()
    assert machine.stopped == "lost"
    assert machine.message == "stopped early: krum needs at least 3 trainers, and 2 are left"
    assert all(isinstance(order, FinishTraining) and order.remark == machine.message for order in orders.values())


def test_too_small_a_team_is_refused_with_the_key_of_a_study_file(space):
    (mistake,) = method(members=4).mistakes(space)
    assert mistake.key == "method.aggregation"
    assert mistake.message.startswith("krum with faulty: 1 needs at least 5 trainers, got 4")


def pairs(members=10, **aggregation):
    given = Aggregation(**{"name": "krum", "settings": {"faulty": 1}, **aggregation})
    settings = PenaltySettings(warmup_steps=4, train_steps=2, learning_rate=0.05, batches=3, aggregation=given)
    return Penalty(Budget(steps=60), settings, members)


@pytest.mark.parametrize("liar", [4, 5])
def test_a_pair_is_outvoted_and_starts_again_as_a_whole(space, liar):
    trainers = team(10, liar=liar, kind=HalfOfAPair)
    steps, results = drive(pairs(offences=2), trainers, space)
    assert [list(step.faults) for step in steps[:3]] == [[4, 5], [4, 5], []]
    assert (trainers[4].network, trainers[5].network) == (0, 1)
    assert all(math.isfinite(step.certificate["hypergradient_noise"]) for step in steps)
    assert set(results) == {0, 2, 4, 6, 8}


def test_a_pair_is_ended_as_a_whole(space):
    trainers = team(10, liar=5, kind=HalfOfAPair)
    machine = pairs(offences=1, restarts=0)
    _, results = drive(machine, trainers, space)
    assert set(results) == {0, 2, 6, 8}
    assert isinstance(trainers[4].orders[-1], FinishTraining)
    assert machine.stopped == "budget"


def test_pairs_that_are_too_few_are_refused(space):
    (mistake,) = pairs(members=8).mistakes(space)
    assert "needs at least 5 groups of 2 trainers, got 4; set trainers.number to 10" in mistake.message


def test_the_first_network_is_that_of_a_trainer_in_good_standing(space):
    machine = method(offences=1)
    drive(machine, team(liar=0), space, until=1)
    assert machine.first_network == (1, None)

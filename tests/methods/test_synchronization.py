"""Teams that do not wait for everyone: what counts, what waits, when it ends; on trainers of known speed."""

import copy
from dataclasses import replace

import pytest
import torch

from selftune.errors import SettingError
from selftune.hyperparameters import Hyperparameter, Interval, Space
from selftune.listener import Remembered
from selftune.methods import (
    Aggregation,
    Budget,
    Penalty,
    PenaltySettings,
    SelfTuning,
    SelfTuningSettings,
    Synchronization,
)
from selftune.methods.reports import Diverged, ResponseHypergradient, Trained, TrainingFinished
from selftune.storage.state_tree import packed, unpacked
from selftune.training.simulator import simulate

SPACE = Space([Hyperparameter("a.x", Interval(), 0.5, tuned=True)])
QUORUM = Synchronization("quorum", reports=3)
USED = Synchronization("quorum", reports=3, late="used")
ASYNCHRONOUS = Synchronization("asynchronous")
RATE = 0.1


class Trainer:
    """Sends ``pull`` as its hypergradient, and says how long its orders take."""

    space = SPACE

    def __init__(self, member, pull=1.0, seconds=1.0, dies_at=None):
        self.member, self.pull, self.seconds, self.dies_at = member, pull, seconds, dies_at
        self.training_step = 0
        self.orders = []

    def execute(self, order, warm=None):
        self.orders.append(order)
        common = {"number": order.number, "training_step": self.training_step, "version": order.version}
        if order.kind == "finish":
            return TrainingFinished(**common, message=order.remark)
        if self.training_step == self.dies_at:
            return Diverged(number=order.number, message="gone")
        self.training_step += order.steps
        common["training_step"] = self.training_step
        report = Trained(**common, training_loss=1.0, seconds=self.seconds * order.steps)
        if not order.hypergradient:
            return report
        pull = torch.full((1,), self.pull)
        measures = {"validation_loss": 10.0 * self.member + self.training_step}
        return replace(report, measures=measures, hypergradient=ResponseHypergradient(hypergradient=pull))


def duration(report):
    return getattr(report, "seconds", 0.0) if report.kind == "cycle" else 0.0


def method(rule, size=4, steps=40, warmup=4, **settings):
    common = {"warmup_steps": warmup, "train_steps": 2, "optimizer": "sgd", "learning_rate": RATE}
    given = SelfTuningSettings(**common | settings, tune_scale=False, synchronization=rule)
    return SelfTuning(Budget(steps=steps), given, size)


def team(*seconds, pulls=None):
    pulls = pulls or [1.0] * len(seconds)
    return {m: Trainer(m, pull, one) for m, (pull, one) in enumerate(zip(pulls, seconds, strict=True))}


def moves(steps):
    """How far each hyper-step but the last moved the unconstrained value, in learning rates."""
    u = torch.stack([SPACE.unconstrain(step.hyperparameters) for step in steps])
    return ((u[:-1] - u[1:]) / RATE).flatten().tolist()


# Settings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "key", "message"),
    [
        ({"name": "quorum"}, "reports", "is missing; say for how many reports a hyper-step waits"),
        ({"name": "quorum", "reports": 0}, "reports", "must be at least 1, got 0"),
        ({"name": "barrier", "reports": 2}, "reports", "is a setting of quorum; leave it out with barrier"),
        (
            {"name": "asynchronous", "late": "used"},
            "late",
            "is a setting of quorum; leave it out with asynchronous",
        ),
        (
            {"name": "quorum", "reports": 2, "exponent": 1.0},
            "exponent",
            "is for late reports that are used, and none is here; leave it out",
        ),
        ({"name": "asynchronous", "exponent": -1.0}, "exponent", "must be a number of at least 0, got -1.0"),
    ],
)
def test_settings_without_a_meaning_are_refused(given, key, message):
    with pytest.raises(SettingError) as error:
        Synchronization(**given)
    assert (error.value.key, error.value.message) == (key, message)


@pytest.mark.parametrize(
    ("rule", "size", "more", "message"),
    [
        (
            USED,
            3,
            {},
            "synchronization.reports: must be below the number of trainers, 3, got 3; to wait for all of them,"
            " leave synchronization out",
        ),
        (
            ASYNCHRONOUS,
            1,
            {},
            "synchronization: asynchronous is for several trainers, and there is one; leave it out",
        ),
        (
            QUORUM,
            5,
            {"aggregation": Aggregation("coordinate_median")},
            "synchronization: quorum goes together with mean_aggregation alone: who is outvoted is seen only where"
            " all report together; leave one of the two out",
        ),
    ],
)
def test_teams_that_cannot_work_like_this_are_refused(rule, size, more, message):
    (mistake,) = method(rule, size, **more).mistakes(SPACE)
    assert str(mistake) == f"method.{message}"


def test_pairs_wait_for_each_other():
    (mistake,) = Penalty(
        Budget(steps=40), PenaltySettings(synchronization=ASYNCHRONOUS, warmup_steps=4), 4
    ).mistakes(Space([Hyperparameter("a.x", Interval(), 0.5, tuned=True, smooth=True)]))
    assert mistake.key == "method.synchronization"
    assert "here 2 have one together" in mistake.message


@pytest.mark.parametrize("rule", [QUORUM, USED, ASYNCHRONOUS])
def test_no_report_counts_more_than_a_fresh_one(rule):
    weights = [rule.weight(staleness) for staleness in range(5)]
    assert weights[0] == 1.0
    assert weights == sorted(weights, reverse=True)
    assert Synchronization("asynchronous", exponent=0.0).weight(7) == 1.0


# What a hyper-step waits for ---------------------------------------------------------------------------


def test_a_barrier_takes_the_same_steps_whoever_is_faster():
    found = [
        [(step.training_step, step.hyperparameters.tolist(), step.validation_loss) for _, step in simulated.steps]
        for seconds in ((1.0, 1.0, 1.0, 1.0), (1.0, 5.0, 0.1, 3.0))
        for simulated in [
            simulate(method(Synchronization()), team(*seconds, pulls=[1.0, 2.0, 3.0, 4.0]), duration)
        ]
    ]
    assert found[0] == found[1]


def test_a_quorum_waits_for_so_many_and_discards_what_is_late():
    trainers = team(1.0, 1.0, 1.0, 7.0, pulls=[1.0, 1.0, 1.0, 1e6])
    simulated = simulate(method(QUORUM), trainers, duration)
    times = [time for time, _ in simulated.steps]
    steps = [step for _, step in simulated.steps]
    assert times == [4.0 + 2.0 * (number + 1) for number in range(18)]  # the fast ones' own pace
    assert moves(steps) == pytest.approx([1.0] * 17)
    assert {step.diagnostics["reports"] for step in steps} == {3.0}
    assert {step.diagnostics["staleness"] for step in steps} == {0.0}


def test_a_slow_trainer_goes_on_from_the_latest_values_and_is_no_result():
    trainers, machine = team(1.0, 1.0, 1.0, 7.0), method(QUORUM)
    simulated = simulate(machine, trainers, duration)
    versions = [order.version for order in trainers[3].orders if order.kind == "cycle"]
    assert versions == [0, 12]  # its warm-up, and one more cycle after it
    last = {event.member: event.report for event in simulated.events}
    assert set(machine.results(last)) == {0, 1, 2}
    assert [last[member].training_step for member in range(4)] == [40, 40, 40, 6]
    assert last[3].message == (
        "its network is no result, because it has less than nine tenths of the furthest one's training steps"
    )
    assert machine.first_network[0] == 0


def test_late_reports_are_used_in_the_next_step_and_count_less():
    trainers = team(1.0, 1.0, 1.0, 1.6, pulls=[1.0, 1.0, 1.0, 4.0])
    simulated = simulate(method(USED, warmup=0), trainers, duration)
    steps = [step for _, step in simulated.steps]
    assert [step.diagnostics["staleness"] for step in steps[:2]] == [0.0, pytest.approx(1 / 3)]
    late = 2**-0.5
    # the mean weighted by what reports count, over a step that is as long as they count on average
    assert moves(steps)[:2] == pytest.approx([1.0, (1.0 + 1.0 + late * 4.0) / 3])


def test_nobody_waits_where_every_report_is_a_step():
    trainers = team(1.0, 2.6, pulls=[1.0, 2.0])
    simulated = simulate(method(ASYNCHRONOUS, 2, steps=12, warmup=2), trainers, duration)
    assert [(event.end, event.member) for event in simulated.events if event.step is not None][:5] == [
        (4.0, 0),
        (6.0, 0),
        (8.0, 0),
        (10.0, 0),
        (10.4, 1),
    ]
    steps = [step for _, step in simulated.steps]
    assert [step.diagnostics["staleness"] for step in steps[:5]] == [0, 0, 0, 0, 3]
    assert moves(steps)[:5] == pytest.approx([1.0, 1.0, 1.0, 1.0, 2.0 * 4**-0.5])
    for member in trainers.values():  # nobody is idle before its end
        own = [
            event for event in simulated.events if event.member == member.member and event.report.kind == "cycle"
        ]
        assert [event.start for event in own[1:]] == [event.end for event in own[:-1]]


def test_every_trainer_trains_for_the_budget_where_nobody_waits():
    trainers, machine = team(1.0, 2.0, 3.0), method(ASYNCHRONOUS, 3)
    simulated = simulate(machine, trainers, duration)
    assert [trainer.training_step for trainer in trainers.values()] == [40, 40, 40]
    assert len(simulated.steps) == 3 * 18
    assert set(machine.results({event.member: event.report for event in simulated.events})) == {0, 1, 2}
    numbers = [step.number for _, step in simulated.steps]
    assert numbers == list(range(54))


def test_seconds_are_those_of_the_clock():
    trainers = team(1.0, 1.0, 1.0, 7.0)
    simulated = simulate(method(QUORUM), trainers, duration)
    for time, step in simulated.steps:
        assert step.seconds == pytest.approx(time)


def test_a_budget_in_seconds_ends_those_who_have_spent_it():
    given = SelfTuningSettings(warmup_steps=4, train_steps=2, tune_scale=False, synchronization=ASYNCHRONOUS)
    trainers = team(1.0, 3.0)
    simulated = simulate(SelfTuning(Budget(seconds=30.0), given, 2), trainers, duration)
    assert [trainer.training_step for trainer in trainers.values()] == [30, 10]
    assert simulated.seconds == 30.0


def test_losses_are_those_of_all_trainers():
    steps = [step for _, step in simulate(method(ASYNCHRONOUS, 2, warmup=0), team(1.0, 1.0), duration).steps]
    assert [step.validation_loss for step in steps[:4]] == [2.0, (2.0 + 12.0) / 2, (4.0 + 12.0) / 2, 9.0]


def test_all_keep_what_they_have_when_the_team_was_best():
    class Worse(Trainer):
        def execute(self, order, warm=None):
            report = super().execute(order, warm)
            loss = {"validation_loss": abs(self.training_step - 10.0)}
            return replace(report, measures=loss) if report.kind == "cycle" and order.hypergradient else report

    trainers, ear = {0: Worse(0), 1: Worse(1, seconds=1.5)}, Remembered()
    machine = method(ASYNCHRONOUS, 2, steps=30, warmup=2)
    simulate(machine, trainers, duration, ear)
    for trainer in trainers.values():
        kept = [number for number, order in enumerate(trainer.orders) if order.keep is not None]
        before = trainer.orders[kept[-1] - 1]
        assert order_values(trainer.orders[kept[-1]].keep) == order_values(before.values)
    assert machine.best.value == min(step.validation_loss for step in ear.steps)


def order_values(values):
    return values.version, values.unconstrained.tolist()


@pytest.mark.parametrize("rule", [QUORUM, USED, ASYNCHRONOUS])
def test_steps_of_several_looks_at_one_network(rule):
    trainers = team(1.0, 1.3, 0.8, 2.0)
    simulated = simulate(method(rule, validation_steps=3), trainers, duration)
    kinds = [order.steps for order in trainers[0].orders if order.kind == "cycle" and order.hypergradient]
    assert kinds[:6] == [2, 0, 0, 2, 0, 0]
    assert all(step.training_loss == 1.0 for _, step in simulated.steps)


# Losses ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [QUORUM, USED, ASYNCHRONOUS])
def test_a_team_that_loses_trainers_goes_on(rule):
    trainers = {m: Trainer(m, dies_at={0: 10, 1: 20}.get(m), seconds=1.0 + m / 8) for m in range(4)}
    machine = method(rule)
    simulate(machine, trainers, duration)
    assert machine.done
    assert [trainer.training_step for trainer in trainers.values()][:3] == [10, 20, 40]
    assert trainers[3].training_step >= 38  # the last one of a quorum may have nobody to wait for


def test_a_loss_can_be_what_a_quorum_was_waiting_for():
    machine = method(QUORUM, 4, warmup=0)
    for member in range(4):
        machine.join(member, SPACE)
    orders, trainers = machine.ask(), team(*[1.0] * 4)
    assert machine.tell(0, trainers[0].execute(orders[0])) is None
    assert machine.tell(1, trainers[1].execute(orders[1])) is None
    assert machine.leave(2) is None  # the third may still come
    assert machine.leave(3).number == 0


# State -------------------------------------------------------------------------------------------------


class Reborn:
    """A method that is killed after every so many reports, and made anew from its state."""

    def __init__(self, make, every):
        self.make, self.every, self.told, self.machine = make, every, 0, make()

    def tell(self, member, report):
        step = self.machine.tell(member, report)
        self.told += 1
        if self.told % self.every == 0:
            tensors = {}
            tree = packed(self.machine.state_dict(), tensors, {"space": SPACE})
            self.machine = self.make()
            self.machine.load_state_dict(unpacked(tree, copy.deepcopy(tensors), {"space": SPACE}))
        return step

    def __getattr__(self, name):
        return getattr(self.machine, name)


@pytest.mark.parametrize("rule", [Synchronization(), QUORUM, USED, ASYNCHRONOUS])
@pytest.mark.parametrize("every", [1, 3])
def test_the_state_holds_all_of_it(rule, every):
    def make():
        return method(rule, optimizer="rmsprop")

    def found(machine):
        return [
            (event.member, event.end, event.report.kind, event.step and event.step.hyperparameters.tolist())
            for event in simulate(machine, team(1.0, 1.3, 0.7, 2.9, pulls=[1.0, 2.0, -1.0, 3.0]), duration).events
        ]

    assert found(Reborn(make, every)) == found(make())

"""Teams whose hyper-steps wait for some reports only, whatever is killed; no Ray is started.

Who is faster decides about the trajectory. So a run is compared with one in this process in which reports come in
the same order: nothing that was killed, repeated or resumed may leave a trace.
"""

import random
from dataclasses import dataclass

import pytest
from fake_tune import FakeTrial, FakeTune
from full_matrix import first_of
from ray_fakes import SPACE, Recorder, Toys

from selftune.methods import Budget, SelfTuning, SelfTuningSettings, Synchronization
from selftune.schedulers import BilevelScheduler, SelfTuningScheduler, run_record, trainable
from selftune.schedulers.run_record import RunRecord, read_record

pytestmark = pytest.mark.usefixtures("node", "local_trainables")

TEAM, STEPS = 3, 40
RULES = {
    "discarded": Synchronization("quorum", reports=2),
    "used": Synchronization("quorum", reports=2, late="used"),
    "asynchronous": Synchronization("asynchronous"),
}


@pytest.fixture(autouse=True)
def room(node):
    node(CPU=8)


@dataclass(frozen=True)
class Made:
    rule: str

    def __call__(self):
        settings = SelfTuningSettings(
            warmup_steps=4, train_steps=2, learning_rate=0.1, checkpoint_every=4, synchronization=RULES[self.rule]
        )
        return SelfTuning(Budget(steps=STEPS), settings, TEAM)


class Branch(Recorder):
    """Forgets what a driver that goes on has not heard."""

    def resumed(self, told, hyper_steps):
        known = [event for event in self.events if event[0] == "reported" and event[2] < told.get(event[1], 0)]
        steps = [event for event in self.events if event[0] == "hyper_step" and event[1] < hyper_steps]
        self.events = known + steps


def in_the_same_order(rule, recorder):
    """Hyper-steps and final weights of a team in this process whose reports come as they were heard."""
    machine, trainers, steps, issued, weights = (
        Made(rule)(),
        {m: Toys()(m) for m in range(TEAM)},
        Recorder(),
        {},
        {},
    )
    for member in range(TEAM):
        machine.join(member, SPACE)
    for _, member, _, kind in recorder.of("reported"):
        issued |= machine.ask()
        report = trainers[member].execute(issued.pop(member))
        assert report.kind == kind
        if kind == "finish":
            weights[member] = report.tensors["network.weights"].tolist()
        step = machine.tell(member, report)
        if step is not None:
            steps.hyper_step(step)
    assert machine.done
    return steps.of("hyper_step"), weights


def weights_of(members):
    return {member: entry.final.tensors["network.weights"].tolist() for member, entry in members.items()}


@pytest.mark.parametrize("seed", first_of(range(8), always=3))
@pytest.mark.parametrize("kill", [0.0, 0.1])
@pytest.mark.parametrize("rule", RULES)
def test_killed_workers_change_nothing(rule, kill, seed):
    recorder = Recorder()
    scheduler = BilevelScheduler(Made(rule), TEAM, listener=lambda team: recorder)
    tune = FakeTune(scheduler, trainable(Toys()), TEAM, seed=seed, kill=kill).run()
    assert (tune.kills > 0) is (kill > 0)
    steps, weights = in_the_same_order(rule, recorder)
    assert recorder.of("hyper_step") == steps
    assert weights_of(scheduler.teams[0].members) == weights
    assert [step[1] for step in steps] == list(range(len(steps)))


def test_some_reports_are_late():
    found = []
    for rule in RULES:
        recorder = Recorder()
        scheduler = BilevelScheduler(Made(rule), TEAM, listener=lambda team, heard=recorder: heard)
        FakeTune(scheduler, trainable(Toys()), TEAM, seed=1, kill=0.1).run()
        cycles = sum(event[3] == "cycle" for event in recorder.of("reported"))
        found.append((len(recorder.of("hyper_step")), cycles))
    (discarded, _), (used, _), (asynchronous, cycles) = found
    assert asynchronous == cycles - TEAM == TEAM * (STEPS - 4) / 2  # every report but those of the warm-up
    assert 9 < discarded <= used < asynchronous


@pytest.mark.parametrize("seed", first_of(range(8), always=3))
@pytest.mark.parametrize("rule", RULES)
def test_drivers_killed_one_after_the_other_leave_no_trace(rule, seed, tmp_path, monkeypatch):
    monkeypatch.setattr(run_record, "_SHARE", 1.0)  # records are written whenever something is new
    place, life, draw, recorder = tmp_path / "ray", 0, random.Random(seed), Branch()
    while (tune := driver(place, rule, recorder, 100 * seed + life)) is not None:
        for _ in range(draw.randrange(10, 120)):
            if all(trial.is_finished() for trial in tune.trials) and not tune.search_alg.left:
                break
            tune.step()
        life += 1
    assert life > 1
    steps, weights = in_the_same_order(rule, recorder)
    assert recorder.of("hyper_step") == steps
    [team] = read_record(place, SPACE).scheduler["teams"]
    assert weights_of(team["members"]) == weights


def driver(place, rule, recorder, seed):
    """A driver that goes on from what is in a folder; None if nothing is left to do."""
    place.mkdir(exist_ok=True)
    left = read_record(place, SPACE)
    scheduler = BilevelScheduler(Made(rule), TEAM, listener=lambda team: recorder)
    scheduler.left = left
    members = range(TEAM) if left is None else left.open_members
    if not members:
        return None
    record = RunRecord(place, scheduler, SPACE, left)
    trials = [FakeTrial(f"{record.run_name}-t{member}", {"member": member}) for member in members]
    tune = FakeTune(scheduler, trainable(Toys()), trials, seed, kill=0.03)
    tune.keep(record, place / record.run_name)
    return tune


@pytest.mark.parametrize("older", ["trials", "state"])
@pytest.mark.parametrize("rule", RULES)
def test_a_driver_killed_between_its_two_files_gets_to_the_end(rule, older):
    """A trainer may have done then what its method has not heard of, and says it again, late as it may be."""
    recorder = Recorder()
    scheduler = BilevelScheduler(Made(rule), TEAM, listener=lambda team: recorder)
    first = FakeTune(scheduler, trainable(Toys()), TEAM, seed=2)
    while len(first.snapshots) < 6:
        first.step()
    previous, last = first.snapshots[-2:]
    pair = (previous, last) if older == "trials" else (last, previous)
    second = first.restored(*pair, 2, listener=lambda team: recorder).run()
    [team] = second.scheduler.teams
    assert team.method.done
    assert max(entry.final.training_step for entry in team.members.values()) == STEPS


def test_the_setting_is_one_of_the_schedulers():
    given = Synchronization("quorum", reports=2)
    scheduler = SelfTuningScheduler(steps=600, team_size=3, synchronization=given)
    assert scheduler.make_method().settings.synchronization == given

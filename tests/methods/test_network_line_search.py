import copy
import itertools
import sys
from pathlib import Path

import pytest
import torch

from selftune.errors import SettingError
from selftune.hyperparameters import Hyperparameter, Interval, Space
from selftune.methods import Budget, NetworkLineSearch, NetworkLineSearchSettings
from selftune.methods.paired_test import level_of_test
from selftune.methods.reports import CandidateDiverged

sys.path.insert(0, str(Path(__file__).parent))
from arms import Arms, Drive, line_search, rows


def accepted(steps):
    return [step for step in steps if step.certificate["accepted"]]


# Steps -----------------------------------------------------------------------------------------------


def test_accepted_steps_lead_to_the_optimum_and_each_lowers_the_loss(space):
    trainer = Arms(noise=0.01)
    steps = Drive(line_search(), {0: trainer}, space).run().steps
    torch.testing.assert_close(steps[-1].hyperparameters, trainer.target, atol=0.1, rtol=0)
    distances = [float((s.hyperparameters - trainer.target).norm()) for s in accepted(steps)]
    assert distances == sorted(distances, reverse=True)
    assert len(distances) > 3


def test_the_first_step_moves_by_half_and_steps_grow_and_shrink(space):
    steps = Drive(line_search(200), {0: Arms()}, space).run().steps
    moved = steps[0].hyperparameters  # from zero
    assert float(moved.square().mean().sqrt()) == pytest.approx(0.5)
    for before, after in itertools.pairwise(steps):
        factor = 1.5 if before.certificate["accepted"] else 0.5
        if not after.certificate["at_floor"] and after.certificate["candidates"] == 1:
            assert after.certificate["step"] == pytest.approx(factor * before.certificate["step"])


def test_progress_of_training_is_credited_to_no_step(space):
    """Training lowers the loss of every arm a lot, and the hypergradient points the wrong way."""
    trainer = Arms(progress=0.5, hypergradient=(1.0, -1.0))
    steps = Drive(line_search(), {0: trainer}, space).run().steps
    assert len(steps) == 40
    assert not accepted(steps)
    assert [s.validation_loss for s in steps] == sorted((s.validation_loss for s in steps), reverse=True)
    assert {len(path) for path in [trainer.state]} == {40}
    assert all(u == (0.0, 0.0) for _, u in trainer.state)  # the path is that of the arms that stayed


def test_a_search_never_starts_below_the_smallest_move(space):
    steps = Drive(line_search(smallest_move=0.1), {0: Arms(hypergradient=(3.0, -1.0))}, space).run().steps
    floor = 0.1 * 2**0.5 / 10**0.5
    assert steps[-1].certificate["step"] == pytest.approx(floor)
    assert [s.certificate["at_floor"] for s in steps[-3:]] == [1.0] * 3
    assert all(s.certificate["step"] >= floor * 0.999 for s in steps)


def test_no_hyperparameter_moves_by_more_than_two_at_once(space):
    trainer = Arms(target=(100.0, 0.0))
    steps = Drive(line_search(100, step=1e6), {0: trainer}, space).run().steps
    assert [s.hyperparameters[0].item() for s in steps] == pytest.approx([2.0 * (i + 1) for i in range(10)])


def test_steps_end_at_the_bound_and_nothing_is_tried_beyond_it(space):
    trainer = Arms(target=(100.0, 0.0))
    steps = Drive(line_search(100, bound=3.0), {0: trainer}, space).run().steps
    assert steps[-1].hyperparameters.tolist() == [3.0, 0.0]
    assert steps[-1].certificate["candidates"] == 0
    assert steps[-1].training_step == 100


def test_nothing_is_tried_along_a_hypergradient_of_zero(space):
    trainer = Arms(hypergradient=(0.0, 0.0))
    steps = Drive(line_search(50), {0: trainer}, space).run().steps
    assert {order.kind for order in trainer.orders} == {"stay", "finish"}
    assert [s.training_step for s in steps] == [10, 20, 30, 40, 50]


def test_a_candidate_that_diverges_is_rejected_without_a_test(space):
    class Wild(Arms):
        def execute(self, order, warm=None):
            report = super().execute(order, warm)
            if order.kind == "candidate" and order.candidate == 0:
                self.kept.pop(order.end)
                return CandidateDiverged(number=order.number, training_step=3, work=3, seconds=1.0)
            return report

    method = line_search(100)
    steps = Drive(method, {0: Wild()}, space).run().steps
    assert steps[0].certificate["candidates"] == 2
    assert steps[0].certificate["accepted"] == 1
    assert steps[0].certificate["alpha_k"] == level_of_test(0.2, 1)


# Orders ----------------------------------------------------------------------------------------------


def test_all_arms_of_a_step_start_alike_and_a_fresh_sample_follows_acceptance(space):
    trainer = Arms(noise=0.3)
    steps = Drive(line_search(), {0: trainer}, space).run().steps
    groups = {}
    for order in trainer.orders[:-1]:
        groups.setdefault(order.start, []).append(order)
    assert len(groups) == len(steps)
    assert {len(accepted(steps)) > 0, len(accepted(steps)) < len(steps)} == {True}
    sample = 0
    for arms, step in zip(groups.values(), steps, strict=True):
        assert {(arm.sample, arm.gamma, arm.steps) for arm in arms} == {(sample, arms[0].gamma, 10)}
        sample += int(step.certificate["accepted"])


def test_arms_are_held_by_the_gamma_of_the_step_before(space):
    for proximal in (True, False):
        trainer = Arms()
        steps = Drive(line_search(30, proximal=proximal), {0: trainer}, space).run().steps
        gammas = [o.gamma for o in trainer.orders if o.kind == "stay"]
        assert gammas == ([0.0, *(s.certificate["gamma"] for s in steps[:-1])] if proximal else [0.0] * 3)


def test_the_warm_up_is_one_row_and_the_budget_is_exact(space):
    trainer = Arms()
    steps = Drive(line_search(147, warmup_steps=120), {0: trainer}, space).run().steps
    assert [s.training_step for s in steps] == [120, 130, 140, 147]
    assert steps[0].hyperparameters.tolist() == [0.0, 0.0]
    assert [o.steps for o in trainer.orders if o.kind == "stay"] == [50, 50, 20, 10, 10, 7]
    assert sum(n for n, _ in trainer.state) == 147
    assert steps[-1].certificate["work"] == sum(o.steps for o in trainer.orders if o.kind != "finish")


def test_the_trajectory_is_a_schedule_of_the_path(space):
    trainer = Arms(noise=0.3)
    steps = Drive(line_search(200, warmup_steps=20), {0: trainer}, space).run().steps
    assert [(10, tuple(s.hyperparameters.tolist())) for s in steps[1:]] == list(trainer.state[1:])


def test_a_budget_of_seconds_counts_the_slowest_of_those_that_work_side_by_side(space):
    for team, seconds in ((1, [40.0, 80.0, 120.0]), (3, [20.0, 40.0, 60.0, 80.0, 100.0])):
        trainers = {m: Arms(hypergradient=(1.0, -1.0)) for m in range(team)}
        steps = Drive(line_search(seconds=100.0, team=team), trainers, space).run().steps
        assert [
            s.seconds for s in steps
        ] == seconds  # ten for the stay arm, ten for each candidate or for all three


# Tests -----------------------------------------------------------------------------------------------


def test_levels_shrink_with_every_test_of_the_run(space):
    steps = Drive(line_search(noise := 300), {0: Arms(noise=0.2)}, space).run().steps
    assert noise == steps[-1].training_step
    tests = 0
    for step in steps:
        tests += int(step.certificate["candidates"])
        assert step.certificate["alpha_k"] == level_of_test(0.2, tests)
    assert tests > len(steps)


def test_noise_alone_is_accepted_in_fewer_than_alpha_of_the_runs(space):
    """Losses do not depend on the hyperparameters; 400 runs of 30 tests."""

    class Noise(Arms):
        generator = torch.Generator().manual_seed(0)

        def losses(self, u, steps, order):
            return torch.randn(self.examples, generator=self.generator)

    wrong = 0
    for _ in range(400):
        trainer = Noise(hypergradient=(1.0, 1.0), examples=30)
        steps = Drive(line_search(10 * 10, alpha=0.2), {0: trainer}, space).run().steps
        wrong += bool(accepted(steps))
    assert 0.1 < wrong / 400 < 0.2  # the levels of 30 tests sum to 0.196


def test_too_few_examples_are_refused(space):
    with pytest.raises(SettingError, match="validation_samples: must be at least 30, got 29"):
        NetworkLineSearchSettings(validation_samples=29)
    with pytest.raises(SettingError, match="29 examples judge"):
        Drive(line_search(), {0: Arms(examples=29)}, space).run()
    with pytest.raises(SettingError, match="but 200 must judge"):
        Drive(line_search(validation_samples=200), {0: Arms()}, space).run()


def test_nothing_is_ever_certified_whatever_trainers_say(space):
    drive = Drive(line_search(100, warmup_steps=10), {0: Arms()}, space).run()
    assert {step.certificate["certified"] for step in drive.steps} == {0.0}
    assert drive.last[0].message.endswith("nothing is certified")


# Teams -----------------------------------------------------------------------------------------------

ORDERS = [min, max, lambda running: sorted(running)[len(running) // 2]]


@pytest.mark.parametrize("team", [2, 3, 5])
@pytest.mark.parametrize("choose", ORDERS)
@pytest.mark.parametrize("noise", [0.0, 0.3, 1.0])
def test_a_team_takes_the_steps_of_a_single_trainer(space, team, choose, noise):
    def run(size):
        trainers = {m: Arms(noise=noise) for m in range(size)}
        return Drive(line_search(300, size, backtracks=4), trainers, space, choose).run(), trainers

    alone, single = run(1)
    together, trainers = run(team)
    assert rows(together.steps) == rows(alone.steps)
    assert {trainer.state for trainer in trainers.values()} == {single[0].state}


def test_candidates_are_trained_at_the_same_time(space):
    drive = Drive(line_search(team=3), {m: Arms(hypergradient=(1.0, -1.0)) for m in range(3)}, space)
    drive.until(lambda: len(drive.running) == 3)
    orders = [order for order, _ in drive.running.values()]
    assert [o.candidate for o in orders] == [0, 1, 2]
    assert drive.travelled == [(1, "start"), (2, "start")]
    drive.until(lambda: drive.method._hyper_step == 2)
    assert len(drive.travelled) == len(set(drive.travelled))  # no state travels twice to one trainer


def test_work_counts_all_arms(space):
    drive = Drive(line_search(100, 3), {m: Arms() for m in range(3)}, space).run()
    ordered = sum(o.steps for t in drive.trainers.values() for o in t.orders if o.kind != "finish")
    assert drive.method._work == ordered
    assert ordered > 2 * 100


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_the_candidate_of_a_lost_trainer_is_given_to_another(space, lost):
    alone = Drive(line_search(300), {0: Arms(noise=0.3)}, space).run()
    drive = Drive(line_search(300, 3), {m: Arms(noise=0.3) for m in range(3)}, space, max)
    drive.until(lambda: drive.method._hyper_step == 4 and len(drive.running) == 3)
    assert len(held(drive)) == 1
    only = held(drive) == [lost]
    if only:  # the others' candidates bring the state along
        drive.tell(next(member for member in drive.running if member != lost))
    drive.lose(lost)
    assert rows(drive.run().steps) == rows(alone.steps)


def test_a_leader_lost_before_anything_was_trained_costs_nothing(space):
    alone = Drive(line_search(100), {0: Arms()}, space).run()
    drive = Drive(line_search(100, 2), {m: Arms() for m in range(2)}, space)
    drive.ask()
    drive.lose(0)
    assert rows(drive.run().steps) == rows(alone.steps)


def alone_at_work(drive):
    """Whether one trainer trains the stay arm, from a state that it alone holds, and nobody else is busy."""
    kinds = [order.kind for order, _ in drive.running.values()]
    return kinds == ["stay"] and drive.method._hyper_step >= 3 and len(held(drive)) == 1


def held(drive):
    return drive.states.holders(drive.method._state)


def test_a_state_lost_with_its_leader_is_made_again(space):
    alone = Drive(line_search(200), {0: Arms(noise=0.3)}, space).run()
    drive = Drive(line_search(200, 2), {m: Arms(noise=0.3) for m in range(2)}, space, max)
    (leader,) = drive.until(lambda: alone_at_work(drive)).running
    drive.lose(leader)
    assert rows(drive.run().steps) == rows(alone.steps)


def test_where_it_cannot_be_made_again_the_furthest_state_takes_its_place(space):
    drive = Drive(line_search(200, 2), {m: Arms() for m in range(2)}, space, max)
    (leader,) = drive.until(lambda: alone_at_work(drive)).running
    other, u = 1 - leader, drive.method.hyperparameters
    stay = list(drive.method._states)[1]  # of the step before
    assert stay.endswith("stay")
    drive.trainers[other].kept = {stay: drive.trainers[leader].kept[stay]}
    drive.states._held = {stay: {other: 0}}
    drive.lose(leader)
    drive.until(lambda: drive.running[other][0].start == stay)
    assert torch.equal(drive.method.hyperparameters, u)
    drive.run()
    assert sum(n for n, _ in drive.trainers[other].state) == drive.steps[-1].training_step == 200
    assert [s.number for s in drive.steps] == list(range(len(drive.steps)))


def test_without_any_state_left_the_method_stops(space):
    drive = Drive(line_search(200), {0: Arms()}, space)
    drive.until(lambda: drive.method._hyper_step == 3)
    drive.trainers[0].kept.clear()  # it restarted, and there is no checkpoint
    drive.run()
    assert drive.method.stopped == "lost"
    assert drive.method.results(drive.last) == {}
    assert drive.method.message == "no trainer keeps the network of the path any more"
    assert len(drive.steps) == 3


@pytest.mark.parametrize("team", [1, 2])
def test_a_warm_up_that_is_lost_begins_again(space, team):
    drive = Drive(line_search(200, team, warmup_steps=150), {m: Arms() for m in range(team)}, space)
    drive.until(lambda: drive.method._training_step == 100)
    (leader,) = drive.running
    if team == 1:
        drive.trainers[leader].kept.clear()
    else:
        drive.lose(leader)
    drive.run()
    assert [step.training_step for step in drive.steps] == [150, 160, 170, 180, 190, 200]
    assert drive.method.stopped == "budget"


def test_a_warm_start_that_did_not_arrive_is_no_deadlock(space):
    """The leader restarts when the others ask for its state, then has it again, from its checkpoint."""
    alone = Drive(line_search(200, backtracks=4), {0: Arms(noise=0.3)}, space).run()
    drive = Drive(line_search(200, 3, backtracks=4), {m: Arms(noise=0.3) for m in range(3)}, space, max)
    drive.until(lambda: drive.method._hyper_step == 2 and len(drive.running) == 3)
    for member, (order, _) in drive.running.items():
        drive.running[member] = order, None
    assert rows(drive.run().steps) == rows(alone.steps)


def test_a_restarted_leader_that_forgot_its_state_is_helped_by_others_or_falls_back(space):
    drive = Drive(line_search(200, 2), {m: Arms() for m in range(2)}, space, max)
    (leader,) = drive.until(lambda: alone_at_work(drive)).running
    drive.trainers[leader].kept.clear()
    drive.states.forget(leader)
    drive.run()
    assert drive.method.stopped == "budget"
    assert drive.steps[-1].training_step == 200


def test_a_state_round_trip_at_any_moment_gives_the_same_trajectory(space):
    expected = Drive(line_search(200, 3), {m: Arms(noise=0.3) for m in range(3)}, space, max).run().steps
    drive = Drive(line_search(200, 3), {m: Arms(noise=0.3) for m in range(3)}, space, max)
    while not drive.method.done:
        drive.ask()
        saved = copy.deepcopy(drive.method.state_dict())
        drive.method = line_search(200, 3)
        drive.method.load_state_dict(saved)
        if not drive.method.done:
            drive.tell(max(drive.running))
    assert rows(drive.steps) == rows(expected)


# Refusals --------------------------------------------------------------------------------------------


def test_a_hyperparameter_that_is_not_smooth_is_refused_with_what_can_tune_it():
    space = Space([Hyperparameter("dropout.rate", Interval(0.0, 0.9), 0.5, tuned=True, smooth=False)])
    with pytest.raises(SettingError, match=r"^dropout.rate: .*not differentiable.*self_tuning"):
        line_search().join(0, space)


def test_a_budget_in_work_is_refused():
    with pytest.raises(SettingError, match="work"):
        NetworkLineSearch(Budget(work=100))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train_steps", 0),
        ("warmup_steps", -1),
        ("backtracks", 0),
        ("lanczos_steps", 0),
        ("system_steps", 0),
        ("checkpoint_every", 0),
        ("smallest_curvature", 0.0),
        ("smallest_move", 0.0),
        ("step", float("inf")),
        ("bound", -1.0),
        ("step_shrink", 1.0),
        ("step_growth", 0.9),
        ("alpha", 1.0),
        ("decrease", 0.0),
    ],
)
def test_settings_out_of_range_are_refused(key, value):
    with pytest.raises(SettingError, match=key):
        NetworkLineSearchSettings(**{key: value})

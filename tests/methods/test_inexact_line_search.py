"""Checks C11 to C18: certified decrease, descent, stopping, the box, and parallel equal to sequential."""

import copy
import math

import pytest
import torch
from selftune.objectives.tasks.quadratic_bilevel import QuadraticBilevel
from selftune.objectives.tasks.ridge import Ridge, RidgeRegression

from selftune.errors import SettingError
from selftune.hypergradients.implicit import implicit_hypergradient
from selftune.hypergradients.linear_solvers import ConjugateGradient
from selftune.hypergradients.lower_solvers import Newton
from selftune.hypergradients.oracle import Oracle
from selftune.listener import Listener
from selftune.methods import InexactLineSearch, InexactLineSearchSettings
from selftune.methods.reports import Diverged
from selftune.training import SmoothTrainer
from selftune.training.runner import run_in_process
from selftune.training.state_store import StateStore


def quadratic():
    return QuadraticBilevel(parameter_count=8, hyperparameter_count=4)


def ridge():
    def normal(seed, *shape):
        return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    inputs, weight = normal(0, 60, 6), normal(1, 6)
    targets = inputs @ weight + 2 * normal(2, 60)
    return RidgeRegression(*zip(inputs.split(20), targets.split(20), strict=True), groups="per_feature")


PROBLEMS = {"quadratic": quadratic, "ridge": ridge}


class Exact:
    """The true upper level and its gradient, the lower level solved to rounding."""

    def __init__(self, problem):
        self.oracle = Oracle(problem)

    def point(self, u):
        return Newton().solve(self.oracle, u, self.oracle.start_x(), 1e-12).x

    def __call__(self, u):
        return self.oracle.upper(self.point(u), u)

    def gradient(self, u):
        return implicit_hypergradient(self.oracle, self.point(u), u, ConjugateGradient(), 1e-13).value


def run(problem, team=1, order=sorted, steps=25, trainers=None, **settings):
    """Accepted steps of a team; ``order`` decides in which order reports come back."""
    trainers = trainers or {member: SmoothTrainer(problem) for member in range(team)}
    method = InexactLineSearch(steps=steps, settings=InexactLineSearchSettings(**settings), team_size=team)
    for member, trainer in trainers.items():
        method.join(member, trainer.space)
    accepted, points, states = [], [], StateStore()
    while not method.done:
        asked = method.ask()
        assert asked, "a method that is not done asks for something once every report is told"
        copies = states.copies(asked, trainers)
        reports = {member: trainers[member].execute(one, copies.get(member)) for member, one in asked.items()}
        for member, report in reports.items():
            states.did(member, asked[member], report)
        for member in order(reports):
            before = method._u
            step = method.tell(member, reports[member])
            if step is not None:
                accepted.append(step)
                points.append((before, method._u))
    return method, accepted, points


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("error", [1e-3, 0.1, 1.0])
def test_every_accepted_step_lowers_the_true_upper_level_by_what_is_certified(name, error):
    problem = PROBLEMS[name]()
    exact = Exact(problem)
    _, accepted, points = run(problem, error=error)
    assert len(accepted) > 3
    for step, (before, after) in zip(accepted, points, strict=True):
        start, end = exact(before), exact(after)
        assert end <= start - step.certificate["decrease"] + 1e-12
        assert end <= step.certificate["upper_bound"] + 1e-12


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_direction_of_every_accepted_step_descends(name):
    problem = PROBLEMS[name]()
    exact = Exact(problem)
    _, accepted, points = run(problem)
    for step, (before, _) in zip(accepted, points, strict=True):
        z, gradient = step.hypergradient, exact.gradient(before)
        assert z @ gradient >= 0.1 * (z @ z)
        assert (z - gradient).norm() <= step.certificate["hypergradient_bound"] + 1e-12


@pytest.mark.parametrize("name", PROBLEMS)
def test_without_deferral_every_accepted_direction_is_certified(name):
    _, accepted, _ = run(PROBLEMS[name](), deferred_test=False)
    assert len(accepted) > 3
    assert all(step.certificate["direction_certified"] for step in accepted)


def test_the_optimum_is_reached_and_certified():
    problem = quadratic()
    method, _, _ = run(problem, steps=300, tolerance=1e-5)
    assert method.stopped == "stationary"
    assert Exact(problem).gradient(method._u).norm() <= 1e-5
    torch.testing.assert_close(method._u, problem.optimum(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("residual", [0.1, 1e6])
def test_a_stationary_start_stops_at_once_and_a_loose_residual_does_not_look_like_one(residual):
    problem = quadratic()
    method = InexactLineSearch(steps=50, settings=InexactLineSearchSettings(residual=residual, tolerance=1e-4))
    trainer = SmoothTrainer(problem)
    method.join(0, trainer.space)
    method._u = problem.optimum()
    steps = 0
    while not method.done:
        for member, order in method.ask().items():
            steps += method.tell(member, trainer.execute(order)) is not None
    assert (method.stopped, steps) == ("stationary", 0)
    _, accepted, _ = run(problem, residual=residual)
    assert len(accepted) > 3


def test_a_box_around_the_start_ends_on_its_face():
    problem = quadratic()
    bound = 0.5 * float(problem.optimum().abs().max())
    method, _, _ = run(problem, steps=300, bound=bound, tolerance=1e-5)
    assert method.stopped == "stationary"
    assert method._u.abs().max().item() == bound
    gradient = Exact(problem).gradient(method._u)
    inside = method._u.abs() < bound
    assert gradient[inside].abs().max() < 1e-4
    on_face = ~inside
    assert (gradient[on_face] * method._u[on_face] <= 0).all()  # it would go on outwards


def test_tiny_steps_fail_until_the_accuracy_allows_them():
    problem = quadratic()
    settings = {"step": 1e-3, "barzilai_borwein": False, "backtracks": 3, "descent_test": False, "error": 10.0}
    _, accepted, _ = run(problem, steps=1, **settings)
    assert accepted[0].certificate["failed_searches"] > 0
    assert accepted[0].certificate["error_asked"] < 10.0


def test_the_same_study_gives_the_same_steps_twice():
    rows = [[s.certificate for s in run(ridge())[1]] for _ in range(2)]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("team", [2, 3, 8])
@pytest.mark.parametrize(
    "order", [sorted, lambda reports: sorted(reports, reverse=True)], ids=["in turn", "late first"]
)
def test_a_team_takes_the_steps_of_the_sequential_search(name, team, order):
    _, alone, _ = run(PROBLEMS[name]())
    _, together, _ = run(PROBLEMS[name](), team, order)
    assert [s.hyperparameters.tolist() for s in together] == [s.hyperparameters.tolist() for s in alone]
    assert [s.certificate["step"] for s in together] == [s.certificate["step"] for s in alone]


@pytest.mark.parametrize("name", PROBLEMS)
def test_early_rejection_saves_work_and_changes_no_step(name):
    results = {}
    for early in (False, True):
        method, accepted, _ = run(PROBLEMS[name](), step=100.0, barzilai_borwein=False, early_rejection=early)
        results[early] = ([s.hyperparameters.tolist() for s in accepted], method._work)
    assert results[True][0] == results[False][0]
    assert results[True][1] <= results[False][1]


def test_a_candidate_whose_trainer_is_lost_is_tried_again_elsewhere():
    class Dying(SmoothTrainer):
        orders = 0

        def execute(self, order, warm=None):
            self.orders += 1
            if self.orders == 1:  # a candidate, while member 0 holds the warm start
                return Diverged(number=order.number, message="lost")
            return super().execute(order, warm)

    problem = quadratic()
    _, alone, _ = run(problem)
    team = {0: SmoothTrainer(problem), 1: Dying(problem, member=1), 2: SmoothTrainer(problem, member=2)}
    method, accepted, _ = run(problem, 3, trainers=team)
    assert sorted(method._members) == [0, 2]
    assert [s.hyperparameters.tolist() for s in accepted] == [s.hyperparameters.tolist() for s in alone]


def test_when_everybody_is_lost_the_method_is_done():
    method = InexactLineSearch(steps=5)
    method.join(0, SmoothTrainer(quadratic()).space)
    method.ask()
    method.leave(0)
    assert method.done
    assert method.stopped == "lost"


@pytest.mark.parametrize("after", [1, 5, 17])
def test_state_round_trip_gives_the_same_steps(after):
    problem = ridge()

    def steps(interrupt):
        trainer = SmoothTrainer(problem)
        method = InexactLineSearch(steps=12)
        method.join(0, trainer.space)
        seen, rounds = [], 0
        while not method.done:
            for member, order in method.ask().items():
                step = method.tell(member, trainer.execute(order))
                seen += [step.hyperparameters.tolist()] if step else []
            rounds += 1
            if rounds == interrupt:
                method_state, trainer_state = copy.deepcopy((method.state_dict(), trainer.state_dict()))
                method, trainer = InexactLineSearch(steps=12), SmoothTrainer(problem)
                method.load_state_dict(method_state)
                trainer.load_state_dict(trainer_state)
        return seen

    assert steps(after) == steps(None)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"error": 0.0}, "error"),
        ({"residual": math.nan}, "residual"),
        ({"step": -1.0}, "step"),
        ({"step_shrink": 1.0}, "step_shrink"),
        ({"accuracy_growth": 0.5}, "accuracy_growth"),
        ({"descent": 1e-5}, "descent"),
        ({"backtracks": 0}, "backtracks"),
        ({"checkpoint_every": 0}, "checkpoint_every"),
        ({"share": 0.5}, "share"),
        ({"memory": -1}, "memory"),
        ({"tolerance": 0.0}, "tolerance"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, key):
    with pytest.raises(SettingError) as error:
        InexactLineSearchSettings(**settings)
    assert error.value.key == key


def test_a_winner_that_is_lost_before_the_search_is_decided_stalls_nothing():
    problem = quadratic()
    trainers = {member: SmoothTrainer(problem, member=member) for member in range(3)}
    settings = InexactLineSearchSettings(step=100.0, barzilai_borwein=False, memory=0, step_growth=8.0)
    method = InexactLineSearch(steps=6, settings=settings, team_size=3)
    for member, trainer in trainers.items():
        method.join(member, trainer.space)
    lost, accepted, states = None, 0, StateStore()
    while not method.done:
        asked = method.ask()
        assert asked, "nobody is left to ask"
        copies = states.copies(asked, trainers)
        reports = {member: trainers[member].execute(one, copies.get(member)) for member, one in asked.items()}
        for member, report in reports.items():
            states.did(member, asked[member], report)
        for member in sorted(reports, reverse=True):
            accepted += method.tell(member, reports[member]) is not None
            others = [report for other, report in reports.items() if other < member]
            only = bool(others) and not any(report.metrics.get("accepted") for report in others)
            if lost is None and only and reports[member].metrics.get("accepted"):
                lost = member
                method.leave(lost)
                del trainers[lost]
    assert lost is not None
    assert accepted == 6


@pytest.mark.parametrize(("seed", "reached"), [(0, 0.2919), (2, 0.1797)])
def test_weak_strengths_lead_as_low_as_the_best_sequence_of_hoag(seed, reached):
    problem = Ridge(split_seed=seed)  # 65 strengths on a logarithmic scale
    trainer = SmoothTrainer(problem)
    method = InexactLineSearch(work=3000)
    method.join(0, trainer.space)
    method._u -= 3
    exact, levels = Exact(problem), []
    while method.stopped is None:
        for member, order in method.ask().items():
            if method.tell(member, trainer.execute(order)) is not None:
                levels.append(exact(method._u))
    assert levels == sorted(levels, reverse=True)
    assert levels[-1] < reached  # of that sequence, with as much work


def test_a_hyperparameter_that_runs_ahead_does_not_hold_back_the_others():
    _, accepted, points = run(Ridge(), steps=1, step=1e3, barzilai_borwein=False, backtracks=10)
    (before, after), z = points[0], accepted[0].hypergradient
    asked = (-1e3 * z).clamp(-2, 2)
    assert (asked.abs() == 2).any()
    assert (asked.abs() < 2).any()
    shrunk = float((after - before) @ asked / (asked @ asked))
    torch.testing.assert_close(after - before, shrunk * asked)
    assert math.log2(shrunk) == pytest.approx(round(math.log2(shrunk)))


@pytest.mark.parametrize("problem", [ridge, Ridge])
def test_on_a_logarithmic_scale_nothing_moves_far_or_against_the_hypergradient(problem):
    _, accepted, points = run(problem(), steps=10)
    for step, (before, after) in zip(accepted, points, strict=True):
        moved = after - before
        assert (moved.abs() <= 2 + 1e-12).all()
        assert (moved * step.hypergradient <= 0).all()


class Stops(Listener):
    """Ends a study like a kill would, once so many steps are accepted; remembers them."""

    def __init__(self, after=None):
        self.after = after
        self.seen = []

    def hyper_step(self, step):
        if len(self.seen) == self.after:
            raise KeyboardInterrupt
        self.seen.append((step.number, step.hyperparameters.tolist(), step.certificate["work"]))


@pytest.mark.parametrize("team", [1, 3])
def test_a_search_that_was_stopped_goes_on_from_its_last_checkpoint(team, tmp_path):
    def study(listener, folder):
        trainers = {member: SmoothTrainer(ridge(), member=member) for member in range(team)}
        settings = InexactLineSearchSettings(checkpoint_every=4)
        method = InexactLineSearch(steps=12, settings=settings, team_size=team)
        run_in_process(method, trainers, listener, folder)
        return listener.seen

    whole = study(Stops(), None)
    stopped = Stops(after=7)
    with pytest.raises(KeyboardInterrupt):
        study(stopped, tmp_path)
    rest = study(Stops(), tmp_path)
    assert [number for number, *_ in rest] == list(range(4, 12))
    assert rest == whole[4:]
    assert stopped.seen == whole[:7]


def test_nothing_is_solved_in_vain_where_first_candidates_are_accepted():
    alone, steps, _ = run(quadratic())
    together, same, _ = run(quadratic(), team=8)
    assert [s.hyperparameters.tolist() for s in same] == [s.hyperparameters.tolist() for s in steps]
    assert together._ahead == max(1, round(steps[-1].certificate["candidates"]))
    assert together._work < 1.5 * alone._work


def test_a_team_tries_ahead_where_first_candidates_fail():
    settings = {"step_growth": 16.0, "barzilai_borwein": False, "memory": 0, "backtracks": 10}
    method, steps, _ = run(quadratic(), team=8, steps=8, **settings)
    assert max(s.certificate["candidates"] for s in steps) > 1
    assert method._ahead > 1

"""HOAG as a state machine: check C19, its tolerances, rollback, box, budgets and update rules."""

import copy
import math

import pytest
import torch
from selftune.objectives.tasks.quadratic_bilevel import QuadraticBilevel
from selftune.objectives.tasks.ridge import Ridge

from selftune.errors import SettingError
from selftune.hypergradients.lower_solvers import Newton
from selftune.hypergradients.oracle import Oracle
from selftune.listener import Listener
from selftune.methods import Implicit, ImplicitSettings
from selftune.methods.reports import Differentiated, SolvingFinished
from selftune.training import SmoothTrainer
from selftune.training.runner import run_in_process

UPDATES = ["hoag", "adam", "sgd", "rmsprop", "optimistic_mirror_descent"]
PROBLEMS = {
    "quadratic": lambda: QuadraticBilevel(parameter_count=8, hyperparameter_count=4),
    "ridge": lambda: Ridge(features="linear"),
}


def true_loss(problem, u):
    oracle = Oracle(problem)
    return oracle.upper(Newton().solve(oracle, u, oracle.start_x(), 1e-11).x, u)


def run(problem, work=None, steps=None, trainer=None, **settings):
    """The method, its hyper-steps, and the orders it gave."""
    trainer = trainer or SmoothTrainer(problem)
    method = Implicit(work, steps, ImplicitSettings(**settings))
    method.join(0, trainer.space)
    rows, orders = [], []
    while not method.done:
        for member, order in method.ask().items():
            orders.append(order)
            step = method.tell(member, trainer.execute(order))
            rows += [step] if step else []
    return method, rows, orders


class Scripted:
    """A trainer whose upper levels are given: a hypergradient of ones, no work."""

    def __init__(self, levels):
        self.space = Oracle(PROBLEMS["quadratic"]()).space
        self.levels = iter(levels)

    def execute(self, order):
        if order.kind == "finish":
            return SolvingFinished(number=order.number, unconstrained=order.values.unconstrained)
        return Differentiated(
            number=order.number,
            hypergradient=torch.ones(4, dtype=torch.float64),
            error=0.0,
            residual=0.0,
            bound=math.nan,
            bound_by_residual=math.nan,
            slope=1.0,
            lower_bound=0.0,
            validation_loss=next(self.levels),
            certified=False,
            work=1,
        )


@pytest.mark.parametrize("sequence", ["quadratic", "cubic", "exact"])
def test_the_optimum_of_the_quadratic_problem_is_reached(sequence):
    problem = PROBLEMS["quadratic"]()
    _, rows, _ = run(problem, steps=400, sequence=sequence)
    start, best = (true_loss(problem, u) for u in (torch.zeros(4, dtype=torch.float64), problem.optimum()))
    reached = min(true_loss(problem, row.hyperparameters) for row in rows)
    assert reached - best <= 1e-4 * (start - best)


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("update", UPDATES)
def test_every_update_rule_lowers_the_upper_level(name, update):
    problem = PROBLEMS[name]()
    settings = {} if update == "hoag" else {"learning_rate": 0.02}
    method, rows, _ = run(problem, steps=40, sequence="fixed", error=1e-3, update=update, **settings)
    assert method.stopped in ("budget", "flat")
    assert true_loss(problem, method._u) < true_loss(problem, Oracle(problem).start_u())
    assert rows[0].number == 0
    assert rows[-1].certificate["error_reached"] <= 1e-3


def test_a_rejected_step_is_taken_back_and_retried_half_as_long():
    _, _, orders = run(None, steps=3, trainer=Scripted([1.0, 2.0, 0.5, 0.4]), step=0.1)
    points = [order.values.unconstrained[0].item() for order in orders]
    assert points[:3] == pytest.approx([0.0, -0.1, -0.05])
    assert [order.start for order in orders[:3]] == [None, "0.hypergradient", "0.hypergradient"]
    assert orders[2].error == pytest.approx(0.5 * 0.1 * 0.9**2)


def test_without_rollback_a_rejected_step_is_kept_and_the_next_one_is_half_as_long():
    _, _, orders = run(None, steps=3, trainer=Scripted([1.0, 2.0, 0.5, 0.4]), step=0.1, rollback=False)
    points = [order.values.unconstrained[0].item() for order in orders]
    assert points[:3] == pytest.approx([0.0, -0.1, -0.15])


def test_a_level_that_was_seen_too_low_does_not_reject_forever():
    method, rows, _ = run(None, work=60, trainer=Scripted([0.1] + [1.0] * 80), step=0.1)
    assert method.stopped == "budget"
    assert len(rows) > 1


@pytest.mark.parametrize("update", UPDATES)
def test_no_step_leaves_the_box(update):
    problem = PROBLEMS["quadratic"]()
    bound = 0.5 * float(problem.optimum().abs().max())
    settings = {} if update == "hoag" else {"learning_rate": 0.1}
    _, _, orders = run(problem, steps=100, bound=bound, update=update, **settings)
    assert max(float(order.values.unconstrained.abs().max()) for order in orders) == pytest.approx(bound)


def test_budgets_end_the_study():
    problem = PROBLEMS["quadratic"]()
    method, rows, orders = run(problem, steps=7)
    assert (method.stopped, len(rows), orders[-1].kind) == ("budget", 7, "finish")
    method, rows, _ = run(problem, work=100)
    assert method.stopped == "budget"
    assert rows[-1].certificate["work"] < 100


def test_a_flat_upper_level_ends_the_study():
    problem = PROBLEMS["quadratic"]()
    method, _, _ = run(problem, steps=500, sequence="exact", tolerance=1e-3)
    assert method.stopped == "flat"


@pytest.mark.parametrize("level", [math.nan, 1e9])
def test_divergence_is_reported_plainly(level):
    method, rows, orders = run(None, steps=9, trainer=Scripted([1.0, level]), step=0.1)
    assert method.stopped == "diverged"
    assert "smaller steps" in method.message
    assert len(rows) == 1
    assert orders[-1].values.unconstrained.tolist() == [0.0] * 4


def test_only_the_leader_works_and_a_lost_leader_is_replaced():
    problem = PROBLEMS["quadratic"]()
    method = Implicit(steps=5, team_size=2)
    trainers = {member: SmoothTrainer(problem, member=member) for member in (0, 1)}
    for member, trainer in trainers.items():
        method.join(member, trainer.space)
    assert list(method.ask()) == [0]
    method.leave(0)
    orders = method.ask()
    assert list(orders) == [1]
    assert orders[1].start is None
    method.tell(1, trainers[1].execute(orders[1]))
    method.leave(1)
    assert (method.done, method.stopped) == (True, "lost")


def test_a_team_finishes_together():
    problem = PROBLEMS["quadratic"]()
    trainers = {member: SmoothTrainer(problem, member=member) for member in (0, 1)}
    last = run_in_process(Implicit(steps=5, team_size=2), trainers)
    assert {member: report.kind for member, report in last.items()} == {0: "finish", 1: "finish"}


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("after", [1, 4])
def test_state_round_trip_gives_the_same_steps(update, after):
    problem = PROBLEMS["quadratic"]()

    def steps(interrupt):
        def make():
            return Implicit(steps=8, settings=ImplicitSettings(update=update)), SmoothTrainer(problem)

        method, trainer = make()
        method.join(0, trainer.space)
        seen, rounds = [], 0
        while not method.done:
            for member, order in method.ask().items():
                step = method.tell(member, trainer.execute(order))
                seen += [step.hyperparameters.tolist()] if step else []
            rounds += 1
            if rounds == interrupt:
                states = copy.deepcopy((method.state_dict(), trainer.state_dict()))
                method, trainer = make()
                method.load_state_dict(states[0])
                trainer.load_state_dict(states[1])
        return seen

    assert steps(after) == steps(None)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"sequence": "linear"}, "sequence"),
        ({"update": "newton"}, "update"),
        ({"error": 0.0}, "error"),
        ({"smallest_error": math.nan}, "smallest_error"),
        ({"step": -1.0}, "step"),
        ({"step": 1.0, "update": "adam"}, "step"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"bound": math.inf}, "bound"),
        ({"tolerance": 0.0}, "tolerance"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, key):
    with pytest.raises(SettingError) as error:
        ImplicitSettings(**settings)
    assert error.value.key == key


class Stops(Listener):
    """Ends a study like a kill would, after so many steps; remembers them."""

    def __init__(self, after=None):
        self.after = after
        self.seen = []

    def hyper_step(self, step):
        if len(self.seen) == self.after:
            raise KeyboardInterrupt
        self.seen.append((step.number, step.hyperparameters.tolist(), step.certificate["work"]))


@pytest.mark.parametrize("update", UPDATES)
def test_a_study_that_was_stopped_goes_on_from_its_last_checkpoint(update, tmp_path):
    def study(listener, folder):
        settings = ImplicitSettings(update=update, checkpoint_every=4)
        trainers = {0: SmoothTrainer(PROBLEMS["ridge"]())}
        run_in_process(Implicit(steps=12, settings=settings), trainers, listener, folder)
        return listener.seen

    whole = study(Stops(), None)
    with pytest.raises(KeyboardInterrupt):
        study(Stops(after=7), tmp_path)
    rest = study(Stops(), tmp_path)
    assert 0 < rest[0][0] <= 7
    assert rest == whole[rest[0][0] :]


def test_the_checkpoints_need_a_distance():
    with pytest.raises(SettingError) as error:
        ImplicitSettings(checkpoint_every=0)
    assert error.value.key == "checkpoint_every"

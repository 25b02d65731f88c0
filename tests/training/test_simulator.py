"""The virtual clock, and what a search gains by a team."""

import itertools

import pytest
from selftune.objectives.tasks.quadratic_bilevel import QuadraticBilevel

from selftune.hyperparameters import Hyperparameter, Interval, Space
from selftune.listener import Listener
from selftune.methods import InexactLineSearch, InexactLineSearchSettings, Method, WorkOrder
from selftune.methods.reports import Diverged, Solved
from selftune.training import NoTrainerLeft, SmoothTrainer
from selftune.training.simulator import simulate
from selftune.training.team_run import Stalled

SPACE = Space([Hyperparameter("a.x", Interval(), 0.5, tuned=True)])
LONG_SEARCHES = {"step": 100.0, "step_growth": 8.0, "backtracks": 10, "barzilai_borwein": False, "memory": 0}


class Piecework(Method):
    """Hands out so many pieces of work, each to whoever is idle."""

    def __init__(self, pieces):
        self.left = pieces
        self.members = {}

    def join(self, member, space):
        self.members[member] = "idle"

    def leave(self, member):
        self.members.pop(member)

    def ask(self):
        idle = [member for member, state in self.members.items() if state == "idle"][: self.left]
        self.left -= len(idle)
        self.members |= dict.fromkeys(idle, "busy")
        return {member: WorkOrder() for member in idle}

    def tell(self, member, report):
        if report.kind == "diverged":
            return self.leave(member)
        self.members[member] = "idle"

    @property
    def done(self):
        return self.left == 0 and "busy" not in self.members.values()

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


class Worker:
    space = SPACE

    def __init__(self, member=0, diverges=False):
        self.member, self.diverges = member, diverges

    def execute(self, order, warm=None):
        if self.diverges:
            return Diverged(number=order.number, message="its loss is nan")
        return Solved(number=order.number, work=1 + self.member % 2)


def work(report):
    return report.metrics.get("work", 1.0)


def search(team, duration=work, **settings):
    problem = QuadraticBilevel(parameter_count=8, hyperparameter_count=4)
    settings = {
        "step": 100.0,
        "step_growth": 8.0,
        "backtracks": 10,
        "barzilai_borwein": False,
        "memory": 0,
    } | settings
    method = InexactLineSearch(steps=12, settings=InexactLineSearchSettings(**settings), team_size=team)
    return simulate(method, {member: SmoothTrainer(problem, member=member) for member in range(team)}, duration)


def bits(simulation):
    return [(step.hyperparameters.tolist(), step.scale.tolist()) for _, step in simulation.steps]


@pytest.mark.parametrize(("team", "pieces", "seconds"), [(1, 10, 10.0), (2, 9, 6.0), (1000, 3000, 4.0)])
def test_time_is_that_of_workers_side_by_side(team, pieces, seconds):
    simulation = simulate(Piecework(pieces), {member: Worker(member) for member in range(team)}, work)
    assert simulation.seconds == seconds
    assert len(simulation.events) == pieces
    ends = [event.end for event in simulation.events]
    assert ends == sorted(ends)


def test_each_worker_does_one_thing_at_a_time():
    simulation = simulate(Piecework(50), {member: Worker(member) for member in range(7)}, work)
    for member in range(7):
        events = [event for event in simulation.events if event.member == member]
        assert [event.report.number for event in events] == list(range(len(events)))
        for before, after in itertools.pairwise(events):
            assert after.start >= before.end


def test_work_counts_until_a_time():
    simulation = simulate(Piecework(4), {0: Worker(0)}, work)
    assert simulation.total("work") == 4.0
    assert simulation.total("work", until=2.0) == 2.0
    assert simulation.total("nothing") == 0.0


@pytest.mark.parametrize("team", [1, 2, 3, 8, 64])
def test_a_team_takes_the_steps_of_a_single_trainer_in_no_more_time(team):
    alone, together = search(1), search(team)
    assert bits(together) == bits(alone)
    # the winner of the last search is free when the next one begins, and takes its candidates in their order
    for (alone_end, _), (end, _) in zip(alone.steps, together.steps, strict=True):
        assert end <= alone_end
    assert together.total("work") >= alone.total("work")


def test_a_team_is_faster_where_searches_are_long():
    assert search(8).steps[-1][0] < 0.8 * search(1).steps[-1][0]


def test_without_speculation_a_team_gains_nothing():
    alone, together = search(1), search(4, speculate=False)
    assert [end for end, _ in together.steps] == [end for end, _ in alone.steps]
    assert bits(together) == bits(alone)


def test_order_of_reports_changes_no_step():
    durations = [work, lambda report: 1.0, lambda report: 1e3 / work(report)]
    assert len({str(bits(search(4, duration))) for duration in durations}) == 1


def test_a_simulation_is_deterministic():
    first, second = (
        [(event.member, event.start, event.end, event.report.kind) for event in search(5).events] for _ in range(2)
    )
    assert first == second


def test_a_listener_hears_everything_once():
    class Ear(Listener):
        heard = 0
        end = False

        def reported(self, member, report):
            self.heard += 1

        def ended(self):
            self.end = True

    ear = Ear()
    simulation = simulate(Piecework(5), {0: Worker(0), 1: Worker(1)}, work, ear)
    assert (ear.heard, ear.end) == (len(simulation.events), True)


def test_a_trainer_that_diverges_leaves():
    simulation = simulate(Piecework(6), {0: Worker(0), 1: Worker(1, diverges=True)}, work)
    assert [event.member for event in simulation.events].count(1) == 1
    with pytest.raises(NoTrainerLeft, match="trainer 0 stopped: its loss is nan"):
        simulate(Piecework(6), {0: Worker(0, diverges=True)}, work)


def test_a_method_that_wants_nothing_is_an_error():
    class Silent(Piecework):
        def ask(self):
            return {}

    with pytest.raises(Stalled, match="Silent is not done but asks for nothing"):
        simulate(Silent(1), {0: Worker()}, work)

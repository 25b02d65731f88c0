import pytest

from selftune.methods import Report, WorkOrder
from selftune.methods.reports import Diverged, StateMissing
from selftune.training.state_store import StateStore


def did(store, member, number, report=None, **keys):
    store.did(member, WorkOrder(number=number, **keys), report or Report())


def store():
    """Members 0 and 2 keep "a"; member 2 got it from 0."""
    made = StateStore()
    did(made, 0, 5, end="a")
    did(made, 2, 3, start="a", end="b", states=("a",))
    return made


def test_an_order_says_which_states_its_trainer_keeps():
    states = store()
    assert states.holders("a") == [0, 2]
    did(states, 2, 4, start="b", states=("b",))
    assert (states.holders("a"), states.holders("b")) == ([0], [2])
    did(states, 0, 6)
    assert not states.exists("a")
    assert states.kept_by(2) == {"b"}


def test_what_starts_from_a_state_need_not_keep_it():
    states = store()
    did(states, 1, 0, start="a")
    assert states.holders("a") == [0, 2]


@pytest.mark.parametrize("report", [StateMissing(number=6), Diverged(number=6, message="nan")])
def test_what_is_not_there_is_lost_and_with_a_member_all_of_it(report):
    states = store()
    did(states, 2, 6, report, start="a", states=("a", "b"))
    assert states.holders("a") == [0]
    assert states.holders("b") == ([2] if isinstance(report, StateMissing) else [])


def test_a_member_that_restarts_has_what_it_had_at_its_checkpoint():
    states = store()
    states.forget(0, after=5)
    states.forget(2, after=2)
    assert (states.holders("a"), states.exists("b")) == ([0], False)
    states.forget(0)
    assert states.source("a") is None


def test_a_copy_on_its_way_outlives_its_source():
    states = store()
    assert states.source("a", lambda member, number: (member, number) == (2, 3)) == 2
    states.forget(2)
    assert states.source("a") == 2
    states.did_not_arrive("a", 2)
    assert states.source("a") == 0


def test_only_the_last_two_copies_are_kept():
    states = store()
    did(states, 1, 0, end="c")
    assert [states.source(key) for key in "abc"] == [0, 2, 1]
    assert [states.is_on_its_way(key, member) for key, member in (("a", 0), ("b", 2), ("c", 1))] == [0, 1, 1]


def test_what_never_arrives_counts_as_lost_after_some_time():
    states = StateStore()
    did(states, 0, 0, end="a")
    sources = []
    while (source := states.source("a")) is not None:
        sources.append(source)
        states.did_not_arrive("a", source)
    assert sources == [0, 0, 0]
    did(states, 0, 1, end="a")
    assert states.source("a") == 0


class Keeps:
    def __init__(self, state):
        self.state, self.asked = state, 0

    def export_state(self, key):
        self.asked += 1
        return self.state


def test_states_are_copied_once_from_whoever_has_them():
    states, trainers = store(), {0: Keeps(None), 1: Keeps("no"), 2: Keeps("it")}
    orders = {0: WorkOrder(), 1: WorkOrder(start="a"), 2: WorkOrder(start="b"), 3: WorkOrder(start="a")}
    assert states.copies(orders, trainers) == {1: "it", 3: "it"}
    assert [trainers[member].asked for member in range(3)] == [1, 0, 1]
    assert states.holders("a") == [2]
    assert states.copies({1: WorkOrder(start="gone")}, trainers) == {1: None}


def test_it_goes_on_from_its_state():
    states, other = store(), StateStore()
    other.load_state_dict(states.state_dict())
    states.forget(0)
    assert other.holders("a") == [0, 2]
    other.forget(2, after=2)
    assert other.holders("a") == [0]

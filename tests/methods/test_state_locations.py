import copy

from selftune.methods.state_locations import StateLocations


def locations():
    made = StateLocations()
    made.add("0.stay", 50, 0)
    made.add("1.stay", 100, 0)
    made.add("1.stay", 100, 1)
    made.add("1.0", 100, 2)
    return made


def test_the_furthest_state_that_exists_goes_first_and_the_latest_among_equals():
    held = locations()
    assert held.furthest() == "1.0"
    held.leave(2)
    assert held.furthest() == "1.stay"
    held.leave(1)
    held.lose("1.stay", 0)
    assert held.furthest() == "0.stay"
    held.leave(0)
    assert held.furthest() is None
    assert not held.exists("0.stay")


def test_what_did_not_arrive_is_not_sent_again_but_still_held():
    held = locations()
    held.withhold("0.stay", 0)
    held.withhold("unknown", 0)
    assert held.source("0.stay") is None
    assert held.exists("0.stay")
    assert held.holds(0, "0.stay")
    assert held.source("1.stay") == 0  # another state of the same member


def test_only_retained_states_stay_known():
    held = locations()
    held.retain(["1.0"])
    assert held.keys == ("1.0",)
    assert held.source("1.stay") is None
    held.lose("1.stay", 0)  # of a state that is no longer known: nothing to do


def test_a_copy_goes_its_own_way():
    held = locations()
    other = copy.deepcopy(held)
    other.leave(0)
    assert held.holds(0, "0.stay")

import pytest

from selftune.schedulers.slots import shortage, slots


@pytest.mark.parametrize(
    ("request_", "nodes", "fits"),
    [
        ({"CPU": 1}, [{"CPU": 2}], 2),
        ({"CPU": 0.1}, [{"CPU": 1}], 10),
        ({"CPU": 2}, [{"CPU": 3}, {"CPU": 3}], 2),
        ({"CPU": 1, "GPU": 0.5}, [{"CPU": 8, "GPU": 1}, {"CPU": 8}], 2),
        ({"CPU": 1, "GPU": 0}, [{"CPU": 2}], 2),
        ({"CPU": 1, "GPU": 1}, [{"CPU": 8}], 0),
    ],
)
def test_trials_do_not_span_nodes(request_, nodes, fits):
    assert slots(request_, nodes) == fits


def test_a_trial_that_asks_for_nothing_is_refused():
    with pytest.raises(ValueError, match="must ask for some resource"):
        slots({"CPU": 0}, [{"CPU": 1}])


def test_shortage_names_what_is_asked_for_and_what_there_is():
    nodes = [{"CPU": 1}, {"CPU": 1}]
    assert shortage({"CPU": 2}, 1, nodes) == "asked for 2 cpus, the cluster has 2 cpus on 2 nodes"

import collections

import pytest
import torch

from selftune.training.kept_states import KeptStates


def test_states_are_copies_in_every_direction():
    weights = torch.zeros(2)
    kept = KeptStates()
    kept.keep("a", {"w": weights, "o": [{"m": weights}]})
    for out in (kept.get("a"), kept.export("a")):
        out["w"] += 1
        out["o"][0]["m"] += 1
    weights += 1
    assert torch.equal(kept.get("a")["w"], torch.zeros(2))
    assert torch.equal(kept.get("a")["o"][0]["m"], torch.zeros(2))


def test_an_export_holds_plain_containers_with_tensors_on_the_cpu():
    kept = KeptStates()
    state = collections.OrderedDict(w=torch.ones(1), steps=3, groups=[(0.1, torch.ones(2))])
    kept.keep("a", {"network": state})
    exported = kept.export("a")["network"]
    assert exported["steps"] == 3
    assert exported["w"].device.type == exported["groups"][0][1].device.type == "cpu"


def test_what_is_not_kept_is_not_there():
    kept = KeptStates()
    for key in "abc":
        kept.keep(key, {})
    kept.retain(["b", "unknown"])
    assert [key in kept for key in "abc"] == [False, True, False]
    assert kept.export("a") is None
    with pytest.raises(KeyError):
        kept.get("a")


def test_a_loaded_state_is_independent_of_the_saved_one():
    kept, other = KeptStates(), KeptStates()
    kept.keep("a", {"w": torch.zeros(1)})
    saved = kept.state_dict()
    other.load_state_dict(saved)
    saved["a"]["w"] += 1
    assert torch.equal(other.get("a")["w"], torch.zeros(1))

import copy
import json
from collections import OrderedDict, deque
from dataclasses import dataclass

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from selftune.storage.files import DamagedFile
from selftune.storage.state_file import FORMATS, load_state, save_state
from selftune.storage.state_tree import record

DTYPES = (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool, torch.complex64,
)  # fmt: skip


@record
@dataclass
class Point:
    u: torch.Tensor
    level: float


class Odd:
    pass


def again(path, state, given=None):
    save_state(path, state, "test", given)
    return load_state(path, "test", given)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.safetensors"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3, 4)], ids=str)
def test_tensors_come_back_bit_for_bit(path, dtype, shape):
    bits = torch.randint(0, 2 if dtype == torch.bool else 256, (*shape, dtype.itemsize), dtype=torch.uint8)
    tensor = bits.view(dtype).reshape(shape)
    there = again(path, {"it": tensor})["it"]
    assert there.dtype == dtype
    assert there.shape == shape
    assert torch.equal(there.reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8))


def test_values_and_containers_come_back_as_they_were(path):
    state = {
        "numbers": [0, -1, 2**70, 0.1, -0.0, 1e-320, float("inf"), -float("inf"), True, None],
        "text": ["", "ü\n\"'", "a.b"],
        "keys": {1: "one", (0, "1.trial"): 2, None: 3, 0.5: 4, "dict": {"tuple": [1]}},
        "tuple": ((1, (2,)), []),
        "set": {1, 2},
        "frozen": frozenset({"a"}),
        "ordered": OrderedDict(b=1, a=2),
        "deque": deque([1, 2], maxlen=3),
        "bytes": b"\x00\xff",
        "dtype": torch.bfloat16,
        "size": torch.Size([2, 3]),
        "array": np.arange(6.0).reshape(2, 3),
        "empty": {},
    }
    there = again(path, state)
    array, expected = there.pop("array"), state.pop("array")
    assert np.array_equal(array, expected)
    assert there == state
    assert [type(entry) for entry in there["numbers"]] == [type(entry) for entry in state["numbers"]]
    assert str(there["numbers"][4]) == "-0.0"
    assert there["deque"].maxlen == 3
    assert list(there["keys"]) == list(state["keys"])
    assert np.isnan(again(path, float("nan")))


def test_states_of_modules_optimizers_and_generators(path):
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2))
    network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), amsgrad=True)
    network(torch.randn(3, 1, 4, 4)).sum().backward()
    optimizer.step()
    generator = torch.Generator().manual_seed(3)
    state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "draws": generator.get_state()}
    there = again(path, state)
    assert there["network"]._metadata == state["network"]._metadata
    for name, tensor in state["network"].items():
        assert torch.equal(there["network"][name], tensor)
        assert there["network"][name].stride() == tensor.stride()
    fresh = torch.optim.Adam(network.parameters(), amsgrad=True)
    fresh.load_state_dict(there["optimizer"])
    assert str(fresh.state_dict()) == str(optimizer.state_dict())
    assert torch.equal(there["draws"], generator.get_state())


def test_tied_tensors_are_stored_once_and_stay_tied(path):
    weight = torch.randn(5, 5)
    there = again(path, {"encoder": weight, "decoder": {"weight": weight.view(5, 5)}, "row": weight[0]})
    assert sorted(safetensors.torch.load_file(path)) == ["encoder", "row"]
    there["encoder"][1] = 7
    assert torch.equal(there["decoder"]["weight"], there["encoder"])
    assert torch.equal(there["row"], weight[0])


def test_parameters_and_what_requires_a_gradient(path):
    state = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2), False), torch.ones(2, requires_grad=True)]
    there = again(path, state)
    assert [type(entry) for entry in there] == [type(entry) for entry in state]
    assert [entry.requires_grad for entry in there] == [True, False, True]


def test_records_and_what_both_sides_have(path):
    class Shared:
        def __eq__(self, other):
            return isinstance(other, Shared)

        __hash__ = None

    mine = Shared()
    there = again(path, {"point": Point(torch.ones(1), 0.5), "space": Shared()}, {"space": mine})
    assert there["space"] is mine
    assert there["point"].level == 0.5
    assert torch.equal(there["point"].u, torch.ones(1))


def test_the_state_is_not_changed_by_saving_it(path):
    state = {"weights": torch.randn(4).requires_grad_(), "many": [torch.arange(3)[1:]]}
    before = copy.deepcopy(state)
    save_state(path, state, "test")
    assert str(state) == str(before)


@pytest.mark.parametrize("odd", [Odd(), Odd, print, torch.Generator(), np.array(["a"]), torch.eye(2).to_sparse()])
def test_what_no_file_holds_is_refused_with_its_place(path, odd):
    with pytest.raises(TypeError, match=r"trainers\.0\.kept\.1 is a"):
        save_state(path, {"trainers": {0: {"kept": [1, odd]}}}, "test")
    assert not path.exists()


def test_two_records_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two records are named Point"):
        record(type("Point", (), {"__module__": "elsewhere"}))


# Damage ----------------------------------------------------------------------------------------------


def test_no_byte_changes_unnoticed(path):
    save_state(path, {"step": 12, "weights": torch.randn(7), "mask": torch.ones(3, dtype=torch.bool)}, "test")
    content, right = path.read_bytes(), str(load_state(path, "test"))
    for at in range(len(content)):
        for bit in (0x01, 0x80):
            path.write_bytes(content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :])
            try:
                assert str(load_state(path, "test")) == right
            except DamagedFile as error:
                assert str(path) in str(error)  # noqa: PT017


def test_no_length_is_read_but_the_whole(path):
    save_state(path, {"step": 12, "weights": torch.randn(7)}, "test")
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(DamagedFile, match="is damaged"):
            load_state(path, "test")


def test_other_kinds_versions_and_pickles_are_refused(path, monkeypatch):
    save_state(path, {"step": 1}, "network")
    with pytest.raises(DamagedFile, match="holds a network where a test belongs"):
        load_state(path, "test")
    with monkeypatch.context() as patched:
        patched.setitem(FORMATS, "test", 9)
        save_state(path, {"step": 1}, "test")
    with pytest.raises(DamagedFile, match="has format 9, and this version of selftune reads 1"):
        load_state(path, "test")
    torch.save({"step": 1}, path)
    with pytest.raises(DamagedFile, match="was not written by selftune"):
        load_state(path, "test")
    safetensors.torch.save_file({"a": torch.ones(1)}, path)
    with pytest.raises(DamagedFile, match="was not written by selftune"):
        load_state(path, "test")


def test_a_file_builds_no_class_but_records(path, monkeypatch):
    tree = {"record": "Popen", "fields": {"dict": {"args": "true"}}}
    monkeypatch.setattr("selftune.storage.state_file.packed", lambda state, tensors, given: tree)
    save_state(path, None, "test")
    assert json.loads(safetensors.safe_open(path, "pt").metadata()["state"]) == tree
    with pytest.raises(DamagedFile, match="another version"):
        load_state(path, "test")

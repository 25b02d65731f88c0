import pytest
from torch import nn

from selftune.errors import SettingError
from selftune.lower_level.parameter_groups import norms_and_biases, parameter_groups


class RMSNormOfMine(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(nn.init.ones_(nn.Linear(2, 2).weight))


def test_norms_of_any_shape_and_biases_of_any_name_are_found():
    network = nn.ModuleDict(
        {
            "mine": RMSNormOfMine(),
            "attention": nn.MultiheadAttention(4, 2),
            "lstm": nn.LSTM(2, 2),
            "embedding": nn.Embedding(3, 2),
        }
    )
    others = {name for name, _ in network.named_parameters()} - norms_and_biases(network)
    assert others == {
        "attention.in_proj_weight",
        "attention.out_proj.weight",
        "lstm.weight_ih_l0",
        "lstm.weight_hh_l0",
        "embedding.weight",
    }


def test_the_first_pattern_that_matches_counts_and_the_others_come_first():
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    groups = parameter_groups(network, network.parameters(), {"1.w*": {"lr": 1.0}, "*bias": {"lr": 2.0}})
    names = {parameter: name for name, parameter in network.named_parameters()}
    assert [([names[p] for p in group["params"]], group.get("lr")) for group in groups] == [
        (["0.weight"], None),
        (["1.weight"], 1.0),
        (["0.bias", "1.bias"], 2.0),
    ]


def test_a_pattern_can_say_what_norms_and_biases_decay_by():
    network = nn.Linear(2, 2)
    groups = parameter_groups(network, network.parameters(), {"bias": {"weight_decay": 0.5}}, undecayed=True)
    assert [group.get("weight_decay") for group in groups] == [None, 0.5]


def test_a_pattern_for_nothing_is_refused():
    network = nn.Linear(2, 2)
    with pytest.raises(SettingError, match="names like weight, bias") as error:
        parameter_groups(network, network.parameters(), {"head.*": {}})
    assert error.value.key == "groups.head.*"

import torch
from rounding import rounding
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from selftune.training.weight_average import WeightAverage


def test_it_is_torchs():
    network = nn.Linear(3, 2)
    model, average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.7)), None
    average = WeightAverage(dict(network.named_parameters()), 0.7)
    for seed in range(4):
        with torch.no_grad():
            network.weight.add_(torch.randn(2, 3, generator=torch.Generator().manual_seed(seed)))
        model.update_parameters(network)
        average.update()
    with average.in_place():
        assert torch.equal(network.weight, model.module.weight)


def test_without_a_step_the_network_is_as_it_is():
    weight = torch.ones(2)
    average = WeightAverage({"weight": weight}, 0.9)
    with average.in_place():
        assert weight.tolist() == [1, 1]
    assert average.state_dict() == {"average": None}


def test_of_half_precision_it_is_in_float32():
    weight = torch.ones(1, dtype=torch.bfloat16)
    average = WeightAverage({"weight": weight}, 0.999)
    average.update()
    weight.fill_(2)
    for _ in range(100):
        average.update()
    (kept,) = average.state_dict()["average"].values()
    assert kept.dtype == torch.float32
    assert abs(float(kept) - (2 - 0.999**100)) < rounding(2, 1000, torch.float32)


def test_a_loaded_state_is_a_copy():
    weight = torch.ones(1)
    average, other = (WeightAverage({"weight": weight}, 0.5) for _ in range(2))
    average.update()
    other.load_state_dict(average.state_dict())
    weight.fill_(3)
    other.update()
    assert float(average.state_dict()["average"]["weight"]) == 1
    assert float(other.state_dict()["average"]["weight"]) == 2

import pytest
import torch
from rounding import rounding
from selftune.objectives.tasks.digits import Digits
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from selftune import Classification, Optimization
from selftune.methods.values import Values
from selftune.methods.work_orders import FinishTraining, FollowSchedule
from selftune.training import Trainer
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


@pytest.mark.parametrize("spoilt", ["average", "weights"])
@pytest.mark.parametrize(("metric", "mode"), [("validation_loss", "min"), ("validation_accuracy", "max")])
def test_the_best_network_has_the_weights_or_their_average_whichever_is_better(spoilt, metric, mode):
    data = Digits().splits()
    pairs = [(split["inputs"], split["labels"]) for split in data.values()]
    optimization = Optimization(optimizer="adam", learning_rate=0.003, average=0.9)
    trainer = Trainer(Classification(lambda: nn.Linear(64, 10), *pairs, optimization), [])
    trainer.execute(FollowSchedule(segments=((60, torch.empty(0)),)))
    average = trainer.lower.descent.average._average
    with torch.no_grad():
        for tensor in (trainer.lower.parameters if spoilt == "weights" else average).values():
            tensor.neg_()
    trainer._keep_best(Values(torch.empty(0), torch.empty(0), 0))
    there = trainer._plain_state(None, averaged=spoilt == "weights")
    wanted = {name: tensor.clone() for name, tensor in there.items()}
    trainer.execute(FollowSchedule(segments=((5, torch.empty(0)),)))
    report = trainer.execute(FinishTraining(metric=metric, mode=mode))
    assert all(torch.equal(report.best_network[name], tensor) for name, tensor in wanted.items())
    assert report.best_measures == trainer.evaluated(trainer._built(wanted))

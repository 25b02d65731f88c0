"""Parts of a batch with one example, on which norm layers cannot train, are refused before anything starts."""

import pytest
import torch
from method_runs import convolutional, perceptron, task
from torch import nn

from selftune import Tune, tune
from selftune.errors import SettingError
from selftune.methods.work_orders import FollowSchedule
from selftune.regularization.regularizer import regularizers
from selftune.training import Trainer

TUNED = {"label_smoothing": {"epsilon": Tune(0.1)}}


def normed():
    return perceptron(lambda: nn.BatchNorm1d(16))


def frozen():
    network = normed()
    network[1].eval()
    return network


@pytest.mark.parametrize(("name", "workers"), [("coordinate_median", 16), ("mean_aggregation", 9), ("krum", 16)])
def test_workers_with_one_example_are_refused_under_batch_norm(name, workers):
    with pytest.raises(
        SettingError, match=r"set it to 8 or less, or batch_size to .* does not train on single examples"
    ) as e:
        tune(task(normed), {**TUNED, name: {"workers": workers}}, steps=10, warmup_steps=4)
    assert e.value.key.endswith(f"{name}.workers")


@pytest.mark.parametrize("build", [perceptron, frozen])
def test_where_nothing_needs_two_examples_they_train(build):
    trainer = Trainer(task(build), [regularizers["coordinate_median"](workers=16)])
    assert trainer.execute(FollowSchedule(segments=((2, torch.empty(0)),))).kind == "replay"


def test_batches_of_one_example_are_refused_under_batch_norm():
    with pytest.raises(SettingError, match="is 1, but the network does not train on single examples"):
        task(normed, batch_size=1)
    tune(task(frozen, batch_size=1), TUNED, steps=10, warmup_steps=4)


def test_statistics_over_the_places_of_one_image_are_statistics():
    build = lambda: nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), *convolutional()[2:4], nn.Linear(8, 3))  # noqa: E731
    trainer = Trainer(task(build, (2, 6, 6)), [regularizers["coordinate_median"](workers=16)])
    assert trainer.execute(FollowSchedule(segments=((1, torch.empty(0)),))).kind == "replay"

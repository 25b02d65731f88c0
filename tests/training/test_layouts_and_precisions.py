"""Networks of kinds that people bring train under every method, to what they should."""

import pytest
import torch
from method_runs import METHODS, convolutional, perceptron, run, task
from orders import with_response

from selftune import Tune
from selftune.methods import Response
from selftune.methods.work_orders import FollowSchedule
from selftune.regularization.regularizer import regularizers
from selftune.training import Trainer

AGGREGATORS = ["mean_aggregation", "coordinate_median", "krum"]


def weights(network):
    return torch.cat([p.detach().double().flatten() for p in network.parameters()])


# Memory formats ---------------------------------------------------------------------------------------


def in_both_formats():
    for memory_format in (torch.contiguous_format, torch.channels_last):
        yield task(lambda: convolutional(memory_format, torch.float64), (2, 6, 6), torch.float64)  # noqa: B023


@pytest.mark.parametrize("label", METHODS)
def test_channels_last_trains_as_contiguous_does(label):
    first, second = (weights(run(objective, label).network) for objective in in_both_formats())
    torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-5)  # hyperparameters are float32


@pytest.mark.parametrize("name", AGGREGATORS)
def test_aggregated_steps_are_the_same_in_either_memory_format(name):
    ends = []
    for objective in in_both_formats():
        trainer = Trainer(objective, [regularizers[name]()])
        trainer.execute(FollowSchedule(segments=((4, torch.empty(0)),)))
        ends.append(weights(trainer.lower.network))
    torch.testing.assert_close(*ends, rtol=1e-10, atol=1e-10)


# Precisions -------------------------------------------------------------------------------------------

PRECISIONS = [torch.float64, torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.full)]


def typed(dtype):
    return task(lambda: perceptron().to(dtype), dtype=dtype)


@pytest.mark.parametrize("label", METHODS)
@pytest.mark.parametrize("dtype", PRECISIONS)
def test_other_precisions_train_to_about_the_loss_of_float32(label, dtype):
    expected, result = run(typed(torch.float32), label), run(typed(dtype), label)
    assert all(p.dtype == dtype for p in result.network.parameters())
    for name in ("validation_loss", "test_loss"):  # from about 1.2 at the start
        assert abs(result.metrics[name] - expected.metrics[name]) < 0.05
    moved = [0.1 - end.hyperparameters["label_smoothing.epsilon"] for end in (expected, result)]
    assert all(abs(move) < 0.08 for move in moved)


def test_losses_of_half_precision_have_more_than_two_digits():
    metrics = run(typed(torch.bfloat16), "implicit").metrics
    loss = torch.tensor(metrics["validation_loss"], dtype=torch.float64)
    assert loss.bfloat16().double() != loss
    right = metrics["validation_accuracy"] * 96
    assert abs(right - round(right)) < 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("tune_scale", [True, False])
def test_the_response_is_kept_in_a_precision_that_holds_it(dtype, tune_scale):
    trainer = Trainer(typed(dtype), [regularizers["label_smoothing"](epsilon=Tune(0.1))])
    settings = vars(Response(learning_rate=0.01))
    report = trainer.execute(with_response(trainer, settings, tune_scale=tune_scale))
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    assert {p.dtype for p in trainer.estimator.response.parameters()} == {wide}
    assert all(tensor.dtype == torch.float32 for tensor in report.tensors.values())
    assert report.tensors["hypergradient"] != 0

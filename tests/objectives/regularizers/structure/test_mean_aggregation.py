import torch
from selftune.objectives.regularizers.structure.mean_aggregation import mean_aggregation

from selftune.regularization.regularizer import regularizers


def test_is_the_gradient_on_the_joint_batch_when_weighted_by_sample_counts(randn):
    x, y, w = randn(10, 3), randn(10), randn(3).requires_grad_()

    def gradient(rows):
        return torch.autograd.grad((x[rows] @ w - y[rows]).square().mean(), w)[0]

    shards = [slice(0, 2), slice(2, 5), slice(5, 10)]
    aggregated = mean_aggregation(torch.stack([gradient(rows) for rows in shards]), torch.tensor([2, 3, 5]))
    torch.testing.assert_close(aggregated, gradient(slice(None)))


def test_is_unweighted_by_default_and_linear(randn):
    a, b = randn(4, 3), randn(4, 3)
    torch.testing.assert_close(mean_aggregation(a), a.sum(0) / 4)
    weights = torch.tensor([1.0, 2.0, 0.0, 5.0], dtype=torch.float64)
    torch.testing.assert_close(
        mean_aggregation(2 * a - 3 * b, weights),
        2 * mean_aggregation(a, weights) - 3 * mean_aggregation(b, weights),
    )


def test_one_worker_moves_the_mean_arbitrarily_far(randn):
    gradients = randn(5, 3)
    gradients[2] = 1e9
    assert mean_aggregation(gradients).min() > 1e8


def test_training_on_the_mean_of_parts_is_plain_training(trainer):
    parts = trainer(regularizers["mean_aggregation"](workers=4), steps=5)
    plain = trainer(steps=5)
    for name, tensor in plain.lower.parameters.items():
        torch.testing.assert_close(parts.lower.parameters[name], tensor)

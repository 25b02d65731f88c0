import pytest
import torch
from selftune.objectives.functional import nested_dropout

from selftune.regularization.regularizer import regularizers

pytestmark = pytest.mark.usefixtures("double")


def kept(uniform, width=8, **distribution):
    return int(nested_dropout(torch.ones(1, width), torch.tensor(uniform), **distribution).sum())


def test_infinite_std_is_uniform():
    counts = torch.tensor([kept(u, std=float("inf")) for u in torch.arange(0.0625, 1, 0.125).tolist()])
    assert counts.tolist() == list(range(1, 9))


def test_k_is_the_smallest_with_cumulative_probability_above_the_draw():
    probability = torch.tensor([torch.exp(torch.tensor(-(((k - 2) / 1.5) ** 2))) for k in range(1, 9)])
    cumulative = (probability / probability.sum()).cumsum(0)
    draws = torch.rand(200).sort().values
    counts = [kept(u, mean=2.0, std=1.5) for u in draws.tolist()]
    assert counts == [int((cumulative <= u).sum()) + 1 for u in draws]
    assert counts == sorted(counts)


def test_the_ends():
    assert kept(0.0) == 1
    assert kept(1 - 1e-16) == 8
    assert kept(0.5, width=1) == 1


def test_zeros_are_exactly_the_tail_and_gradients_reach_the_head_only():
    features = torch.randn(3, 8, requires_grad=True)
    out = nested_dropout(features, torch.tensor(0.5), std=float("inf"))
    assert torch.equal(out[:, :5], features[:, :5])
    assert (out[:, 5:] == 0).all()
    (gradient,) = torch.autograd.grad(out.sum(), features)
    assert torch.equal(gradient, (torch.arange(8) < 5).double().expand(3, 8))


def test_half_precision_counts_like_double():
    features = torch.ones(1, 512)
    for uniform in torch.rand(20):
        exact = nested_dropout(features, uniform, std=float("inf")).sum()
        half = nested_dropout(features.bfloat16(), uniform, std=float("inf"))
        assert half.dtype == torch.bfloat16
        assert abs(int(half.double().sum()) - int(exact)) <= 1


def test_the_exported_network_keeps_the_fewest_of_the_best_features(lab):
    trainer = lab.train([regularizers["nested_dropout"](std=4.0, truncate=True)], 40)
    network, exported = trainer.lower.network.eval(), trainer.plain_network()
    features = network[:4](lab.vectors).detach()
    hits = []
    for k in range(1, 9):
        logits = features[:, :k] @ network[4].weight[:, :k].T + network[4].bias
        hits.append(int((logits.argmax(dim=1) == lab.labels).sum()))
    best = 1 + hits.index(max(hits))
    assert torch.equal(exported[4].weight[:, :best], network[4].weight[:, :best])
    assert (exported[4].weight[:, best:] == 0).all()


def test_only_the_head_of_the_features_is_seen(lab):
    trainer = lab.train([regularizers["nested_dropout"](std=1e-3)], 0)  # k = 1, always
    loss, _ = lab.perturbed_loss(trainer, 0)
    (gradient,) = torch.autograd.grad(loss, trainer.lower.network[4].weight)
    assert (gradient[:, 1:] == 0).all()
    assert (gradient[:, 0] != 0).any()

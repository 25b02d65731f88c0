import torch
from selftune.objectives.regularizers.structure.low_rank_adaptation import LowRankAdaptation, low_rank_adaptation


def test_starts_at_the_pretrained_weight(randn):
    weight = randn(5, 4)
    assert torch.equal(low_rank_adaptation(weight, torch.zeros(5, 2).double(), randn(2, 4), alpha=16.0), weight)


def test_update_is_scaled_and_of_low_rank(randn):
    weight, up, down, x = randn(5, 4), randn(5, 2), randn(2, 4), randn(3, 4)
    adapted = low_rank_adaptation(weight, up, down, alpha=torch.tensor(16.0))
    assert torch.linalg.matrix_rank(adapted - weight) == 2
    torch.testing.assert_close(x @ adapted.T, x @ weight.T + 8 * (x @ down.T) @ up.T)


def test_gradients_reach_the_factors_only(randn):
    weight, up, down = (randn(*shape).requires_grad_() for shape in ((5, 4), (5, 2), (2, 4)))
    value = low_rank_adaptation(weight, up, down, alpha=4.0).sum()
    to_weight, to_up, to_down = torch.autograd.grad(value, (weight, up, down), allow_unused=True)
    assert to_weight is None
    torch.testing.assert_close(to_up, 2 * down.detach().sum(1).expand(5, 2))
    torch.testing.assert_close(to_down, 2 * up.detach().sum(0)[:, None].expand(2, 4))


def test_only_the_factors_and_the_other_layers_are_trained(trainer, objective, go_on):
    adapted, plain = trainer(LowRankAdaptation(rank=2)), trainer()
    inputs = objective.splits()["test"]["inputs"]
    assert torch.equal(adapted.lower.network(inputs), plain.lower.network(inputs))
    start = plain.lower.network[0].weight.detach().clone()
    go_on(adapted, 5)
    assert torch.equal(adapted.lower.parameters["0.parametrizations.weight.original"], start)
    merged = adapted.plain_network()
    assert torch.linalg.matrix_rank(merged[0].weight - start, rtol=1e-4) == 2
    torch.testing.assert_close(merged(inputs), adapted.lower.network.eval()(inputs), atol=1e-5, rtol=1e-5)
    assert not torch.equal(merged[4].weight, plain.lower.network[4].weight)

import math

import pytest
import torch
from selftune.objectives.functional import stochastic_depth

from selftune.regularization.regularizer import regularizers

pytestmark = pytest.mark.usefixtures("double")


def test_whole_examples_are_kept_or_dropped():
    residual, uniform = torch.randn(4, 3, 2), torch.tensor([0.1, 0.3, 0.29, 0.9])
    out = stochastic_depth(residual, uniform, 0.3)
    assert (out[[0, 2]] == 0).all()
    torch.testing.assert_close(out[[1, 3]], residual[[1, 3]] / 0.7)
    assert torch.equal(stochastic_depth(residual, uniform, 0.0), residual)


def test_expectation_is_the_residual():
    residual = torch.randn(3)
    draws = stochastic_depth(residual.expand(20_000, 3), torch.rand(20_000), 0.4)
    error = (draws.mean(dim=0) - residual).abs()
    assert (error < 3.5 * draws.std(dim=0) / math.sqrt(20_000)).all()


def test_a_rate_per_example():
    out = stochastic_depth(torch.ones(2, 2), torch.full((2,), 0.5), torch.tensor([0.2, 0.6]))
    assert out.tolist() == [[1.25, 1.25], [0.0, 0.0]]


@pytest.mark.parametrize(("rule", "shares"), [("linear", [0.5, 1.0]), ("constant", [1.0, 1.0])])
def test_rates_grow_with_depth_under_the_linear_rule(lab, rule, shares):
    trainer = lab.train([regularizers["stochastic_depth"](rule=rule)], 0, kind="images")
    hooks = [next(iter(trainer.lower.network[at].branch._forward_hooks.values())) for at in (3, 4)]
    assert [hook.share for hook in hooks] == shares


def test_a_skipped_branch_learns_nothing_from_the_example(lab):
    trainer = lab.train([regularizers["stochastic_depth"](rate=0.95, rule="constant")], 0, kind="images")
    weight = trainer.lower.network[4].branch.weight
    gradients = [torch.autograd.grad(lab.perturbed_loss(trainer, n)[0], weight)[0] for n in range(6)]
    assert any((gradient == 0).all() for gradient in gradients)

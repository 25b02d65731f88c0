import pytest
import torch
from selftune.objectives.diagnostics.softmax_collapse import softmax_collapse


@pytest.fixture
def logits():
    return torch.randn(200, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_grows_with_the_scale_from_zero_to_one(logits):
    shares = [softmax_collapse(scale * logits) for scale in (0.0, 1.0, 10.0, 30.0, 1e6)]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] == 1
    assert 0 < shares[2] < shares[3] < 1


def test_more_precision_collapses_less(logits):
    shares = [softmax_collapse(20 * logits, precision=p) for p in (torch.float64, torch.float32, torch.float16)]
    assert shares[0] < shares[1] < shares[2]


@pytest.mark.parametrize(("precision", "gap"), [(torch.float32, 17.0), (torch.float64, 37.0)])
def test_collapses_where_the_gradient_vanishes(precision, gap):
    logits = torch.tensor([[gap - 2, 0.0], [gap + 2, 0.0]], dtype=precision, requires_grad=True)
    assert softmax_collapse(logits, precision=precision) == 0.5
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 0]))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient[:, 0].ne(0).tolist() == [True, False]

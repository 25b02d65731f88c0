import pytest
import torch
from rounding import rounding
from selftune.objectives.regularizers.adaptation.prediction_distillation import prediction_distillation

OLD = torch.tensor([True, False, True, True])
LINKS = pytest.mark.parametrize("link", ["softmax", "sigmoid"])


def test_softmax_over_old_classes(draw):
    logits, old_logits = draw(3, 4), draw(3, 4)
    q, p = ((z[:, OLD] / 3).softmax(1) for z in (old_logits, logits))
    torch.testing.assert_close(prediction_distillation(logits, old_logits, OLD, 3.0), -(q * p.log()).sum(1))


def test_sigmoid_of_every_old_class(draw):
    logits, old_logits = draw(3, 4), draw(3, 4)
    q, p = ((z[:, OLD] / 3).sigmoid() for z in (old_logits, logits))
    expected = -(q * p.log() + (1 - q) * (1 - p).log()).sum(1)
    torch.testing.assert_close(prediction_distillation(logits, old_logits, OLD, 3.0, "sigmoid"), expected)


@LINKS
def test_smallest_at_equal_logits(draw, link):
    old_logits = draw(1, 4)
    logits = old_logits.clone().requires_grad_()
    value = prediction_distillation(logits, old_logits, OLD, link=link)
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert gradient.abs().max() < rounding()
    around = prediction_distillation(old_logits + 0.3 * draw(100, 4), old_logits.expand(100, 4), OLD, link=link)
    assert (around >= value).all()
    if link == "softmax":
        shifted = prediction_distillation(old_logits + 5, old_logits, OLD)
        torch.testing.assert_close(shifted, value.detach())


@LINKS
def test_gradients_reach_old_classes_of_the_new_model_only(draw, link):
    logits, old_logits = draw(3, 4).requires_grad_(), draw(3, 4).requires_grad_()
    prediction_distillation(logits, old_logits, OLD, link=link).sum().backward()
    assert old_logits.grad is None
    assert not logits.grad[:, ~OLD].any()
    assert logits.grad[:, OLD].all()


@LINKS
def test_temperature_per_example_and_derivatives(draw, link):
    logits, old_logits = draw(2, 4).requires_grad_(), draw(2, 4)
    temperature = torch.tensor([1.0, 4.0], dtype=torch.float64, requires_grad=True)
    value = prediction_distillation(logits, old_logits, OLD, temperature, link)
    torch.testing.assert_close(value[1:], prediction_distillation(logits[1:], old_logits[1:], OLD, 4.0, link))
    assert torch.autograd.gradcheck(
        lambda z, t: prediction_distillation(z, old_logits, OLD, t, link), (logits, temperature)
    )


@LINKS
def test_nothing_old_costs_nothing(draw, link):
    logits = draw(2, 4).requires_grad_()
    value = prediction_distillation(logits, draw(2, 4), torch.zeros(4, dtype=torch.bool), link=link)
    value.sum().backward()
    assert not value.any()
    assert not logits.grad.any()


def test_refuses_another_link(draw):
    with pytest.raises(ValueError, match="link must be"):
        prediction_distillation(draw(2, 4), draw(2, 4), OLD, link="probit")

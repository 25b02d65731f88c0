import math

import pytest
import torch
from selftune.objectives.regularizers.representation.supervised_contrastive import supervised_contrastive


def test_definition(draw):
    z, labels, temperature = draw(6, 3), torch.tensor([0, 1, 0, 1, 0, 2]), 0.4
    units = z / z.norm(dim=1, keepdim=True)
    s = units @ units.T / temperature
    expected = []
    for i in range(6):
        others = [j for j in range(6) if j != i]
        positives = [j for j in others if labels[j] == labels[i]]
        terms = [s[i, p] - torch.logsumexp(s[i, others], dim=0) for p in positives]
        expected.append(-sum(terms) / len(terms) if terms else s.new_zeros(()))
    torch.testing.assert_close(supervised_contrastive(z, labels, temperature), torch.stack(expected))


def test_different_labels_give_zeros_with_a_zero_gradient(draw):
    z = draw(4, 3).requires_grad_()
    value = supervised_contrastive(z, torch.arange(4))
    value.sum().backward()
    assert not value.any()
    assert not z.grad.any()


def test_one_class_of_equal_rows(draw):
    value = supervised_contrastive(draw(1, 3).expand(5, 3), torch.zeros(5, dtype=torch.long))
    torch.testing.assert_close(value, torch.full_like(value, math.log(4)))


def test_names_of_classes_do_not_matter(draw):
    z, labels = draw(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    torch.testing.assert_close(
        supervised_contrastive(z, torch.tensor([7, 3, 5])[labels]), supervised_contrastive(z, labels)
    )


def test_temperature_per_anchor(draw):
    z, labels = draw(3, 4), torch.tensor([0, 0, 0])
    value = supervised_contrastive(z, labels, torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64))
    each = [supervised_contrastive(z, labels, t)[i] for i, t in enumerate((0.1, 0.5, 0.9))]
    torch.testing.assert_close(value, torch.stack(each))


def test_derivatives(draw):
    temperature = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, 0, 2])
    assert torch.autograd.gradcheck(
        lambda z, t: supervised_contrastive(z, labels, t), (draw(4, 3).requires_grad_(), temperature)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_single_row_is_zero_with_a_finite_gradient(dtype):
    z = torch.ones(1, 2, dtype=dtype, requires_grad=True)
    value = supervised_contrastive(z, torch.tensor([0]))
    value.sum().backward()
    assert value.item() == 0
    assert z.grad.isfinite().all()

"""Means of losses per element."""

import pytest
import torch
from torch.nn import functional as F

from selftune.errors import SettingError
from selftune.lower_level.losses import Losses, as_losses, check_losses, weighted_mean


def tokens():
    """Losses of three sentences of unlike length as torch takes their mean, and by element."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, 7, generator=generator, dtype=torch.float64)
    labels = torch.randint(7, (3, 5), generator=generator)
    for row, length in enumerate((5, 2, 3)):
        labels[row, length:] = -100
    values = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(3, 5)
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten()), values, (labels != -100).double()


def test_the_mean_is_that_over_all_elements_that_count():
    expected, values, weights = tokens()
    losses = Losses(values, weights)
    torch.testing.assert_close(losses.mean(), expected)
    total, count = losses.totals()
    torch.testing.assert_close(total / count, expected)
    torch.testing.assert_close(weighted_mean(*losses.of_examples(3)), expected)


def test_elements_may_come_in_a_row_with_the_example_of_each():
    _, values, weights = tokens()
    kept = weights.bool()
    rows = torch.arange(3)[:, None].expand(3, 5)[kept]
    found, counts = Losses(values[kept], rows=rows).of_examples(4)
    expected, _ = Losses(values, weights).of_examples(3)
    torch.testing.assert_close(found[:3], expected)
    assert counts.tolist() == [5, 2, 3, 0]
    assert found[3] == 0


def test_a_tensor_is_one_loss_per_example_to_the_bit():
    values = torch.rand(8)
    found, weights = as_losses(values).of_examples(8)
    assert found is values
    assert weights is None


def test_a_batch_of_which_nothing_counts_has_loss_zero_and_gradient_zero():
    values = torch.ones(3, requires_grad=True)
    Losses(values, torch.zeros(3)).mean().backward()
    assert values.grad.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (torch.tensor(1.0), "one number per example"),
        (torch.ones(3), "one number per example"),
        (Losses(torch.ones(3, 2)), "say in rows"),
        (Losses(torch.ones(4), weights=torch.ones(3)), "weights have another shape"),
        (Losses(torch.ones(3), rows=torch.tensor([0, 1, 4])), "outside 0 to 3"),
    ],
)
def test_what_is_no_loss_per_element_is_one_sentence(given, sentence):
    with pytest.raises(SettingError, match=sentence):
        check_losses("loss", given, 4)

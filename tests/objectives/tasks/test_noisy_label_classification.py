import pytest
import torch
from selftune.objectives.tasks.noisy_label_classification import DIGITS_CONFUSIONS, _corrupted, _memorized_fraction

LABELS = torch.arange(10).repeat(500)


@pytest.mark.parametrize("kind", ["symmetric", "asymmetric"])
def test_corruption_depends_on_the_seed_only(kind):
    first, again, other = (_corrupted(LABELS, 0.4, kind, DIGITS_CONFUSIONS, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(_corrupted(LABELS, 0.0, kind, DIGITS_CONFUSIONS, 1), LABELS)


def test_the_share_of_wrong_labels():
    noisy = _corrupted(LABELS, 0.4, "symmetric", DIGITS_CONFUSIONS, 0)
    assert (noisy != LABELS).double().mean().item() == pytest.approx(0.4, abs=0.02)


def test_asymmetric_noise_follows_the_map():
    noisy = _corrupted(LABELS, 0.4, "asymmetric", DIGITS_CONFUSIONS, 0)
    wrong = noisy != LABELS
    assert torch.equal(noisy[wrong], torch.tensor(DIGITS_CONFUSIONS)[LABELS[wrong]])
    assert set(LABELS[wrong].tolist()) == {2, 3, 5, 6, 7}


def test_memorized_fraction_counts_corrupted_examples_only():
    clean, noisy = torch.tensor([0, 1, 2, 0]), torch.tensor([1, 2, 2, 0])
    assert _memorized_fraction(torch.eye(3)[noisy], noisy, clean) == 1
    assert _memorized_fraction(torch.eye(3)[clean], noisy, clean) == 0
    assert _memorized_fraction(torch.eye(3)[torch.tensor([1, 1, 0, 0])], noisy, clean) == 0.5
    assert _memorized_fraction(torch.eye(3)[clean], clean, clean) == 0

import pytest
import torch
from selftune.objectives.functional import label_noise

from selftune.regularization.regularizer import regularizers


@pytest.fixture
def draws():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(5, (10_000,), generator=generator)
    return labels, *torch.rand(2, 10_000, generator=generator)


def test_rate_zero_is_the_identity_and_rate_one_flips_all(draws):
    labels, uniform, offset = draws
    assert torch.equal(label_noise(labels, uniform, offset, 0.0, 5), labels)
    assert (label_noise(labels, uniform, offset, 1.0, 5) != labels).all()


def test_the_flipped_fraction_and_its_uniform_spread(draws):
    labels, uniform, offset = draws
    noisy = label_noise(labels, uniform, offset, 0.4, 5)
    assert (noisy != labels).double().mean().item() == pytest.approx(0.4, abs=0.015)
    shifts = ((noisy - labels) % 5)[noisy != labels].bincount(minlength=5)[1:]
    assert (shifts / shifts.sum() - 0.25).abs().max() < 0.025
    assert noisy.min() >= 0
    assert noisy.max() < 5


@pytest.mark.parametrize("num_classes", [2, 10, 1000])
def test_the_largest_draw_below_one_never_returns_the_true_class(num_classes):
    labels = torch.arange(num_classes)
    largest = torch.full((num_classes,), 1.0).nextafter(torch.tensor(0.0))
    noisy = label_noise(labels, torch.zeros(num_classes), largest, 0.5, num_classes)
    assert torch.equal(noisy, (labels - 1) % num_classes)


def test_a_single_class_is_refused():
    with pytest.raises(ValueError, match="at least two classes"):
        label_noise(torch.zeros(2, dtype=torch.long), torch.rand(2), torch.rand(2), 0.5, 1)


@pytest.mark.parametrize("noise", ["symmetric", "asymmetric"])
def test_every_example_keeps_its_label_for_the_whole_run(lab, noise):
    trainer = lab.train([regularizers["label_noise"](rate=0.5, noise=noise, seed=3)], 0)
    seen = {}
    for number in range(6):
        _, step = lab.perturbed_loss(trainer, number)
        torch.testing.assert_close(step.targets.argmax(dim=1), step.labels)
        for index, label in zip(step.index.tolist(), step.labels.tolist(), strict=True):
            assert seen.setdefault(index, label) == label
    noisy = torch.tensor([seen[index] for index in range(24)])
    wrong = noisy != lab.labels
    assert 4 < wrong.sum() < 20
    if noise == "asymmetric":
        assert torch.equal(noisy[wrong], (lab.labels[wrong] + 1) % 3)


def test_labels_are_corrupted_before_they_are_mixed(lab):
    members = [regularizers["mixup"](), regularizers["label_noise"](rate=1.0)]
    trainer = lab.train(members, 0)
    _, step = lab.perturbed_loss(trainer, 0)
    assert not torch.equal(step.labels, lab.labels[step.index])
    assert (step.targets.gather(1, step.labels[:, None]) > 0).all()

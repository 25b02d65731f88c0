import pytest
import torch
from selftune.objectives.tasks.noisy_label_classification import (
    CONFUSIONS,
    NoisyLabelClassification,
    _corrupted,
    _memorized_fraction,
)
from torch import nn

from selftune.errors import SettingError
from selftune.methods.work_orders import FollowSchedule
from selftune.regularization.regularizer import regularizers
from selftune.training import Trainer

LABELS = torch.arange(10).repeat(500)


@pytest.mark.parametrize("kind", ["symmetric", "asymmetric"])
def test_corruption_depends_on_the_seed_only(kind):
    first, again, other = (_corrupted(LABELS, 0.4, kind, CONFUSIONS, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(_corrupted(LABELS, 0.0, kind, CONFUSIONS, 1), LABELS)


def test_the_share_of_wrong_labels():
    noisy = _corrupted(LABELS, 0.4, "symmetric", CONFUSIONS, 0)
    assert (noisy != LABELS).double().mean().item() == pytest.approx(0.4, abs=0.02)


def test_asymmetric_noise_follows_the_map():
    noisy = _corrupted(LABELS, 0.4, "asymmetric", CONFUSIONS, 0)
    wrong = noisy != LABELS
    assert torch.equal(noisy[wrong], torch.tensor(CONFUSIONS)[LABELS[wrong]])
    assert set(LABELS[wrong].tolist()) == {2, 3, 5, 6, 7}


def test_memorized_fraction_counts_corrupted_examples_only():
    clean, noisy = torch.tensor([0, 1, 2, 0]), torch.tensor([1, 2, 2, 0])
    assert _memorized_fraction(torch.eye(3)[noisy], noisy, clean) == 1
    assert _memorized_fraction(torch.eye(3)[clean], noisy, clean) == 0
    assert _memorized_fraction(torch.eye(3)[torch.tensor([1, 1, 0, 0])], noisy, clean) == 0.5
    assert _memorized_fraction(torch.eye(3)[clean], clean, clean) == 0


def test_only_training_labels_are_wrong_and_rates_are_checked():
    noisy, clean = NoisyLabelClassification(rate=0.6), NoisyLabelClassification(rate=0.0)
    assert torch.equal(noisy.clean_labels, clean.splits()["train"]["labels"])
    for split in ("validation", "test"):
        assert torch.equal(noisy.splits()[split]["labels"], clean.splits()[split]["labels"])
    with pytest.raises(SettingError, match="from 0 to 1"):
        NoisyLabelClassification(rate=1.5)


def test_long_training_memorizes_and_clean_accuracy_falls_from_its_peak():
    task = NoisyLabelClassification(rate=0.6, hidden=(128,))
    trainer = Trainer(task, [])
    memorized, accuracy = [], []
    for _ in range(8):
        trainer.execute(FollowSchedule(segments=((60, torch.empty(0)),)))
        network: nn.Module = trainer.plain_network()
        memorized.append(task.memorized_fraction(network).item())
        accuracy.append(trainer.lower.evaluate(network, "validation")["validation_accuracy"])
    assert memorized[0] < 0.3 < 0.8 < memorized[-1]
    assert accuracy[-1] < max(accuracy) - 0.05


@pytest.mark.parametrize("member", [{"early_learning": {"strength": 3.0}}, {"co_teaching": {"forget_rate": 0.5}}])
def test_methods_against_noise_memorize_less_and_generalize_better(member):
    ((name, settings),) = member.items()
    memorized, accuracy = [], []
    for members in ([], [regularizers[name](**settings)]):
        task = NoisyLabelClassification(rate=0.6)
        trainer = Trainer(task, members)
        trainer.execute(FollowSchedule(segments=((480, torch.empty(0)),)))
        network = trainer.plain_network()
        memorized.append(task.memorized_fraction(network).item())
        accuracy.append(trainer.lower.evaluate(network, "validation")["validation_accuracy"])
    assert memorized[1] < memorized[0] - 0.2
    assert accuracy[1] > accuracy[0] + 0.03

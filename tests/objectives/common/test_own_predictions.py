"""Tables of training examples when examples are mixed: written clean, read mixed (ELR+)."""

import pytest
import torch
from selftune.objectives.regularizers.supervision.early_learning import early_learning
from torch import nn

from selftune.lower_level.classification import Classification
from selftune.lower_level.optimization import Optimization
from selftune.regularization.regularizer import regularizers
from selftune.training import Trainer

MIXERS = {"mixup": {"alpha": 2.0}, "adaptive_mixup": {}, "cutmix": {"alpha": 2.0}}


pytestmark = pytest.mark.usefixtures("double")


def network():
    layers = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3)
    return nn.Sequential(*layers).double()


def begun(mixer, table, number=0, perturbed=False, **settings):
    """A step that has its loss, and the entries behind it."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(24) % 3
    data = torch.randn(24, 1, 6, 6, generator=generator, dtype=torch.float64), labels
    objective = Classification(network, data, data, data, Optimization(batch_size=8))
    members = [regularizers[mixer](**MIXERS[mixer]), regularizers[table](**settings)]
    lower = Trainer(objective, members, steps=30).lower
    step = lower.begin(number, lower.batches.at(number), lower.space.values(lower.space.start), "elementary")
    step.perturbed = perturbed
    lower.loss(step, lower.network, lower.parameters)
    return step, lower, next(r for r in lower.regularizers.members if r.name == table), data[0]


def clean(lower, inputs):
    """Predictions with the statistics of the batch."""
    copied = network()
    copied.load_state_dict(lower.network.state_dict())
    with torch.no_grad():
        return copied.train()(inputs).softmax(dim=1)


def mixed(step, rows):
    (mixing,) = step.mixings
    share = mixing.share.view(-1, 1) if mixing.share.ndim else mixing.share
    return share * rows + (1 - share) * rows[mixing.partners]


@pytest.mark.parametrize("mixer", MIXERS)
def test_inputs_and_targets_are_mixed_as_the_step_says(mixer):
    step, *_, inputs = begun(mixer, "early_learning")
    (mixing,) = step.mixings
    assert torch.equal(mixing.inputs, inputs[step.index])
    torch.testing.assert_close(step.targets, mixed(step, mixing.targets))
    if mixer != "cutmix":
        torch.testing.assert_close(step.inputs.flatten(1), mixed(step, mixing.inputs.flatten(1)))
    assert not torch.equal(step.inputs, mixing.inputs)


@pytest.mark.parametrize("mixer", MIXERS)
def test_early_learning_writes_clean_predictions_and_reads_mixed_rows(mixer):
    step, lower, entry, inputs = begun(mixer, "early_learning", beta=0.7, strength=1.0)
    before = {name: buffer.clone() for name, buffer in lower.network.named_buffers()}
    rows = entry._table[step.index]
    torch.testing.assert_close(rows, 0.3 * clean(lower, inputs[step.index]), atol=1e-3, rtol=0)  # clamped
    torch.testing.assert_close(entry.penalty(_frozen(step)), early_learning(step.probs, mixed(step, rows)))
    for name, buffer in lower.network.named_buffers():
        assert torch.equal(buffer, before[name])


@pytest.mark.parametrize("mixer", MIXERS)
def test_temporal_ensembling_teaches_mixed_averages(mixer):
    step, lower, entry, inputs = begun(mixer, "temporal_ensembling", beta=0.7)
    rows = entry._table[step.index] / 0.3
    torch.testing.assert_close(rows, clean(lower, inputs[step.index]), atol=1e-3, rtol=0)
    taught = entry.quantity("teacher_logits", step).softmax(dim=1)
    torch.testing.assert_close(taught, mixed(step, rows))


@pytest.mark.parametrize("mixer", MIXERS)
def test_progressive_self_distillation_mixes_past_predictions(mixer):
    step, lower, entry, inputs = begun(mixer, "progressive_self_distillation")
    torch.testing.assert_close(step.targets, mixed(step, step.mixings[0].targets))  # nothing is past yet
    torch.testing.assert_close(entry._current[step.index], clean(lower, inputs[step.index]))
    known = torch.rand(24, 3, dtype=torch.float64).softmax(dim=1)
    known[step.index[:3]] = 0
    entry._past = known.clone()
    step.targets = mixed(step, step.mixings[0].targets)
    entry.targets(_frozen(step))
    rows = known[step.index].where(known[step.index].sum(1, keepdim=True) > 0, step.mixings[0].targets)
    alpha = 0.8 / 10
    expected = (1 - alpha) * mixed(step, step.mixings[0].targets) + alpha * mixed(step, rows)
    torch.testing.assert_close(step.targets, expected)


def test_a_batch_that_is_not_mixed_leaves_rows_as_they_are():
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(24, 4, generator=generator), torch.arange(24) % 3
    objective = Classification(lambda: nn.Linear(4, 3), data, data, data, Optimization(batch_size=8))
    lower = Trainer(objective, [regularizers["mixup"](probability=0.0)]).lower
    step = lower.begin(0, lower.batches.at(0), lower.space.values(lower.space.start), "elementary")
    rows = torch.randn(8, 3)
    assert torch.equal(step.mix_rows(rows), rows)
    assert torch.equal(step.inputs, data[0][step.index])


def _frozen(step):
    step.perturbed = True
    return step

import pytest
import torch
from selftune.objectives.diagnostics.inverse_participation_ratio import inverse_participation_ratio
from selftune.objectives.tasks.modular_arithmetic import ModularArithmetic, modular_arithmetic

from selftune.errors import SettingError
from selftune.methods.work_orders import FollowSchedule
from selftune.registries.diagnostics import Measurement
from selftune.training import Trainer


@pytest.mark.parametrize(
    ("operation", "rule"), [("add", "__add__"), ("subtract", "__sub__"), ("multiply", "__mul__")]
)
def test_is_the_whole_table(operation, rule):
    pairs, labels = modular_arithmetic(modulus=7, operation=operation)
    assert pairs.tolist() == [[a, b] for a in range(7) for b in range(7)]
    assert labels.tolist() == [getattr(a, rule)(b) % 7 for a in range(7) for b in range(7)]
    assert pairs.dtype == labels.dtype == torch.int64


def test_addition_is_symmetric_and_balanced():
    labels = modular_arithmetic(modulus=11)[1]
    table = labels.reshape(11, 11)
    assert torch.equal(table, table.T)
    assert labels.bincount().tolist() == [11] * 11


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="divide"):
        modular_arithmetic(modulus=7, operation="divide")
    with pytest.raises(ValueError, match="modulus"):
        modular_arithmetic(modulus=0)


def _trained(task, steps):
    trainer = Trainer(task, [], steps=steps)
    trainer.execute(FollowSchedule(segments=((steps, torch.empty(0)),)))
    return trainer


def test_the_table_is_split_and_a_share_of_the_training_labels_is_wrong():
    task = ModularArithmetic(modulus=31, train_share=0.4, corruption=0.5)
    splits = task.splits()
    sizes = {name: len(split["labels"]) for name, split in splits.items()}
    assert sizes == {"train": 384, "validation": 288, "test": 289}
    codes = torch.cat([split["inputs"] for split in splits.values()]).view(-1, 2, 31)
    assert codes.sum(dim=2).eq(1).all()
    numbers = codes.argmax(dim=2)
    assert len(numbers.unique(dim=0)) == 31**2
    rule = numbers.sum(dim=1) % 31
    wrong = splits["train"]["labels"] != rule[:384]
    assert torch.equal(task.true_labels, rule[:384])
    assert 0.4 < wrong.double().mean() <= 0.5  # a uniform label may be right
    assert torch.equal(torch.cat([splits["validation"]["labels"], splits["test"]["labels"]]), rule[384:])
    other = ModularArithmetic(modulus=31, train_share=0.4, corruption=0.5, split_seed=1)
    assert not torch.equal(other.splits()["train"]["inputs"], splits["train"]["inputs"])


@pytest.mark.parametrize("model", ["quadratic", "relu"])
def test_without_regularization_everything_is_memorized(model):
    task = ModularArithmetic(modulus=7, hidden=64, model=model)
    trainer = _trained(task, 300)
    accuracies = task.accuracies(trainer.plain_network())
    assert accuracies["train"] == accuracies["memorized"] == 1
    assert accuracies["corrected"] == 0


def test_the_losses_are_those_of_the_models():
    outputs, targets = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]])
    quadratic, relu = (ModularArithmetic(modulus=3, model=model) for model in ("quadratic", "relu"))
    torch.testing.assert_close(quadratic.loss(outputs, targets), torch.tensor([1 / 3]))
    torch.testing.assert_close(quadratic.validation_loss(outputs, torch.tensor([0])), torch.tensor([1 / 3]))
    torch.testing.assert_close(relu.loss(outputs, targets), relu.validation_loss(outputs, torch.tensor([0])))


def test_diagnostics_measure_the_hidden_neurons():
    trainer = _trained(ModularArithmetic(modulus=7, hidden=10), 2)
    first, last = (trainer.lower.parameters[f"{layer}.weight"].detach() for layer in ("first", "last"))
    vectors = torch.cat([first[:, :7], first[:, 7:], last.T])
    names = ("softmax_collapse", "naive_loss_alignment", "linear_stability")
    with trainer.lower.measuring(2) as step:
        (taken,) = Measurement("inverse_participation_ratio").take(step).values()
        measured = {name: value for m in names for name, value in Measurement(m).take(step).items()}
    torch.testing.assert_close(taken, inverse_participation_ratio(vectors).mean())
    assert len(measured) == 5
    assert all(torch.isfinite(value) for name, value in measured.items() if name != "linear_stability.growth")
    assert -1 <= measured["naive_loss_alignment"] <= 1


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"modulus": 2}, "modulus"),
        ({"operation": "divide"}, "operation"),
        ({"train_share": 1.5}, "train_share"),
        ({"train_share": 1.0}, "validation"),
        ({"train_share": 0.0}, "train"),
        ({"corruption": -0.1}, "corruption"),
        ({"hidden": 0}, "hidden"),
    ],
)
def test_bad_tasks_are_refused(settings, key):
    with pytest.raises(SettingError) as refused:
        ModularArithmetic(**{"modulus": 7, **settings})
    assert refused.value.key == key

import pytest
import torch
import torch.nn.functional as F
from rounding import rounding
from torch import nn

from selftune import Classification, LanguageModelling, Optimization, SettingError, Tune, tasks, tune
from selftune.regularization.composition import Regularizers
from selftune.regularization.regularizer import regularizers
from selftune.regularization.step import per_example
from selftune.studies.mistakes import Mistakes
from selftune.studies.study_file import parse_study
from selftune.training.lower_level import LowerLevel
from selftune.training.seeds import Streams

CPU = torch.device("cpu")
NAME = "objective.example_weights"


def data(n=24):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 4, generator=generator, dtype=torch.float64), torch.arange(n) % 3


def classification(**values):
    split = data()
    build = lambda: nn.Linear(4, 3, dtype=torch.float64)  # noqa: E731
    return Classification(build, split, split, split, Optimization(batch_size=8)).with_values(**values)


def factors(*shape):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(*shape, dtype=torch.float64, generator=generator).requires_grad_()


def lower_level(objective, *members):
    return LowerLevel(objective, members, Streams(0, 0, CPU), CPU)


def taken(lower, values, perturbed=False):
    step = lower.begin(0, lower.batches.at(0), values, "response", perturbed=perturbed)
    return step, lower.plain_loss(step)


def same(loss, expected, inputs, scale=1.0):
    """Value and gradients up to rounding."""
    assert float((loss - expected).detach().abs()) <= rounding(scale)
    found, right = (torch.autograd.grad(value, inputs, retain_graph=True) for value in (loss, expected))
    for one, another in zip(found, right, strict=True):
        assert float((one - another).abs().max()) <= rounding(scale)


@pytest.mark.parametrize("perturbed", [False, True])
def test_the_loss_of_every_example_is_multiplied_by_its_own_weight(perturbed):
    lower = lower_level(classification(example_weights=Tune(0.5)))
    rows = 8 if perturbed else 1
    weights = factors(rows, 24)
    step, loss = taken(lower, {NAME: weights if perturbed else weights[0]}, perturbed)
    expected = 0.0
    for row, (place, inputs, label) in enumerate(zip(step.index, step.inputs, step.labels, strict=True)):
        own = weights[row if perturbed else 0, place]
        expected = expected + own * F.cross_entropy(lower.network(inputs[None]), label[None]) / 8
    same(loss, expected, [weights, *lower.network.parameters()])


def test_tokens_of_unequal_sequences_share_the_weight_of_their_sequence():
    sequences = [torch.arange(length) % 5 for length in (3, 9, 5, 2)]
    build = lambda: nn.Sequential(nn.Embedding(5, 6), nn.Linear(6, 5)).double()  # noqa: E731
    objective = LanguageModelling(build, sequences, sequences, sequences, Optimization(batch_size=4))
    lower = lower_level(objective.with_values(example_weights=Tune(0.5)))
    weights = factors(4, 4)
    step, loss = taken(lower, {NAME: weights}, perturbed=True)
    expected = 0.0
    for row, place in enumerate(step.index):
        tokens = sequences[int(place)]
        scores = lower.network(tokens[None, :-1])[0]
        expected = expected + weights[row, place] * F.cross_entropy(scores, tokens[1:], reduction="sum") / 15
    same(loss, expected, [weights, *lower.network.parameters()])


def test_a_mixed_example_has_a_mixed_weight():
    lower = lower_level(classification(example_weights=Tune(0.5)), regularizers["mixup"](alpha=1.0))
    weights = torch.linspace(0.1, 0.9, 24, dtype=torch.float64)
    step, loss = taken(lower, lower.space.values(lower.space.start.double()) | {NAME: weights})
    (mixing,) = step.mixings
    share, own = per_example(mixing.share, weights), weights[step.index]
    mixed = share * own + (1 - share) * own[mixing.partners]
    expected = (mixed * F.cross_entropy(step.logits, step.targets.double(), reduction="none")).mean()
    assert float((loss - expected).detach().abs()) <= rounding(1.0, dtype=torch.float32)


def test_wrong_labels_lose_their_weight():
    task = tasks["noisy_label_classification"](rate=0.4)
    wrong = task.splits()["train"]["labels"] != task.clean_labels
    objective = task.with_values(example_weights=Tune(0.5))
    result = tune(objective, {}, steps=400, method="implicit", learning_rate=0.1, warmup_steps=50)
    weights = torch.tensor([result.hyperparameters[f"{NAME}[{number}]"] for number in range(len(wrong))])
    ordered = (weights[~wrong][:, None] > weights[wrong][None]).float().mean()
    assert float(ordered) > 0.8
    assert float(weights[wrong].mean()) < float(weights[~wrong].mean()) - 0.2


def test_study_files_give_weights_and_say_where_they_are_wrong():
    text = """
study: cleaning
objective: {task: noisy_label_classification, train_examples: 100, example_weights: %s}
regularizers: {}
method: {name: implicit}
budget: {steps: 300}
"""
    study = parse_study(text % "{start: 0.4}")
    assert study.space.names[:2] == (f"{NAME}[0]", f"{NAME}[1]")
    assert len(study.space) == 100
    with pytest.raises(Mistakes, match=r"objective\.example_weights: must be a number"):
        parse_study(text % "2")


def test_data_without_positions_have_no_weights():
    objective = classification()
    objective.provides = objective.provides - {"index"}
    with pytest.raises(SettingError, match="do not say which examples a batch holds"):
        objective.with_values(example_weights=Tune(0.5))


def test_examples_that_are_added_have_no_weights():
    with pytest.raises(SettingError, match="cannot be combined with hyperparameters per example"):
        Regularizers([regularizers["experience_replay"]()], classification(example_weights=0.5))


# Regularizers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("perturbed", [False, True])
def test_a_regularizer_has_a_value_per_training_example(perturbed):
    smoothing = regularizers["label_smoothing"](parts="example", epsilon=Tune(0.1))
    lower = lower_level(classification(), smoothing)
    assert len(lower.space) == 24
    rows = 8 if perturbed else 1
    epsilon = (0.2 * torch.rand(rows, 24, dtype=torch.float64)).requires_grad_()
    values = {"label_smoothing.epsilon": epsilon if perturbed else epsilon[0]}
    step, loss = taken(lower, values, perturbed)
    expected = 0.0
    for row, (place, inputs, label) in enumerate(zip(step.index, step.inputs, step.labels, strict=True)):
        own, scores = epsilon[row if perturbed else 0, place], lower.network(inputs).log_softmax(0)
        expected = expected - ((1 - own) * scores[label] + own * scores.mean()) / 8
    same(loss, expected, [epsilon, *lower.network.parameters()])


@pytest.mark.parametrize("name", ["dropout", "confidence_penalty", "gaussian_input_noise"])
def test_values_per_example_are_tuned(name):
    hyperparameter = regularizers[name].hyperparameters[0].name
    split = tuple(tensor.float() if tensor.is_floating_point() else tensor for tensor in data())
    build = lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))  # noqa: E731
    objective = Classification(build, split, split, split, Optimization(batch_size=8))
    member = regularizers[name](parts="example", **{hyperparameter: Tune(0.1)})
    result = tune(objective, [member], steps=6, warmup_steps=2)
    assert len(result.hyperparameters) == 24


def test_what_acts_on_weights_has_no_value_per_example():
    with pytest.raises(SettingError, match="does not act on examples one by one"):
        regularizers["weight_decay"](parts="example")

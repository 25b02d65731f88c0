import math

import pytest
import torch
from rounding import rounding
from torch import nn

from selftune import LanguageModelling, Optimization, SettingError, Tune, tune
from selftune.hyperparameters import Hyperparameter, Positive
from selftune.registries.reference import Reference
from selftune.regularization.composition import Regularizers
from selftune.regularization.regularizer import Regularizer, regularizers
from selftune.studies.verdict import constant_measures
from selftune.training.lower_level import LowerLevel
from selftune.training.seeds import Streams

VOCABULARY = 7


class Model(nn.Module):
    """A recurrent network, which sees what came before."""

    def __init__(self, outputs=VOCABULARY):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 6)
        self.hidden = nn.RNN(6, 6, batch_first=True)
        self.output = nn.Linear(6, outputs)

    def forward(self, tokens):
        return self.output(self.hidden(self.embedding(tokens))[0])


def sequences(lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(VOCABULARY, (length,), generator=generator) for length in lengths]


def modelling(train=None, build=Model, **settings):
    train = sequences([3, 9, 5, 2, 7, 4]) if train is None else train
    return LanguageModelling(build, train, train, train, Optimization(batch_size=4), **settings)


# Data -----------------------------------------------------------------------------------------------------


def test_every_token_of_a_stream_but_the_first_is_predicted_once():
    stream = torch.arange(20) % VOCABULARY
    train = modelling(stream, context=4).splits()["train"]
    assert train["inputs"].shape == (5, 4)
    counted = train["labels"] != -100
    assert train["labels"][counted].tolist() == stream[1:].tolist()
    assert train["inputs"][counted].tolist() == stream[:-1].tolist()


def test_sequences_of_any_length_are_padded_with_what_does_not_count():
    train = modelling(sequences([3, 9, 5, 2])).splits()["train"]
    assert (train["labels"] != -100).sum(dim=1).tolist() == [2, 8, 4, 1]
    assert int(train["inputs"].min()) >= 0


def test_inputs_and_labels_are_taken_as_they_are():
    rows = torch.stack(sequences([6] * 4))
    labels = rows.roll(-1, dims=1)
    labels[:, :2] = -100
    split = modelling((rows, labels)).splits()["train"]
    assert bool((split["inputs"] == rows).all())
    assert bool((split["labels"] == labels).all())


@pytest.mark.parametrize(
    ("train", "settings", "sentence"),
    [
        (torch.arange(12) % 7, {}, "say how many tokens to see"),
        (torch.rand(12), {"context": 4}, "Regression takes real numbers"),
        (None, {"context": 4}, "is for a stream of tokens"),
        ([torch.tensor([1])], {}, "sequences of two tokens at least"),
        (torch.full((4, 5), -100), {}, "none counts"),
        (torch.full((4, 5), -1), {}, "ignored=-1 leaves it out"),
        (None, {"build": lambda: Model(3)}, "the network has outputs for 3 tokens"),
        (None, {"build": lambda: nn.Sequential(Model(), nn.Flatten())}, r"\(batch, tokens, vocabulary\)"),
    ],
)
def test_what_does_not_fit_is_refused(train, settings, sentence):
    with pytest.raises(SettingError, match=sentence):
        modelling(train, **settings)


# Losses ---------------------------------------------------------------------------------------------------


def test_losses_and_metrics_are_means_over_the_tokens_that_count():
    objective = modelling()
    batch = objective.splits()["train"]
    torch.manual_seed(0)
    outputs = torch.randn(*batch["labels"].shape, VOCABULARY, dtype=torch.float64)
    terms, hits = [], []
    for row, labels in zip(outputs, batch["labels"], strict=True):
        for scores, label in zip(row, labels, strict=True):
            if label != -100:
                terms.append(-float(scores.log_softmax(0)[label]))
                hits.append(float(scores.argmax() == label))
    metrics = objective.measure(outputs, batch)
    expected = sum(terms) / len(terms)
    assert float(objective.judge(outputs, batch).mean()) == pytest.approx(expected, rel=rounding())
    assert float(metrics["bits_per_token"].mean()) == pytest.approx(expected / math.log(2), rel=rounding())
    assert float(metrics["accuracy"].mean()) == pytest.approx(sum(hits) / len(hits), rel=rounding())


def test_token_numbers_and_rows_with_a_single_one_have_the_same_losses():
    objective = modelling()
    labels = objective.splits()["train"]["labels"]
    outputs = torch.randn(*labels.shape, VOCABULARY)
    plain, rows = objective.loss(outputs, labels), objective.loss(outputs, objective.targets(labels))
    assert bool((plain.weights == rows.weights).all())
    assert float((plain.values - rows.values).abs().max()) <= rounding(10, dtype=torch.float32)


def test_the_constant_answer_is_the_frequencies_of_tokens():
    objective = modelling()
    labels = objective.splits()["train"]["labels"]
    shares = labels[labels != -100].bincount().double()
    shares /= shares.sum()
    entropy = -float((shares * shares.log2()).sum())
    assert constant_measures(objective)["test_bits_per_token"] == pytest.approx(entropy, rel=1e-6)


class Focal(Regularizer):
    """Turns to the examples that are hard, more or less so for each of them."""

    name, family, kind = "focal", "test", "losses"
    reference = Reference("of this test")
    hyperparameters = (Hyperparameter("gamma", Positive(), 1.0),)

    def losses(self, step, losses):
        return losses * (1 - (-losses).exp()) ** self.value(step, "gamma")


class SelfPaced(Regularizer):
    """Leaves out the examples that are too hard."""

    name, family, kind = "self_paced", "test", "losses"
    reference = Reference("of this test")
    hyperparameters = (Hyperparameter("age", Positive(), 2.0),)

    def losses(self, step, losses):
        return (1 - losses / self.value(step, "age")).clamp_min(0) * losses


def bare(objective, network, batch, of_token, of_example=lambda number, loss: loss):
    """The mean over tokens, written out: every sequence alone, without its padding."""
    total, count = 0.0, 0
    for number, (inputs, labels) in enumerate(zip(batch["inputs"], batch["labels"], strict=True)):
        length = int((labels != -100).sum())
        scores = network(inputs[None, :length])[0].log_softmax(dim=-1)
        losses = [of_token(number, scores[at], labels[at]) for at in range(length)]
        total = total + of_example(number, sum(losses) / length) * length
        count += length
    return total / count


def cross_entropy(number, scores, label):
    return -scores[label]


@pytest.mark.parametrize("regularizer", ["focal", "self_paced", "label_smoothing"])
def test_perturbed_examples_of_unequal_lengths_are_those_of_a_bare_loop(regularizer):
    objective = modelling(build=lambda: Model().double())
    made = {
        "focal": lambda: Focal(gamma=Tune(1.0)),
        "self_paced": lambda: SelfPaced(age=Tune(3.0)),
        "label_smoothing": lambda: regularizers["label_smoothing"](epsilon=Tune(0.1)),
    }[regularizer]()
    lower = LowerLevel(objective, [made], Streams(0, 0, torch.device("cpu")), torch.device("cpu"))
    drawn = lower.batches.at(0)
    ((name, start),) = lower.space.values(lower.space.start.double()).items()
    own = (start * torch.tensor([0.5, 1.0, 1.5, 2.0], dtype=torch.float64)).requires_grad_()
    step = lower.begin(0, drawn, {name: own}, "response", perturbed=True)
    loss = lower.plain_loss(step)

    def smoothed(number, scores, label):
        return -(1 - own[number]) * scores[label] - own[number] * scores.mean()

    def changed(number, loss):
        if regularizer == "focal":
            return loss * (1 - (-loss).exp()) ** own[number]
        return (1 - loss / own[number]).clamp_min(0) * loss

    if regularizer == "label_smoothing":
        expected = bare(objective, lower.network, drawn.batch, smoothed)
    else:
        expected = bare(objective, lower.network, drawn.batch, cross_entropy, changed)
    scale = max(1.0, float(expected.detach()))
    assert float((loss - expected).detach().abs()) <= rounding(scale)
    wanted = [own, *lower.network.parameters()]
    found, right = (torch.autograd.grad(value, wanted, retain_graph=True) for value in (loss, expected))
    for one, another in zip(found, right, strict=True):
        assert float((one - another).abs().max()) <= rounding(scale)


# Regularizers ---------------------------------------------------------------------------------------------


def test_rows_of_the_vocabulary_are_made_only_where_something_needs_them():
    cpu = torch.device("cpu")
    plain = LowerLevel(modelling(), [], Streams(0, 0, cpu), cpu)
    smoothed = LowerLevel(modelling(), [regularizers["label_smoothing"]()], Streams(0, 0, cpu), cpu)
    shapes = [
        lower.begin(0, lower.batches.at(0), lower.space.values(lower.space.start), "elementary").targets.shape
        for lower in (plain, smoothed)
    ]
    assert shapes == [(4, 8), (4, 8, VOCABULARY)]


def test_what_is_written_for_rows_of_classes_is_refused():
    with pytest.raises(SettingError, match="logits of axes"):
        Regularizers([regularizers["confidence_penalty"]()], modelling())


def test_a_language_model_is_tuned():
    tuned = {
        "dropout": {"rate": Tune(0.1)},
        "label_smoothing": {"epsilon": Tune(0.1)},
        "kl_to_reference": {"strength": Tune(0.01)},
    }
    result = tune(modelling(sequences([3, 9, 5, 2] * 4)), tuned, steps=12, warmup_steps=4)
    assert result.metrics["test_bits_per_token"] == pytest.approx(result.metrics["test_loss"] / math.log(2))

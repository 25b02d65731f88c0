"""A network, functions of outputs and batch, and data: whatever a batch is."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from selftune import Classification, FunctionObjective, Losses, Optimization, SettingError, Tune, tune
from selftune.training import Trainer, TrainerFactory

RULE = Optimization(batch_size=16, learning_rate=0.1)


def data(examples, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(examples, 5, generator=generator)
    return {"x": x, "y": (x[:, 0] > 0).long() + (x[:, 1] > 0).long()}


SPLITS = data(64, 0), data(32, 1), data(32, 2)


def network():
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))


def cross_entropy(outputs, batch):
    return F.cross_entropy(outputs, batch["y"], reduction="none")


def fed(network, batch):
    return network(batch["x"])


def classifier(**settings):
    chosen = {"forward": fed, "optimization": RULE, **settings}
    return FunctionObjective(network, cross_entropy, *SPLITS, **chosen)


def test_a_classifier_of_functions_is_the_ready_one():
    ready = Classification(network, *(tuple(split.values()) for split in SPLITS), RULE)
    tuned = {"label_smoothing": {"epsilon": Tune(0.1)}, "mixup": {"alpha": 0.2}}  # by which targets are changed
    one, other = (tune(objective, tuned, steps=20, warmup_steps=6) for objective in (classifier(), ready))
    assert dict(one.hyperparameters) == dict(other.hyperparameters)
    assert dict(one.metrics) == pytest.approx(dict(other.metrics), rel=1e-5)


def test_tables_of_training_examples_follow_their_positions():
    trainer = Trainer(classifier(), TrainerFactory(classifier(), {"early_learning": {}}).regularizers)
    trainer.lower.train(0, trainer.space.values(trainer.space.start))
    (regularizer,) = trainer.lower.regularizers.members
    written = regularizer.state_dict()["table"].abs().sum(dim=1) > 0
    assert set(torch.nonzero(written).flatten().tolist()) == set(trainer.lower.batches.at(0).index.tolist())


class Tagger(nn.Module):
    """Classes of all tokens of sentences of unlike length."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(9, 6)
        self.output = nn.Linear(6, 4)

    def forward(self, tokens, lengths):
        seen = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
        return {"scores": self.output(self.embedding(tokens)), "seen": seen}


def sentences(examples, seed):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(9, (examples, 6), generator=generator)
    lengths = torch.randint(1, 7, (examples,), generator=generator)
    return ({"tokens": tokens, "lengths": lengths}, tokens % 4)


def token_losses(outputs, batch):
    values = F.cross_entropy(outputs["scores"].flatten(0, 1), batch[1].flatten(), reduction="none")
    return Losses(values.view(batch[1].shape), outputs["seen"])


def test_losses_per_token_train_as_a_bare_loop_over_all_tokens_does():
    rule = Optimization(batch_size=8, learning_rate=0.2, momentum=0)
    objective = FunctionObjective(
        Tagger,
        token_losses,
        *(sentences(24, seed) for seed in range(3)),
        forward=lambda network, batch: network(**batch[0]),
        optimization=rule,
    )
    assert objective.seen.inputs == (0, "tokens")
    trainer = Trainer(objective, [])
    bare = copy.deepcopy(trainer.lower.network)
    optimizer = torch.optim.SGD(bare.parameters(), lr=0.2)
    for step in range(6):
        trainer.lower.train(step, {})
        fields, labels = trainer.lower.batches.at(step).batch
        outputs = bare(**fields)
        labels = labels.masked_fill(~outputs["seen"], -100)
        optimizer.zero_grad()
        F.cross_entropy(outputs["scores"].flatten(0, 1), labels.flatten()).backward()
        optimizer.step()
    for one, other in zip(trainer.lower.network.parameters(), bare.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    found = trainer.lower.evaluate(bare, "test")["test_loss"]
    fields, labels = sentences(24, 2)
    losses = token_losses(bare(**fields), (fields, labels))
    assert found == pytest.approx(losses.mean().item(), rel=1e-5)


def test_where_several_tensors_could_be_the_classes_one_is_to_be_named():
    parts = [{**split, "group": split["y"].flip(0)} for split in SPLITS]
    with pytest.raises(SettingError, match=r"quantities: does not say which of batch\['y'\] and batch\['group'\]"):
        FunctionObjective(network, cross_entropy, *parts, forward=fed, optimization=RULE)
    labels = {"labels": lambda outputs, batch: batch["y"]}
    settings = {"forward": fed, "optimization": RULE, "quantities": labels}
    objective = FunctionObjective(network, cross_entropy, *parts, **settings)
    assert objective.seen.plain


@pytest.mark.parametrize(
    ("loss", "sentence"),
    [
        (lambda outputs, batch: F.cross_entropy(outputs, batch["y"]), "loss: must be one number per example"),
        (lambda outputs, batch: outputs, "loss: must be one number per example"),
        (lambda outputs, batch: batch["z"], "loss: cannot be taken of the network's outputs: KeyError"),
        (None, "loss"),
    ],
)
def test_a_loss_that_is_none_is_one_sentence(loss, sentence):
    with pytest.raises(SettingError, match=sentence):
        FunctionObjective(network, loss, *SPLITS, forward=fed, optimization=RULE)

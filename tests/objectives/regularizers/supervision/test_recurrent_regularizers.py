"""Dropout of sequences, embeddings and recurrent weights, and AR and TAR, on a small language model."""

import math

import pytest
import torch
from selftune.objectives.functional import (
    activation_regularization,
    dropout,
    embedding_dropout,
    temporal_activation_regularization,
    variational_dropout,
    weight_drop,
)
from torch import nn

from selftune.errors import SettingError
from selftune.hyperparameters import Tune
from selftune.lower_level.language_modelling import LanguageModelling
from selftune.lower_level.optimization import Optimization
from selftune.methods.work_orders import FollowSchedule
from selftune.networks.weight_masks import mask_of
from selftune.regularization.regularizer import regularizers
from selftune.training import Trainer


class Network(nn.Module):
    def __init__(self, batch_first=True):
        super().__init__()
        self.embedding = nn.Embedding(7, 6)
        self.first = nn.LSTM(6, 5, batch_first=batch_first)
        self.second = nn.GRU(5, 6, batch_first=batch_first)
        self.decoder = nn.Linear(6, 7)
        self.decoder.weight = self.embedding.weight
        self.seen = {}

    def forward(self, tokens):
        x = self.embedding(tokens)
        if not self.first.batch_first:
            x = x.transpose(0, 1)
        hidden, _ = self.first(x)
        x, _ = self.second(hidden)
        x = x if self.first.batch_first else x.transpose(0, 1)
        return self.decoder(x)


def trainer_of(build=Network, **members):
    tokens = torch.randint(0, 7, (24, 6), generator=torch.Generator().manual_seed(0)).sort(dim=1).values
    objective = LanguageModelling(build, tokens, tokens, tokens, Optimization(batch_size=8, learning_rate=0.1))
    return Trainer(objective, [regularizers[name](**settings) for name, settings in members.items()], steps=20)


def stepped(trainer, watch=None, steps=1):
    """Runs steps; what hooks on the network saw is kept by ``watch``."""
    handles = [] if watch is None else watch(trainer.lower.network)
    values = trainer.space.constrain(trainer.space.start)
    report = trainer.execute(FollowSchedule(segments=((steps, values),)))
    for handle in handles:
        handle.remove()
    assert report.kind == "replay", report.message
    return trainer


# Functions ---------------------------------------------------------------------------------------------


def test_one_mask_for_all_positions():
    inputs, uniform = torch.randn(4, 5, 3), torch.rand(4, 3)
    found = variational_dropout(inputs, uniform, 0.4)
    for position in range(5):
        torch.testing.assert_close(found[:, position], dropout(inputs[:, position], uniform, 0.4))
    rates = torch.tensor([0.0, 0.3, 0.6, 0.9])
    found = variational_dropout(inputs, uniform, rates)
    for example, rate in enumerate(rates):
        expected = dropout(inputs[example], uniform[example], float(rate))
        torch.testing.assert_close(found[example], expected)


def test_all_occurrences_of_a_token_are_dropped_together():
    tokens = torch.tensor([[0, 1, 0], [1, 1, 2]])
    table, uniform = torch.randn(3, 4), torch.tensor([0.1, 0.9, 0.2])
    found = embedding_dropout(table[tokens], tokens, uniform, 0.5)
    masked = table * torch.tensor([0.0, 2.0, 0.0])[:, None]
    torch.testing.assert_close(found, masked[tokens])


@pytest.mark.parametrize("function", [weight_drop, variational_dropout])
def test_expectation_is_the_input(function):
    inputs = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    uniform = torch.rand(20_000, 2, 3, generator=torch.Generator().manual_seed(1))
    draws = torch.stack([function(inputs, u, 0.3) for u in uniform])
    error = (draws.mean(dim=0) - inputs).abs()
    assert (error < 4 * draws.std(dim=0) / math.sqrt(len(draws))).all()


def test_activation_terms_are_means_of_squares():
    features = torch.randn(3, 4, 5)
    torch.testing.assert_close(activation_regularization(features).mean(), features.pow(2).mean())
    changes = features[:, 1:] - features[:, :-1]
    torch.testing.assert_close(temporal_activation_regularization(features).mean(), changes.pow(2).mean())
    assert temporal_activation_regularization(features[:, :1]).tolist() == [0.0] * 3


# In a trainer ------------------------------------------------------------------------------------------


def test_input_hidden_and_output_dropout_are_parts_of_one_regularizer():
    parts = {"input": ["first"], "hidden": ["second"], "output": ["decoder"]}
    rates = {"input": 0.0, "hidden": 0.9, "output": 0.5}
    trainer, seen = trainer_of(variational_dropout={"parts": parts, "rate": rates}), {}

    def watch(network):
        note = lambda name: lambda module, given: seen.setdefault(name, given[0].detach())  # noqa: E731
        return [getattr(network, n).register_forward_pre_hook(note(n)) for n in ("first", "second", "decoder")]

    stepped(trainer, watch)
    dropped = {name: (x == 0).all(dim=1) for name, x in seen.items()}
    assert not dropped["first"].any()
    assert dropped["second"].double().mean() > dropped["decoder"].double().mean() > 0
    for name, x in seen.items():  # a feature is dropped at all positions or at none
        assert ((x == 0).any(dim=1) == dropped[name]).all()


def test_weight_drop_masks_recurrent_weights_while_they_are_used_only():
    trainer, seen = trainer_of(weight_drop={"rate": 0.5}), {}

    def watch(network):
        def note(module, given):
            seen[type(module)] = (module.weight_hh_l0 == 0, mask_of(module, "weight_ih_l0"))

        return [layer.register_forward_pre_hook(note) for layer in (network.first, network.second)]

    stepped(trainer, watch)
    assert set(seen) == {nn.LSTM, nn.GRU}
    for zeros, other in seen.values():
        assert 0.2 < zeros.double().mean() < 0.8
        assert other is None
    network = trainer.lower.network
    assert isinstance(network.first.weight_hh_l0, nn.Parameter)
    assert mask_of(network.first, "weight_hh_l0") is None
    assert set(trainer.plain_network().state_dict()) == set(Network().state_dict())


def test_evaluation_uses_the_weights_as_they_are():
    trainer = trainer_of(
        weight_drop={"rate": 0.5}, embedding_dropout={"rate": 0.5}, variational_dropout={"rate": 0.5}
    )
    tokens = torch.arange(7).expand(2, 7)
    plain = Network()
    plain.load_state_dict(trainer.plain_network().state_dict())
    trainer.lower.network.eval()
    torch.testing.assert_close(trainer.lower.network(tokens), plain(tokens))


def test_a_tied_decoder_keeps_all_rows():
    trainer, seen = trainer_of(embedding_dropout={"rate": 0.9}), {}

    def watch(network):
        def note(module, given, output):
            seen["embedded"] = output.detach() if module is network.embedding else seen["embedded"]
            seen["logits"] = output.detach() if module is network.decoder else None

        return [layer.register_forward_hook(note) for layer in (network.embedding, network.decoder)]

    stepped(trainer, watch)
    assert (seen["embedded"] == 0).all(dim=2).any()
    assert not (seen["logits"] == 0).any()


def test_all_seven_are_tuned_together():
    parts = {"input": ["first"], "hidden": ["second"], "output": ["decoder"]}
    trainer = trainer_of(
        variational_dropout={"parts": parts, "rate": Tune(0.05)},
        embedding_dropout={"rate": Tune(0.05)},
        weight_drop={"rate": Tune(0.05)},
        activation_regularization={"strength": Tune(0.05)},
        temporal_activation_regularization={"strength": Tune(0.05)},
    )
    assert len(trainer.space) == 7
    shared = {h.name for h in trainer.space.tuned if h.shared}
    assert shared == {
        "embedding_dropout.rate",
        "weight_drop.rate",
        "activation_regularization.strength",
        "temporal_activation_regularization.strength",
    }


def test_where_the_batch_is_not_first_what_needs_it_says_so():
    class TimeFirst(Network):
        def __init__(self):
            super().__init__(batch_first=False)

    with pytest.raises(SettingError, match="first axis of what it sees is not the batch"):
        trainer_of(TimeFirst, variational_dropout={"parts": {"x": ["first"]}, "rate": 0.1})
    with pytest.raises(SettingError, match="first axis of what it sees is not the batch"):
        trainer_of(TimeFirst, temporal_activation_regularization={"strength": 0.1})
    stepped(trainer_of(TimeFirst, weight_drop={"rate": 0.5}))


def test_what_a_network_does_not_have_is_refused():
    from selftune.lower_level.classification import Classification

    data = torch.randn(8, 3), torch.arange(8) % 2
    objective = Classification(lambda: nn.Linear(3, 2), data, data, data, Optimization(batch_size=4))
    for name, mark in (("weight_drop", "recurrent_layers"), ("embedding_dropout", "embeddings")):
        with pytest.raises(SettingError, match=mark):
            Trainer(objective, [regularizers[name](rate=0.1)], steps=4)

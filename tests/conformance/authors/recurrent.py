"""Loops of the regularizers of recurrent language models."""

import torch
import torch.nn.functional as F
from authors.bench import BATCH, cross_entropy, loop, trained


def _next_tokens(network, tokens, kept_table=None, kept_inputs=None, kept_hidden=None, kept_outputs=None):
    """A language model step by step (Merity et al.); also the outputs of the LSTM before and after dropout."""
    embedded = F.embedding(tokens, network.embedding.weight)
    if kept_table is not None:
        embedded = embedded * kept_table[tokens][..., None]
    if kept_inputs is not None:
        embedded = embedded * kept_inputs[:, None]
    lstm = network.lstm
    recurrent = lstm.weight_hh_l0 if kept_hidden is None else lstm.weight_hh_l0 * kept_hidden
    h = c = embedded.new_zeros(len(tokens), lstm.hidden_size)
    outputs = []
    for x in embedded.unbind(1):
        gates = F.linear(x, lstm.weight_ih_l0, lstm.bias_ih_l0) + F.linear(h, recurrent, lstm.bias_hh_l0)
        i, f, g, o = gates.chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        outputs.append(h)
    raw = torch.stack(outputs, 1)
    dropped = raw if kept_outputs is None else raw * kept_outputs[:, None]
    return network.decoder(dropped), raw, dropped


def _kept(batch, rate, *shape):
    return (batch.rand(*shape) >= rate) / (1 - rate)


@loop("variational_dropout", kind="text", rate=0.4)
def variational_dropout(bench):
    """Gal and Ghahramani: the same features of a sequence at every time step."""

    def loss(network, batch):
        inputs = _kept(batch, 0.4, BATCH, 4)
        return cross_entropy(
            _next_tokens(network, batch.x, None, inputs, None, _kept(batch, 0.4, BATCH, 5))[0], batch.y
        )

    return trained(bench, loss)


@loop("embedding_dropout", kind="text", rate=0.3)
def embedding_dropout(bench):
    def loss(network, batch):
        return cross_entropy(_next_tokens(network, batch.x, _kept(batch, 0.3, 5))[0], batch.y)

    return trained(bench, loss)


@loop("weight_drop", kind="text", rate=0.3)
def weight_drop(bench):
    def loss(network, batch):
        return cross_entropy(_next_tokens(network, batch.x, None, None, _kept(batch, 0.3, 20, 5))[0], batch.y)

    return trained(bench, loss)


@loop("activation_regularization", kind="text", beside={"variational_dropout": {"rate": 0.4}}, strength=2.0)
def activation_regularization(bench):
    """On the outputs after dropout."""

    def loss(network, batch):
        inputs, outputs = _kept(batch, 0.4, BATCH, 4), _kept(batch, 0.4, BATCH, 5)
        logits, _, dropped = _next_tokens(network, batch.x, None, inputs, None, outputs)
        return cross_entropy(logits, batch.y) + 2.0 * dropped.pow(2).mean()

    return trained(bench, loss)


@loop(
    "temporal_activation_regularization", kind="text", beside={"variational_dropout": {"rate": 0.4}}, strength=3.0
)
def temporal_activation_regularization(bench):
    """On the outputs before dropout."""

    def loss(network, batch):
        inputs, outputs = _kept(batch, 0.4, BATCH, 4), _kept(batch, 0.4, BATCH, 5)
        logits, raw, _ = _next_tokens(network, batch.x, None, inputs, None, outputs)
        return cross_entropy(logits, batch.y) + 3.0 * (raw[:, 1:] - raw[:, :-1]).pow(2).mean()

    return trained(bench, loss)

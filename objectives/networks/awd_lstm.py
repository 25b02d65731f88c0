"""The language model of AWD-LSTM: stacked LSTM layers between an embedding and a decoder with the same weight."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from selftune.shapes import Float, Int, Tensor


class AWDLSTM(nn.Module):
    """Logits of the next token after each, (batch, length) to (batch, length, vocabulary).

    Every sequence starts from a state of zeros. The paper's dropout, of activations, embeddings and weights, is no
    part of the network.

    Args:
        embedding: width of the embedding and of the last layer, whose outputs meet the embedding's weight again.
        hidden: width of the layers before the last.

    Source: "Regularizing and Optimizing LSTM Language Models" (arXiv 1708.02182).

    >>> import torch
    >>> AWDLSTM(vocabulary=7, embedding=4, hidden=8)(torch.zeros(2, 5, dtype=torch.int64)).shape
    torch.Size([2, 5, 7])
    """

    def __init__(self, vocabulary: int, embedding: int = 400, hidden: int = 1150, layers: int = 3) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        widths = [embedding, *[hidden] * (layers - 1), embedding]
        self.layers = nn.ModuleList(nn.LSTM(before, width, batch_first=True) for before, width in pairwise(widths))
        self.decoder = nn.Linear(embedding, vocabulary)
        self.decoder.weight = self.embedding.weight
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)

    def forward(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length vocabulary"]:
        x = self.embedding(tokens)
        for layer in self.layers:
            x, _ = layer(x)
        logits: Tensor = self.decoder(x)
        return logits

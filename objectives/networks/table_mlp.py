"""A perceptron for rows of a table, with an embedding for every column of categories."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from selftune.objectives.networks.perceptron import perceptron
from torch import nn

from selftune.shapes import Float, Tensor


class TableMLP(nn.Module):
    """Outputs of rows; layers are ``embeddings.0``..., ``perceptron.hidden1``..., ``perceptron.output``.

    A row holds its numbers, then for every column of categories a 1 in the place of its category. A linear layer
    without bias looks the embedding up, which is the same as a table of rows, and goes on working where rows have
    been mixed. Without categories there is no embedding.

    Args:
        numbers: of a row.
        sizes: categories of every such column.
        outputs: of the network.
        hidden: units of every hidden layer.
        embedding: largest width of an embedding; it has half as many as there are categories, rounded up.

    >>> TableMLP(2, (3,), 1, hidden=(8,))(torch.zeros(4, 5)).shape
    torch.Size([4, 1])
    """

    def __init__(
        self, numbers: int, sizes: Sequence[int], outputs: int, hidden: Sequence[int], embedding: int = 16
    ) -> None:
        super().__init__()
        self.pieces = [numbers, *sizes]
        widths = [min(embedding, (size + 1) // 2) for size in sizes]
        self.embeddings = nn.ModuleList(
            nn.Linear(size, width, bias=False) for size, width in zip(sizes, widths, strict=True)
        )
        for weight in self.embeddings.parameters():
            nn.init.normal_(weight)  # as nn.Embedding begins: one 1 enters, however many columns there are
        self.perceptron = perceptron(numbers + sum(widths), hidden, outputs)

    def forward(self, rows: Float[Tensor, "batch numbers"]) -> Float[Tensor, "batch outputs"]:
        pieces = torch.split(rows, self.pieces, dim=1)
        embedded = [layer(piece) for layer, piece in zip(self.embeddings, pieces[1:], strict=True)]
        outputs: Tensor = self.perceptron(torch.cat([pieces[0], *embedded], dim=1))
        return outputs

"""A decoder-only language model in the style of GPT-2."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from selftune.shapes import Float, Int, Tensor


class Attention(nn.Module):
    """Every position attends to those before it and to itself."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "batch length width"]) -> Float[Tensor, "batch length width"]:
        batch, length, width = x.shape
        q, k, v = self.qkv(x).split(width, dim=2)
        q, k, v = (t.view(batch, length, self.heads, width // self.heads).transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(
            q, k, v, dropout_p=self.dropout if self.training else 0.0, is_causal=True
        )
        out: Tensor = self.out(y.transpose(1, 2).contiguous().view(batch, length, width))
        return out


class Block(nn.Module):
    """Attention and a small network for each position, each on what a norm layer gives."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads, dropout)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "batch length width"]) -> Float[Tensor, "batch length width"]:
        x = x + self.drop(self.attention(self.norm1(x)))
        out: Tensor = x + self.drop(self.mlp(self.norm2(x)))
        return out


class GPT(nn.Module):
    """Logits of the next token after each, (batch, length) to (batch, length, vocabulary).

    The head's weight is the embedding's; positions are learned.

    Args:
        length: the longest sequence.

    Source: "Language Models are Unsupervised Multitask Learners" (Radford et al., 2019).

    >>> GPT(vocabulary=7, length=5, width=8, depth=1, heads=2)(torch.zeros(2, 5, dtype=torch.int64)).shape
    torch.Size([2, 5, 7])
    """

    def __init__(
        self,
        vocabulary: int,
        length: int = 128,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(length, width)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.apply(self._initialize)
        self.head.weight = self.tokens.weight

    def _initialize(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(self, numbers: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length vocabulary"]:
        positions = torch.arange(numbers.shape[1], device=numbers.device)
        x = self.drop(self.tokens(numbers) + self.positions(positions))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x))
        return logits

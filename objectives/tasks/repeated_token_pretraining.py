"""A language model trained for many epochs on few tokens: the data."""

from __future__ import annotations

import torch

from selftune.shapes import Int, Tensor


def _splits(
    corpus: bytes, unique_tokens: int, held_out_tokens: int, context: int
) -> tuple[Int[Tensor, "train window"], Int[Tensor, "held_out window"]]:
    """Windows of ``context + 1`` bytes from the corpus' start, and held-out windows from what follows.

    Windows overlap by one byte, so that every byte but the first is predicted once. Tokens that do not fill a
    window are left out.

    Raises:
        ValueError: if the corpus is too short, or a split holds less than one window.
    """
    if len(corpus) < unique_tokens + held_out_tokens:
        raise ValueError(
            f"{unique_tokens} training and {held_out_tokens} held-out tokens need a longer corpus than"
            f" {len(corpus)} bytes."
        )
    if min(unique_tokens, held_out_tokens) <= context:
        raise ValueError(f"both splits need more tokens than the context of {context}.")
    tokens = torch.frombuffer(bytearray(corpus), dtype=torch.uint8).long()
    train, held_out = tokens[:unique_tokens], tokens[unique_tokens : unique_tokens + held_out_tokens]
    return train.unfold(0, context + 1, context), held_out.unfold(0, context + 1, context)

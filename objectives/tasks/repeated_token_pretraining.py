"""A small language model trained for many epochs on few tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from selftune.data import Split, check_splits
from selftune.errors import SettingError
from selftune.lower_level.objective import NetworkObjective, tasks
from selftune.lower_level.optimization import Optimization
from selftune.regularization.quantity import Quantity, quantities
from selftune.regularization.step import Step
from selftune.shapes import Float, Int, Tensor

quantities.declare(
    Quantity("token_logits", ("batch", "tokens", "vocabulary"), "float", "outputs at every position"),
)

BYTES = 256
HEADS = 4
MOST_LAYERS = 1000


@dataclass
class RepeatedTokenPretraining(NetworkObjective):
    """Next-byte prediction by a small transformer, on so little text that many epochs overfit it.

    Held-out loss turns up unless dropout and weight decay are tuned. The text is a file, or the descriptions of
    scikit-learn's data sets, about 14,000 bytes of English.

    Args:
        corpus: path of a text file; "" for the bundled text.
        unique_tokens: bytes of training text.
        validation_tokens, test_tokens: bytes of the text that follows, in this order.
        context: bytes that a prediction can see.
        width, depth: of the transformer; the width is a multiple of 4.
        batch_size, learning_rate: of AdamW without weight decay; windows of the text are the examples.

    Raises:
        SettingError: if the text is too short, a split holds less than one window, or the width does not fit.

    Source: set-up after "To Repeat or Not To Repeat: Insights from Scaling LLM under Token-Crisis"
    (arXiv 2305.13230) and "Pre-training under Infinite Compute" (arXiv 2509.14786); sizes are ours.

    >>> RepeatedTokenPretraining().splits()["train"]["inputs"].shape
    torch.Size([255, 32])
    """

    corpus: str = ""
    unique_tokens: int = 8192
    validation_tokens: int = 3072
    test_tokens: int = 2048
    context: int = 32
    width: int = 64
    depth: int = 2
    batch_size: int = 32
    learning_rate: float = 2e-3

    provides = frozenset({"index", "parameters", "learning_rate", "examples", "classes", "token_logits"})
    classes = BYTES

    def __post_init__(self) -> None:
        if self.width % HEADS:
            raise SettingError("width", f"must be a multiple of {HEADS}, got {self.width}")
        if not 1 <= self.depth <= MOST_LAYERS:
            raise SettingError("depth", f"must be at least 1 and at most {MOST_LAYERS}, got {self.depth}")
        self.optimization = Optimization(self.batch_size, "adamw", self.learning_rate)
        text = Path(self.corpus).read_bytes() if self.corpus else _bundled()
        sizes = {
            "unique_tokens": self.unique_tokens,
            "validation_tokens": self.validation_tokens,
            "test_tokens": self.test_tokens,
        }
        windows = _splits(text, sizes, self.context)
        self._splits = {
            name: {"inputs": window[:, :-1], "labels": window[:, 1:]}
            for name, window in zip(("train", "validation", "test"), windows, strict=True)
        }
        check_splits(self._splits, self.batch_size, None)

    def network(self) -> nn.Module:
        return _Transformer(self.width, self.depth, self.context)

    def splits(self) -> Mapping[str, Split]:
        return self._splits

    def targets(self, labels: Int[Tensor, "batch tokens"]) -> Int[Tensor, "batch tokens"]:
        return labels

    def loss(
        self, outputs: Float[Tensor, "batch tokens vocabulary"], targets: Int[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch"]:
        return F.cross_entropy(outputs.transpose(1, 2), targets, reduction="none").mean(dim=1)

    def validation_loss(
        self, outputs: Float[Tensor, "batch tokens vocabulary"], labels: Int[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch"]:
        return self.loss(outputs, labels)

    def quantity(self, name: str, step: Step) -> Any:
        return step.logits if name == "token_logits" else super().quantity(name, step)


tasks.register("repeated_token_pretraining", RepeatedTokenPretraining)


class _Transformer(nn.Module):
    """A decoder over bytes; positions are a plain parameter, so that no layer takes numbers but the first."""

    def __init__(self, width: int, depth: int, context: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(BYTES, width)
        self.positions = nn.Parameter(0.02 * torch.randn(context, width))
        self.blocks = nn.Sequential(*(_Block(width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, BYTES)

    def forward(self, tokens: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch tokens vocabulary"]:
        hidden = self.embedding(tokens) + self.positions[: tokens.shape[1]]
        logits: Tensor = self.output(self.norm(self.blocks(hidden)))
        return logits


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first_norm, self.second_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention, self.projection = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.hidden, self.back = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, inputs: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens width"]:
        mixed = self.attention(self.first_norm(inputs)).unflatten(-1, (3, HEADS, -1))
        query, key, value = (part.transpose(1, 2) for part in mixed.unbind(dim=2))
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        inputs = inputs + self.projection(seen.transpose(1, 2).flatten(2))
        outputs: Tensor = inputs + self.back(F.gelu(self.hidden(self.second_norm(inputs))))
        return outputs


def _bundled() -> bytes:
    from sklearn import datasets

    names = ("breast_cancer", "wine", "iris", "digits", "diabetes")
    return "".join(getattr(datasets, f"load_{name}")().DESCR for name in names).encode()


def _splits(corpus: bytes, sizes: Mapping[str, int], context: int) -> list[Int[Tensor, "windows window"]]:
    """Windows of ``context + 1`` bytes of consecutive parts of a text.

    Windows of a part overlap by one byte, so that every byte but its first is predicted once. Bytes that do not
    fill a window are left out.

    Args:
        sizes: bytes of every part, by the name of the setting that says so.
    """
    for name, size in sizes.items():
        if size <= context:
            raise SettingError(name, f"must be above the context of {context}, got {size}")
    if len(corpus) < sum(sizes.values()):
        raise SettingError(
            "unique_tokens", f"the splits need {sum(sizes.values())} bytes of text, but there are {len(corpus)}"
        )
    tokens = torch.frombuffer(bytearray(corpus[: sum(sizes.values())]), dtype=torch.uint8).long()
    return [
        part.unfold(0, context + 1, context).contiguous() for part in torch.split(tokens, list(sizes.values()))
    ]

"""Language modelling: the next token at every position."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from selftune.data import SPLITS, as_tensor
from selftune.data.kinds import is_held
from selftune.data.loading import Loading
from selftune.errors import SettingError
from selftune.fields import shown
from selftune.lower_level.losses import Losses
from selftune.lower_level.optimization import Optimization
from selftune.lower_level.supervised_objective import SupervisedObjective
from selftune.regularization.quantity import Axes
from selftune.regularization.step import Step
from selftune.shapes import Bool, Float, Int, Tensor

Tokens = Int[Tensor, "tokens"] | Int[Tensor, "sequences tokens"] | Sequence[Tensor]
"""A stream of token numbers, sequences of equal length, or sequences of any length, one tensor each."""


class LanguageModelling(SupervisedObjective):
    """A network that predicts every token from those before it: cross-entropy per token.

    The examples of a batch are sequences. Every token that counts weighs the same, in training, validation and
    metrics, so that long sequences count for more than short ones. A stream is cut into sequences of ``context``
    tokens; each of its tokens but the first is predicted once.

    Metrics are ``accuracy``, the share of tokens that are the most likely one, and ``bits_per_token``, of which
    less is better; the perplexity is two to its power.

    Args:
        build: makes a freshly initialised network, from token numbers (batch, tokens) to logits
            (batch, tokens, vocabulary) of the token that follows each of them.
        train, validation, test: each a stream of token numbers, sequences of equal length as rows, or a list of
            sequences of any length; or a pair (inputs, labels) of rows, labels being the tokens that follow. Data
            sets and loaders, see ``SupervisedObjective``, give rows of tokens or such pairs.
        optimization: how the network is trained; ``batch_size`` counts sequences.
        validation_batch_size: sequences per hypergradient; None uses the whole validation split.
        context: tokens that a prediction in a stream can see, at least 1.
        ignored: what is not predicted where it stands in place of a token: padding, prompts.
        loading: how the sequences of a ``Dataset`` are loaded.

    Raises:
        SettingError: as ``SupervisedObjective``; if tokens are no whole numbers, sequences shorter than two, a
            token has no output, or ``context`` is missing or has nothing to cut.

    >>> from selftune import Optimization
    >>> text = torch.frombuffer(bytearray(b"to be, or not to be, that is the question:"), dtype=torch.uint8)
    >>> build = lambda: nn.Sequential(nn.Embedding(128, 8), nn.Linear(8, 128))
    >>> objective = LanguageModelling(build, text, text, text, Optimization(batch_size=2), context=16)
    >>> objective.splits()["train"]["inputs"].shape, objective.classes
    (torch.Size([3, 16]), 128)
    """

    provides = SupervisedObjective.provides.union(
        {"probs", "classes", "token_logits", "token_mask", "reference_token_logits"}
    )
    axes: Mapping[str, Axes] = {
        "inputs": ("batch", "tokens"),
        "labels": ("batch", "tokens"),
        "logits": ("batch", "tokens", "classes"),
        "targets": ("batch", "tokens", "classes"),
        "probs": ("batch", "tokens", "classes"),
    }

    def __init__(
        self,
        build: Callable[[], nn.Module],
        train: Any,
        validation: Any,
        test: Any,
        optimization: Optimization | None = None,
        validation_batch_size: int | None = None,
        context: int | None = None,
        ignored: int = -100,
        loading: Loading | None = None,
    ) -> None:
        self.ignored = ignored
        self.context = context
        if context is not None and (isinstance(context, bool) or not isinstance(context, int) or context < 1):
            raise SettingError("context", f"must be a whole number of at least 1, got {shown(context)}")
        given = dict(zip(SPLITS, (train, validation, test), strict=True))
        held = {name: tokens for name, tokens in given.items() if is_held(tokens)}
        if context is not None and not any(_is_stream(tokens) for tokens in held.values()):
            raise SettingError("context", "is for a stream of tokens, of which there is none; leave it out")
        pairs = {name: self._pair(name, tokens) for name, tokens in held.items()}
        longest = max((inputs.shape[1] for inputs, _ in pairs.values()), default=0)
        given |= {name: self._padded(*pair, longest) for name, pair in pairs.items()}
        super().__init__(
            build,
            given["train"],
            given["validation"],
            given["test"],
            optimization,
            validation_batch_size,
            ignored=None,
            loading=loading,
        )

    # Data ----------------------------------------------------------------------------------------------

    def _pair(self, split: str, given: Any) -> tuple[Tensor, Tensor]:
        """Inputs and the tokens that follow them, as rows."""
        if _is_pair(given):
            inputs, labels = (self._numbers(split, one) for one in given)
            if inputs.shape != labels.shape:
                shapes = f"{tuple(inputs.shape)} and {tuple(labels.shape)}"
                raise SettingError(split, f"has inputs and labels of different shapes, {shapes}")
            return inputs, labels
        if isinstance(given, list | tuple):
            sequences = [self._numbers(split, one) for one in given]
            if not sequences or any(sequence.ndim != 1 or len(sequence) < 2 for sequence in sequences):
                raise SettingError(split, "must hold sequences of two tokens at least, one tensor each")
            rows = nn.utils.rnn.pad_sequence(sequences, batch_first=True, padding_value=self.ignored)
        else:
            rows = self._numbers(split, given)
            if rows.ndim == 1:
                rows = self._windows(split, rows)
        if rows.ndim != 2 or rows.shape[1] < 2 or not len(rows):
            raise SettingError(
                split,
                f"must be a stream of tokens, rows of two tokens at least, or a list of sequences,"
                f" not {shown(given)}",
            )
        return rows[:, :-1], rows[:, 1:]

    def _numbers(self, split: str, given: Any) -> Int[Tensor, "*tokens"]:
        tokens = as_tensor(split, given)
        if tokens.is_floating_point() or tokens.is_complex():
            raise SettingError(
                split, f"must hold token numbers, not {shown(tokens)}; Regression takes real numbers"
            )
        return tokens.long()

    def _windows(self, split: str, stream: Int[Tensor, "tokens"]) -> Int[Tensor, "windows window"]:
        """Windows of ``context + 1`` tokens that overlap by one, the last one padded."""
        if self.context is None:
            raise SettingError("context", f"is missing: the {split} split is a stream; say how many tokens to see")
        if len(stream) < 2:
            raise SettingError(split, f"must hold two tokens at least, got {shown(stream)}")
        windows = math.ceil((len(stream) - 1) / self.context)
        missing = windows * self.context + 1 - len(stream)
        return F.pad(stream, (0, missing), value=self.ignored).unfold(0, self.context + 1, self.context)

    def _padded(self, inputs: Tensor, labels: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """Rows of one length; what enters the network in place of what is ignored is token 0."""
        missing = length - inputs.shape[1]
        inputs = torch.where(inputs == self.ignored, 0, inputs)
        return F.pad(inputs, (0, missing)), F.pad(labels, (0, missing), value=self.ignored)

    def arrange(self, split: str, batch: Any) -> dict[str, Any]:
        """Rows of tokens become inputs and the tokens that follow them."""
        if isinstance(batch, Tensor):
            batch = batch[:, :-1], batch[:, 1:]
        arranged = super().arrange(split, batch)
        inputs = arranged["inputs"]
        return arranged | {"inputs": torch.where(inputs == self.ignored, 0, inputs)}

    def read_labels(self, labels: Mapping[str, Tensor], ignored: int | None) -> dict[str, Tensor]:
        for name, tensor in labels.items():
            counted = tensor[tensor != self.ignored]
            if not len(counted):
                raise SettingError("labels", f"of the {name} split are all {self.ignored}, so that none counts")
            if int(counted.min()) < 0:
                raise SettingError(
                    "labels",
                    f"of the {name} split hold {int(counted.min())}, but tokens are numbered from 0;"
                    f" ignored={int(counted.min())} leaves it out",
                )
        return dict(labels)

    def check_outputs(self, outputs: Any) -> None:
        rows = self.example(len(outputs))["labels"] if isinstance(outputs, Tensor) and outputs.ndim else None
        if rows is None or outputs.shape[:-1] != rows.shape or not outputs.is_floating_point():
            raise SettingError(
                "build",
                "the network must put out real scores of shape (batch, tokens, vocabulary), but it makes"
                f" {shown(outputs)}",
            )
        self.classes = outputs.shape[-1]
        for name, labels in self.seen_labels().items():
            largest = int(labels.max())
            if largest >= self.classes:
                raise SettingError(
                    "labels",
                    f"of the {name} split go up to {largest}, but the network has outputs for {self.classes}"
                    f" tokens; give it {largest + 1}",
                )

    # Losses --------------------------------------------------------------------------------------------

    def counted(self, labels: Int[Tensor, "batch tokens"]) -> Bool[Tensor, "batch tokens"]:
        """Where a token is predicted."""
        return labels != self.ignored

    def targets(self, labels: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch tokens classes"]:
        """Rows with a single 1; zeros where nothing is predicted."""
        targets = torch.zeros(*labels.shape, self.classes, device=labels.device)
        counted = self.counted(labels)
        index = torch.where(counted, labels, 0).unsqueeze(-1)
        return targets.scatter_(-1, index, counted.unsqueeze(-1).to(targets.dtype))

    def plain_targets(self, labels: Int[Tensor, "batch tokens"]) -> Int[Tensor, "batch tokens"]:
        """The token numbers: rows as long as the vocabulary would be as large as the outputs."""
        return labels

    def loss(
        self,
        outputs: Float[Tensor, "batch tokens classes"],
        targets: Int[Tensor, "batch tokens"] | Float[Tensor, "batch tokens classes"],
    ) -> Losses:
        """Of every token, from token numbers or probabilities of tokens."""
        if targets.is_floating_point():
            values = F.cross_entropy(outputs.flatten(0, 1), targets.flatten(0, 1), reduction="none")
            return Losses(values.view(targets.shape[:-1]), targets.any(dim=-1))
        values = F.cross_entropy(
            outputs.flatten(0, 1), targets.flatten(), ignore_index=self.ignored, reduction="none"
        )
        return Losses(values.view(targets.shape), self.counted(targets))

    def losses(self, step: Step) -> Losses:
        # smoothing fills also the rows of what is not predicted
        return replace(self.loss(step.logits, step.targets), weights=self.counted(step.labels))

    def validation_loss(
        self, outputs: Float[Tensor, "batch tokens classes"], labels: Int[Tensor, "batch tokens"]
    ) -> Losses:
        return self.loss(outputs, labels)

    def metrics(
        self, outputs: Float[Tensor, "batch tokens classes"], labels: Int[Tensor, "batch tokens"]
    ) -> dict[str, Float[Tensor, "batch"] | Losses]:
        losses = self.loss(outputs, labels)
        right = (outputs.argmax(dim=-1) == labels).to(outputs.dtype)
        return {
            "accuracy": Losses(right, losses.weights),
            "bits_per_token": replace(losses, values=losses.values / math.log(2)),
        }

    def constant_answer(self) -> Float[Tensor, "tokens classes"] | None:
        """Logarithms of the tokens' shares of what is predicted in the training split, at every position.

        None where not all splits are in memory.
        """
        if not self.all_held:
            return None
        labels = self.splits()["train"]["labels"]
        counts = labels[self.counted(labels)].bincount(minlength=self.classes).to(torch.float32)
        shares = (counts / counts.sum()).clamp_min(torch.finfo(torch.float32).tiny)
        return shares.log().expand(labels.shape[1], -1)

    def quantity(self, name: str, step: Step) -> Any:
        if name == "token_logits":
            return step.logits
        if name == "reference_token_logits":
            return step.reference_logits
        return self.counted(step.labels) if name == "token_mask" else super().quantity(name, step)


def _is_pair(given: Any) -> bool:
    pair = isinstance(given, tuple) and len(given) == 2
    return pair and all(getattr(one, "ndim", 0) == 2 for one in given)


def _is_stream(given: Any) -> bool:
    return getattr(given, "ndim", 0) == 1

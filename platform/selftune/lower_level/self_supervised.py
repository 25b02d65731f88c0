"""Objectives without labels: two views of every example, and what regularizers make of their embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import nn

from selftune.data import SPLITS, Split, check_splits, pair_of
from selftune.errors import SettingError
from selftune.fields import shown
from selftune.lower_level.objective import NetworkObjective, check_door
from selftune.lower_level.optimization import Optimization
from selftune.regularization.quantity import Quantity, quantities
from selftune.regularization.step import Step
from selftune.shapes import Float, Int, Tensor

View = Callable[[Tensor, torch.Generator], Tensor]
"""Makes a view of a batch of examples from random numbers of the given generator alone."""

quantities.declare(
    Quantity("view_a", ("batch", "dim"), "float", "embedding of one view of every example"),
    Quantity("view_b", ("batch", "dim"), "float", "embedding of another view of it"),
    Quantity("second_inputs", ("batch", ...), "number", "the inputs behind view_b, or a second crop"),
)

_TEMPERATURE = 0.5


class SelfSupervised(NetworkObjective):
    """A network from examples to embeddings, trained by the regularizers alone, on two views of every example.

    The training loss is zero: what shapes the embeddings are penalties such as ``barlow_twins``. The validation
    loss is the InfoNCE loss between two fixed views of the validation examples, which needs no labels. Labels are
    there for linear probes and diagnostics; outputs have nothing to do with classes, so that none are provided.
    ``batch_norm`` and ``branches`` are, as with ``Classification``.

    Args:
        build: makes a freshly initialised network, from inputs to embeddings.
        train, validation, test: pairs of inputs (examples first) and integer labels.
        view: makes a random view of a batch.
        optimization: how the network is trained.
        validation_batch_size: examples per hypergradient; None uses the whole validation split.

    Raises:
        SettingError: if a split is empty or ragged, or has fewer examples than a batch.

    >>> data = torch.randn(32, 4), torch.randint(3, (32,))
    >>> noisy = lambda x, g: x + 0.1 * torch.randn(x.shape, generator=g, device=x.device)
    >>> objective = SelfSupervised(lambda: nn.Linear(4, 3), data, data, data, noisy, Optimization(batch_size=8))
    >>> sorted({"view_a", "view_b"} & objective.provides)
    ['view_a', 'view_b']
    """

    provides = frozenset(
        {
            "inputs",
            "second_inputs",
            "labels",
            "index",
            "logits",
            "view_a",
            "view_b",
            "parameters",
            "learning_rate",
            "examples",
        }
    )

    def __init__(
        self,
        build: Callable[[], nn.Module],
        train: tuple[Tensor, Tensor],
        validation: tuple[Tensor, Tensor],
        test: tuple[Tensor, Tensor],
        view: View,
        optimization: Optimization | None = None,
        validation_batch_size: int | None = None,
    ) -> None:
        check_door(build, optimization, validation_batch_size)
        if not callable(view):
            raise SettingError("view", f"must be a function of a batch and a generator, got {shown(view)}")
        self._build = build
        self._view = view
        self.optimization = optimization or Optimization()
        self.validation_batch_size = validation_batch_size
        dtype = next((p.dtype for p in self.structure().parameters() if p.is_floating_point()), torch.float32)
        pairs = {
            name: pair_of(name, pair, dtype) for name, pair in zip(SPLITS, (train, validation, test), strict=True)
        }
        self._splits = {"train": dict(zip(("inputs", "labels"), pairs["train"], strict=True))}
        for name in SPLITS[1:]:
            inputs, labels = pairs[name]
            generator = torch.Generator().manual_seed(SPLITS.index(name))
            views = [view(inputs, generator) for _ in range(2)]
            self._splits[name] = {"inputs": views[0], "second_inputs": views[1], "labels": labels}
        check_splits(self._splits, self.optimization.batch_size, validation_batch_size)
        self.provides = type(self).provides | self.marks()
        self.inventory()

    def network(self) -> nn.Module:
        return self._build()

    def splits(self) -> Mapping[str, Split]:
        return self._splits

    def prepare(self, step: Step) -> None:
        if "second_inputs" in step.batch:  # validation views are fixed
            return
        inputs = step.inputs
        step.inputs = self._view(inputs, step.generator)
        step.know(second_inputs=self._view(inputs, step.generator))

    def quantity(self, name: str, step: Step) -> Tensor:
        if name == "view_a":
            return step.logits
        if name == "view_b":
            other: Tensor = step.asks.pass_through(step, step.second_inputs).logits
            return other
        raise NotImplementedError(f"self-supervised objectives compute no {name}")

    def targets(self, labels: Int[Tensor, "batch"]) -> Float[Tensor, "batch 0"]:
        return torch.empty(len(labels), 0, device=labels.device)

    def loss(self, outputs: Float[Tensor, "batch dim"], targets: Tensor) -> Float[Tensor, "batch"]:
        return (outputs * 0).sum(dim=-1)

    def outputs(self, network: Callable[[Tensor], Tensor], batch: Split) -> Float[Tensor, "batch 2 dim"]:
        return torch.stack([network(batch["inputs"]), network(batch["second_inputs"])], dim=1)

    def validation_loss(self, outputs: Float[Tensor, "batch 2 dim"], labels: Tensor) -> Float[Tensor, "batch"]:
        first, second = F.normalize(outputs, dim=-1).unbind(dim=1)
        similarity = first @ second.T / _TEMPERATURE
        return F.cross_entropy(similarity, torch.arange(len(first), device=first.device), reduction="none")

"""One training step as regularizers and diagnostics see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import torch

from selftune.data.drawn import Drawn
from selftune.data.nested import size_of
from selftune.hyperparameters import Hyperparameter
from selftune.shapes import Bool, Float, Int, Tensor


@dataclass(frozen=True)
class Outputs:
    """What a pass through the network gave; ``logits`` is whatever it puts out, often one tensor."""

    logits: Any
    features: Tensor
    layer_features: list[Tensor]


@dataclass(frozen=True)
class Mixing:
    """How every example of a batch was mixed with another one.

    Attributes:
        inputs, targets: the examples before.
        partners: positions of the other ones.
        share: of the example itself, the rest being its partner's; one for all or one per example.
    """

    inputs: Float[Tensor, "batch ..."]
    targets: Float[Tensor, "batch ..."]
    partners: Int[Tensor, "batch"]
    share: Float[Tensor, "*batch"]


class Context(Protocol):
    """What a step can ask of the training it belongs to."""

    steps: int | None
    """Training steps of the whole run; None where nobody knows."""

    def pass_through(self, step: Step, inputs: Any) -> Outputs:
        """Another pass of the step's network, with the step's own weights and what is attached to its layers."""

    def pass_copy(
        self, step: Step, tensors: Mapping[str, Tensor], inputs: Any, batch_statistics: bool = False
    ) -> Outputs:
        """A pass in evaluation mode, without gradient, with other tensors in place of the network's own.

        With ``batch_statistics`` normalisation layers that train use the statistics of these inputs; none is kept.
        """

    def weight(self, step: Step, layer: str) -> Tensor:
        """The weight that a layer uses with the step's own tensors, also where it is reparameterised."""

    def bias(self, step: Step, layer: str) -> Tensor:
        """The bias that a layer uses with the step's own tensors; zeros where it has none."""

    def recompute(self, step: Step) -> Float[Tensor, ""]:
        """The training loss of the step again: same batch, same draws, current weights; no state changes."""

    def gradients(self, loss: Float[Tensor, ""], weights: Sequence[Tensor]) -> list[Tensor]:
        """Gradients of a loss of the step, of all processes together where several share its batch."""

    def per_example_names(self, step: Step) -> frozenset[str]:
        """Names of the hyperparameters whose values have one row per example in this step."""

    def part(self, step: Step, rows: Int[Tensor, "rows"]) -> Float[Tensor, ""]:
        """The training loss of some of the step's examples alone; its draws follow those of the step so far."""

    def descend(self, step: Step, loss: Float[Tensor, ""]) -> None:
        """One step of the optimizer on a loss, with what regularizers do around it."""

    def forget_moments(self, step: Step, entries: Mapping[str, Bool[Tensor, "*shape"]] | None = None) -> None:
        """Makes the optimizer forget what it remembers of earlier steps; a perturbed step changes nothing.

        Asked for before the step's update, it acts on that one already. The optimizer's memory is saved with the
        trainer, and a request follows from the step, so that it is the same after a resume and in a replay.

        Args:
            entries: which entries of which parameters, by name; None for all, as if the optimizer were new.
        """


_NOTHING = torch.empty(0)


@dataclass
class Step:
    """One training step; hooks change ``inputs`` and ``targets`` by assignment.

    Every quantity that the study provides is an attribute by its name, computed when it is first read.

    Attributes:
        inputs: what enters the network; a tensor, or whatever structure it takes.
        drawn: the batch as it was drawn, before anything was changed.
        outputs: what the network put out; ``logits`` where that is one tensor.
        values: values of every hyperparameter by full name, shape () or (parts,) when shared by the batch,
            (batch,) or (batch, parts) when perturbed per example.
        generator: the step's own random numbers; nothing else may be drawn from.
        momentum: of SGD; 0 where the optimizer has none that adds up.
        perturbed: True in a step that must not change state (tables, averages): one that fits the response, or
            that recomputes a loss.
        paired: whether the second half of the batch repeats the examples of the first, whose random numbers it
            shares.
        measured: True outside of training, where diagnostics look on: nothing acts on layers.
        mixings: how examples were mixed with each other, in order; empty where they are themselves.
        rows: the rows of ``values`` that the rows of ``inputs`` belong to; None where they are the same.
        part: while a pass runs, which rows of the batch the network sees; None where it sees all.
        part_of: how many rows the batch of the pass has.
    """

    number: int
    inputs: Any
    labels: Any
    targets: Any
    drawn: Drawn
    values: Mapping[str, Any]
    generator: torch.Generator
    learning_rate: float
    momentum: float
    classes: int
    examples: int
    perturbed: bool = False
    paired: bool = False
    measured: bool = False
    mixings: tuple[Mixing, ...] = ()
    outputs: Any = None
    logits: Tensor = field(default_factory=lambda: _NOTHING)
    parameters: Mapping[str, Tensor] = field(default_factory=dict)
    rows: Int[Tensor, "rows"] | None = None
    batch: Any = None
    forward: Callable[..., Any] | None = None
    context: Context | None = None
    part: slice | None = None
    part_of: int = 0
    providers: Mapping[str, Callable[[Step], Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._drawn_targets = self.targets

    def __getattr__(self, name: str) -> Any:
        provider = self.__dict__.get("providers", {}).get(name)
        if provider is not None:
            value = provider(self)
        else:
            batch = self.__dict__.get("batch")
            if not (isinstance(batch, Mapping) and name in batch):
                raise AttributeError(f"this training step provides no {name}")
            value = batch[name]
        self.__dict__[name] = value
        return value

    @property
    def index(self) -> Int[Tensor, "batch"]:
        """Positions of the drawn examples in the training data."""
        if self.drawn.index is None:
            raise AttributeError("the data of this training step do not say which examples it has")
        return self.drawn.index

    @property
    def has_own_targets(self) -> bool:
        """Whether targets are those that came with the batch, untouched."""
        return self.targets is self._drawn_targets

    @property
    def size(self) -> int:
        """Number of examples, with those that were added."""
        return size_of(self.inputs)

    @cached_property
    def probs(self) -> Float[Tensor, "batch classes"]:
        return torch.softmax(self.logits, dim=-1)

    @property
    def asks(self) -> Context:
        """The training that the step belongs to."""
        assert self.context is not None
        return self.context

    def know(self, **quantities: Any) -> None:
        """Quantities that are computed already."""
        self.__dict__.update(quantities)

    def value(self, hyperparameter: Hyperparameter) -> Any:
        """The current value of a hyperparameter: of one per example, or per class, those of the batch, mixed as
        examples were.

        Shape () or (parts,) where the batch shares it; (batch,) or (batch, parts) where it is perturbed per
        example; (batch,) where it is one per example or per class.
        """
        if self.measured:
            raise AttributeError(f"{hyperparameter.name} has no value where nothing is trained")
        value = self.values[hyperparameter.name]
        if hyperparameter.per_example or hyperparameter.per_class:
            index = self.index if hyperparameter.per_example else self.labels
            own = value[index] if value.ndim == 1 else value.gather(1, index.unsqueeze(1)).squeeze(1)
            value = self.mix_rows(own)
        elif self.part is None or hyperparameter.name not in self.asks.per_example_names(self):
            return value
        return value if self.part is None else value[self.part]

    @contextmanager
    def in_part(self, part: slice | None, rows: int) -> Iterator[None]:
        """Within it the network runs on a part of so many rows: values and draws are those of its examples."""
        before = self.part, self.part_of
        self.part, self.part_of = part, rows
        try:
            yield
        finally:
            self.part, self.part_of = before

    def rand(self, *shape: int, examples: int | None = None) -> Float[Tensor, "*shape"]:
        """U[0, 1) draws.

        Args:
            examples: the axis along which they belong to examples, or to rows of examples, those of one after
                those of another, as a layer sees them; None where they belong to all. While several processes
                share a batch, each gets the draws of its own examples.
        """
        return self._drawn(torch.rand, shape, examples)

    def randn(self, *shape: int, examples: int | None = None) -> Float[Tensor, "*shape"]:
        """N(0, 1) draws; see ``rand``."""
        return self._drawn(torch.randn, shape, examples)

    def _drawn(self, draw: Callable[..., Tensor], shape: tuple[int, ...], examples: int | None) -> Tensor:
        if self.part is None or examples is None:
            return self._draw(draw, shape, examples)
        each, rest = divmod(shape[examples], self.part.stop - self.part.start)
        if rest:
            raise RuntimeError(
                f"{shape[examples]} rows along axis {examples} do not belong to"
                f" {self.part.stop - self.part.start} examples alike"
            )
        whole = (*shape[:examples], each * self.part_of, *shape[examples + 1 :])
        return self._draw(draw, whole, examples).narrow(examples, each * self.part.start, shape[examples])

    def _draw(self, draw: Callable[..., Tensor], shape: tuple[int, ...], examples: int | None) -> Tensor:
        """Draws for whole batches, whose second half has those of the first where the examples are ``paired``."""
        if not self.paired or self.rows is not None or examples is None or shape[examples] % 2:
            return draw(shape, generator=self.generator, device=self.generator.device)
        half = (*shape[:examples], shape[examples] // 2, *shape[examples + 1 :])
        drawn = draw(half, generator=self.generator, device=self.generator.device)
        return torch.cat([drawn, drawn], examples)

    def permutation(self) -> Int[Tensor, "batch"]:
        """A random order of the examples."""
        half = self.size // 2
        if not self.paired or self.rows is not None or self.size % 2:
            return torch.randperm(self.size, generator=self.generator, device=self.generator.device)
        order = torch.randperm(half, generator=self.generator, device=self.generator.device)
        return torch.cat([order, order + half])

    def mix_rows(self, rows: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """What belongs to single examples, mixed as their inputs were."""
        for mixing in self.mixings:
            share = per_example(mixing.share, rows)
            rows = share * rows + (1 - share) * rows[mixing.partners]
        return rows

    def append(self, inputs: Tensor, labels: Tensor, targets: Tensor, **others: Tensor) -> None:
        """Adds examples to the batch; they take the perturbations of the first rows, over and over.

        They have no ``index``: tables of training examples have rows for the first ones only.

        Args:
            others: the rows of what else the batch has of every example, such as ``domains``.
        """
        batch, added = self.size, len(inputs)
        everyone = torch.arange(batch + added, device=inputs.device)
        rows = everyone % batch if self.rows is None else self.rows[everyone % batch]
        perturbed = self.asks.per_example_names(self)
        self.values = {
            name: value[everyone % batch] if name in perturbed else value for name, value in self.values.items()
        }
        self.rows = rows
        self.inputs = torch.cat([self.inputs, inputs])
        self.labels = torch.cat([self.labels, labels])
        self.targets = torch.cat([self.targets, targets])
        if isinstance(self.batch, Mapping):
            self.batch = {
                name: torch.cat([tensor, others[name]]) if name in others else tensor
                for name, tensor in self.batch.items()
            }


def per_example(value: Any, like: Tensor) -> Any:
    """A hyperparameter of shape (batch,) with trailing axes so that it multiplies ``like``; others unchanged.

    >>> per_example(torch.ones(2), torch.ones(2, 3, 3)).shape
    torch.Size([2, 1, 1])
    """
    if isinstance(value, Tensor) and value.ndim == 1:
        return value.view(-1, *([1] * (like.ndim - 1)))
    return value

"""A network trained by functions of its outputs and of the batch, whatever a batch is."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from selftune.data.loading import Loading
from selftune.data.nested import mapped, size_of
from selftune.data.places import Place, at, places_in, put, shown_place
from selftune.errors import SettingError
from selftune.fields import shown
from selftune.lower_level.door import (
    check_settings_of_read,
    sized,
    taken_apart,
    warn_of_overlap,
    without_positions,
)
from selftune.lower_level.losses import Losses, as_losses, check_losses
from selftune.lower_level.objective import NetworkObjective
from selftune.lower_level.optimization import Optimization
from selftune.networks.inventory import undisturbed
from selftune.networks.modes import constant_buffers, evaluating
from selftune.networks.precision import widened
from selftune.regularization.quantity import Quantity, observed, quantities
from selftune.regularization.step import Step
from selftune.shapes import Float, Int, Tensor

Loss = Callable[[Any, Any], Tensor | Losses]
"""Loss values of outputs on a batch: one per example, or ``Losses`` per element."""

_OF_THE_BATCH = ("index", "labels")
"""Quantities that are asked for before the network has run."""


@dataclass(frozen=True)
class Seen:
    """What was found out about a training while its network ran on one batch.

    Attributes:
        outputs: of the network.
        inputs: where the tensor stands that enters the network first; None where it is no part of the batch.
        labels: where the classes stand; None where nobody found them.
        classes: how many the outputs have; 0 where outputs have nothing to do with classes.
        plain: whether the loss is the cross-entropy of outputs and classes, so that targets may be changed.
    """

    outputs: Any
    inputs: Place | None
    labels: Place | None
    classes: int
    plain: bool


class FunctionObjective(NetworkObjective):
    """A network and what people write around it: how it is fed, its loss, its data.

    What regularizers need beside is found while the network runs on a few examples. ``inputs`` are the tensor of
    the batch that enters the network first. Where outputs are of shape (batch, classes), and one tensor of the
    batch holds a whole number below ``classes`` per example, these are ``labels``. If the loss is their
    cross-entropy, ``targets`` are provided too, so that labels can be smoothed and mixed.
    ``quantities`` says what cannot be found, or is something else.

    Args:
        build: makes a freshly initialised network.
        loss: of outputs and batch; one value per example, or ``Losses``.
        train, validation, test: batches of all examples of a split, of any structure; or a map-style
            ``torch.utils.data.Dataset``, a ``DataLoader`` or another iterable of batches; ``test`` may be left
            out.
        forward: how a batch is fed to the network; None calls it with the batch.
        validation_loss: of outputs and batch, below no regularization; None takes ``loss``.
        metrics: of outputs and batch, further measures by name.
        quantities: functions of outputs and batch by the name of a quantity. ``labels`` and ``index`` are asked
            for before the network has run: their outputs are None.
        optimization: how the network is trained.
        validation_batch_size: examples per hypergradient; None uses the whole validation split of tensors, and
            batches as large as those of training of a data set.
        loading: how the examples of a ``Dataset`` are loaded.

    Raises:
        SettingError: if the network does not run on the data, or the loss is not per element; if a data set or
            loader cannot be read, or a setting would do nothing with it.

    >>> from selftune import Tune, tune
    >>> x = torch.randn(96, 8)
    >>> data = {"features": x, "wanted": x[:, :2].sum(dim=1)}
    >>> parts = [{name: tensor[i : i + 32] for name, tensor in data.items()} for i in (0, 32, 64)]
    >>> objective = FunctionObjective(
    ...     lambda: nn.Linear(8, 1),
    ...     lambda outputs, batch: (outputs.squeeze(1) - batch["wanted"]).square(),
    ...     *parts,
    ...     forward=lambda network, batch: network(batch["features"]),
    ...     optimization=Optimization(batch_size=16),
    ... )
    >>> result = tune(objective, {"weight_decay": {"strength": Tune(1e-3)}}, steps=20, warmup_steps=10)
    >>> list(result.hyperparameters)
    ['weight_decay.strength']
    """

    _read: Mapping[str, Any] = {}

    def __init__(
        self,
        build: Callable[[], nn.Module],
        loss: Loss,
        train: Any,
        validation: Any,
        test: Any = None,
        *,
        forward: Callable[[Callable[..., Any], Any], Any] | None = None,
        validation_loss: Loss | None = None,
        metrics: Callable[[Any, Any], Mapping[str, Tensor | Losses]] | None = None,
        quantities: Mapping[str, Callable[[Any, Any], Any]] | None = None,
        optimization: Optimization | None = None,
        validation_batch_size: int | None = None,
        loading: Loading | None = None,
    ) -> None:
        self._build = build
        self.optimization = optimization or Optimization()
        self.validation_batch_size = validation_batch_size
        self.loading = loading or Loading()
        given = {"train": train, "validation": validation} | ({} if test is None else {"test": test})
        self._splits, self._read = taken_apart(given, self.optimization.batch_size, self.loading)
        check_settings_of_read(self._read, None, None, (), validation_batch_size, self.loading)
        first = {name: self.first_batch(name) for name in self._read}
        self.optimization = sized(self.optimization, self._read, first)
        warn_of_overlap(given, first)
        self._functions(loss, forward, validation_loss, metrics, quantities)
        self.provides |= without_positions({"index", "examples"}, self._read.get("train"))

    def _functions(
        self,
        loss: Loss,
        forward: Callable[[Callable[..., Any], Any], Any] | None,
        validation_loss: Loss | None,
        metrics: Callable[[Any, Any], Mapping[str, Tensor | Losses]] | None,
        quantities: Mapping[str, Callable[[Any, Any], Any]] | None,
    ) -> None:
        """Keeps the functions, and looks at what they make of a few examples."""
        for key, given in (("loss", loss), ("forward", forward), ("validation_loss", validation_loss)):
            if given is not None and not callable(given):
                raise SettingError(key, f"must be a function of two arguments, got {shown(given)}")
        self._loss, self._forward = loss, forward
        self._validation_loss, self._metrics = validation_loss or loss, metrics
        self._given = dict(quantities or {})
        self.seen = self._look()
        self.classes = self.seen.classes
        found = {
            "inputs": self.seen.inputs is not None,
            "logits": isinstance(self.seen.outputs, Tensor),
            "labels": self.seen.labels is not None,
            "classes": self.seen.classes > 0,
            "targets": self.seen.plain,
        }
        names = {name for name, there in found.items() if there}
        self.provides = frozenset({"parameters", "learning_rate", "losses", *names, *self._given}) | self.marks()

    # What was given -----------------------------------------------------------------------------------

    def network(self) -> nn.Module:
        return self._build()

    def splits(self) -> Mapping[str, Any]:
        return self._splits

    def data(self, split: str) -> Any:
        return self._read[split] if split in self._read else self.splits().get(split)

    def inputs(self, batch: Any) -> Any:
        return batch if self.seen.inputs is None else at(batch, self.seen.inputs)

    def labels(self, batch: Any) -> Any:
        if "labels" in self._given:
            return self._given["labels"](None, batch)
        return None if self.seen.labels is None else at(batch, self.seen.labels)

    def targets(self, labels: Any) -> Any:
        """One row per example with a single 1, where the loss is a cross-entropy; else None."""
        return F.one_hot(labels, self.classes).to(torch.float32) if self.seen.plain else None

    def plain_targets(self, labels: Any) -> Any:
        """None: the given loss reads the batch."""
        return None

    def run(self, network: Callable[..., Any], inputs: Any, batch: Any) -> Any:
        if self.seen.inputs is None:
            batch = inputs
        elif inputs is not at(batch, self.seen.inputs):
            batch = put(batch, self.seen.inputs, inputs)
        return self._fed(network, batch)

    def _fed(self, network: Callable[..., Any], batch: Any) -> Any:
        return network(batch) if self._forward is None else self._forward(network, batch)

    def losses(self, step: Step) -> Float[Tensor, "batch"] | Losses:
        """The given loss; the cross-entropy that it is where targets were changed."""
        if step.has_own_targets:
            return self._loss(step.outputs, step.batch)
        return self.loss(step.logits, step.targets)

    def loss(self, outputs: Any, targets: Any) -> Float[Tensor, "batch"] | Losses:
        return F.cross_entropy(outputs, targets, reduction="none")

    def validation_loss(self, outputs: Any, labels: Any) -> Float[Tensor, "batch"] | Losses:
        raise NotImplementedError("a loss of outputs and batch is taken by judge")

    def judge(self, outputs: Any, batch: Any) -> Float[Tensor, "batch"] | Losses:
        return self._validation_loss(outputs, batch)

    def measure(self, outputs: Any, batch: Any) -> Mapping[str, Float[Tensor, "batch"] | Losses]:
        if self._metrics is not None:
            return self._metrics(outputs, batch)
        if not self.seen.classes:
            return {}
        return {"accuracy": (outputs.argmax(dim=-1) == self.labels(batch)).to(outputs.dtype)}

    def quantity(self, name: str, step: Step) -> Any:
        if name in self._given:
            return self._given[name](step.outputs, step.batch)
        return super().quantity(name, step)

    def seen_as(self, name: str) -> Quantity:
        if name in self._given:
            return observed(
                name, self._given[name](self.seen.outputs, self.example_seen()), quantities.known(name)
            )
        return super().seen_as(name)

    # What is found ------------------------------------------------------------------------------------

    def example_seen(self) -> Any:
        """The few examples of the validation data that were looked at."""
        return self.example(4)

    def _look(self) -> Seen:
        """Runs the network on a few examples.

        Raises:
            SettingError: if it does not run, or losses are not per element.
        """
        network, batch = self.structure(), self.example_seen()
        entered: list[Any] = []

        def note(module: nn.Module, args: Any, kwargs: Any) -> None:
            if not entered:
                entered.append(_first_argument(module, args, kwargs))

        handle = network.register_forward_pre_hook(note, with_kwargs=True)
        try:
            with torch.no_grad(), undisturbed(), constant_buffers(network), evaluating(network):
                outputs = mapped(widened, self._fed(network, batch))
        except Exception as error:  # whatever a user's forward pass raises
            hint = "" if self._forward else "; forward=lambda network, batch: ... says how a batch is fed to it"
            message = f"the network does not run on examples of the data: {_line(error)}{hint}"
            raise SettingError("forward", message) from error
        finally:
            handle.remove()
        losses = self._losses_of("loss", self._loss, outputs, batch)
        if self._validation_loss is not self._loss:
            self._losses_of("validation_loss", self._validation_loss, outputs, batch)
        inputs = next((place for place, tensor in places_in(batch) if entered and tensor is entered[0]), None)
        labels, classes = self._labels_in(batch, outputs, inputs)
        plain = classes > 0 and _is_cross_entropy(
            losses, outputs, at(batch, labels) if labels is not None else self._of_batch("labels", batch)
        )
        return Seen(outputs, inputs, labels, classes, plain)

    def _losses_of(self, key: str, function: Loss, outputs: Any, batch: Any) -> Losses:
        try:
            with torch.no_grad(), undisturbed():
                losses = function(outputs, batch)
        except Exception as error:  # whatever a user's loss raises
            raise SettingError(key, f"cannot be taken of the network's outputs: {_line(error)}") from error
        check_losses(key, losses, size_of(batch))
        return as_losses(losses)

    def _of_batch(self, name: str, batch: Any) -> Any:
        try:
            return self._given[name](None, batch)
        except Exception as error:  # whatever a user's function raises
            raise SettingError(f"quantities.{name}", f"cannot be taken of a batch: {_line(error)}") from error

    def _labels_in(self, batch: Any, outputs: Any, inputs: Place | None) -> tuple[Place | None, int]:
        """Where the classes stand, and how many there are; several tensors that could be them are refused."""
        if not (isinstance(outputs, Tensor) and outputs.ndim == 2 and outputs.is_floating_point()):
            return None, 0
        classes = outputs.shape[1]
        if classes < 2:
            return None, 0
        given = {name: self._of_batch(name, batch) for name in _OF_THE_BATCH if name in self._given}
        if "labels" in given:
            return None, classes if _are_classes(given["labels"], outputs) else 0
        found = [
            place
            for place, tensor in places_in(batch)
            if place != inputs
            and _are_classes(tensor, outputs)
            and not any(tensor is other for other in given.values())
        ]
        if len(found) > 1:
            where = " and ".join(shown_place(place) for place in found)
            raise SettingError(
                "quantities",
                f"does not say which of {where} holds the classes; give labels=lambda outputs, batch: ...",
            )
        return (found[0], classes) if found else (None, 0)


def _are_classes(tensor: Any, outputs: Float[Tensor, "batch classes"]) -> bool:
    if not isinstance(tensor, Tensor) or tensor.shape != outputs.shape[:1] or tensor.dtype != torch.int64:
        return False
    return bool(((tensor >= 0) & (tensor < outputs.shape[1])).all())


def _is_cross_entropy(
    losses: Losses, outputs: Float[Tensor, "batch classes"], labels: Int[Tensor, "batch"]
) -> bool:
    if losses.weights is not None or losses.rows is not None or losses.values.shape != labels.shape:
        return False
    return torch.allclose(losses.values, F.cross_entropy(outputs, labels, reduction="none"), rtol=1e-4, atol=1e-6)


def _first_argument(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What stands for the first parameter of ``forward`` that is given."""
    if args:
        return args[0]
    order = [name for name in inspect.signature(module.forward).parameters if name in kwargs]
    return next((kwargs[name] for name in order if isinstance(kwargs[name], Tensor)), None)


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]

"""Regression: real numbers per example."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from selftune.data import check_finite
from selftune.data.loading import Loading
from selftune.errors import SettingError, suggestion
from selftune.fields import shown
from selftune.lower_level.objective import Stage
from selftune.lower_level.optimization import Optimization
from selftune.lower_level.supervised_objective import SupervisedObjective, single_column
from selftune.networks.precision import wide_type
from selftune.shapes import Float, Tensor

ElementLoss = Callable[[Tensor, Tensor], Tensor]
"""Losses of outputs and targets of one shape, of this shape as well."""

_BISECTIONS = 60  # halve an interval of any length down to the precision of float64


class Regression(SupervisedObjective):
    """A network that predicts one real number or several per example.

    Losses and metrics are in the units of the labels that are given (squared errors in their squares), so that
    labels of very different sizes want to be standardised before; the loss of an example is the mean over its
    numbers. Metrics are ``squared_error`` and ``absolute_error``, of which less is better, and ``r_squared``: 1
    minus the squared error in units of the variance of the training labels, which is 0 for their mean and 1 for
    right predictions.

    Args:
        build: makes a freshly initialised network, from inputs to (batch, numbers), or (batch,) where labels are
            single numbers.
        train, validation, test: pairs of inputs and labels, as tensors or arrays, examples first. Labels have
            shape (n,), (n, 1) or (n, numbers).
        optimization, validation_batch_size, extra, stages, balanced_by, loading: see
            ``SupervisedObjective``.
        loss: of training and validation: ``"squared"``, ``"absolute"``, ``"huber"``, ``"log_cosh"``, or a function
            of outputs and targets that gives a loss for each of their elements.
        delta: where ``"huber"`` turns from squares to absolute values, in units of the labels, above 0; default 1.

    Raises:
        SettingError: as ``SupervisedObjective``; if labels are not finite or outputs of another shape, the loss
            is unknown or does not keep elements apart.

    >>> from selftune import Optimization
    >>> data = torch.randn(32, 4), torch.randn(32)
    >>> objective = Regression(lambda: nn.Linear(4, 1), data, data, data, Optimization(batch_size=8), loss="huber")
    >>> objective.loss(torch.tensor([0.5, 3.0]), torch.zeros(2))
    tensor([0.1250, 2.5000])
    """

    def __init__(
        self,
        build: Callable[[], nn.Module],
        train: Any,
        validation: Any,
        test: Any,
        optimization: Optimization | None = None,
        validation_batch_size: int | None = None,
        extra: Mapping[str, tuple[Tensor, Tensor, Tensor]] | None = None,
        stages: Sequence[Stage] = (),
        balanced_by: str | None = None,
        loss: str | ElementLoss = "squared",
        delta: float | None = None,
        loading: Loading | None = None,
    ) -> None:
        self._loss = _loss(loss, delta)
        self.loss_is = loss if isinstance(loss, str) else getattr(loss, "__qualname__", type(loss).__qualname__)
        self.delta = delta
        super().__init__(
            build,
            train,
            validation,
            test,
            optimization,
            validation_batch_size,
            extra,
            stages,
            balanced_by,
            ignored=None,
            loading=loading,
        )
        labels = self.seen_labels()["train"]
        if labels.ndim == 1:  # the one column of outputs is taken away, but what the last layer sees keeps its own
            self.provides, self.axes = self.provides | {"features"}, {"features": ("batch", "dim")}
        self._variance = labels.var(dim=0, correction=0)
        self._mean = labels.mean(dim=0)
        if not bool((self._variance > 0).all()):
            raise SettingError("labels", "of the train split are all the same, so that there is nothing to learn")

    def read_labels(self, labels: Mapping[str, Tensor], ignored: int | None) -> dict[str, Tensor]:
        for name, tensor in labels.items():
            if tensor.ndim > 2 or tensor.is_complex():
                raise SettingError(
                    "labels",
                    f"of the {name} split are {shown(tensor)}; give real numbers of shape (n,) or (n, numbers)",
                )
            check_finite(name, "labels", tensor)
        found = {name: single_column(tensor).to(wide_type(self.real_type)) for name, tensor in labels.items()}
        shapes = {tuple(tensor.shape[1:]) for tensor in found.values()}
        if len(shapes) > 1:
            raise SettingError("labels", "of the splits have different numbers of columns; give all the same")
        return found

    def check_outputs(self, outputs: Any) -> None:
        wanted = self.seen_labels()["validation"].shape[1:]
        fits = isinstance(outputs, Tensor) and outputs.is_floating_point() and outputs.shape[1:] == wanted
        if not fits:
            form = "(batch,) or (batch, 1)" if not wanted else f"(batch, {wanted[0]})"
            hint = "; for class numbers take Classification" if not wanted else ""
            raise SettingError(
                "build",
                f"the network must put out real numbers of shape {form}, as the labels are, but it makes"
                f" {shown(outputs)}{hint}",
            )
        with torch.no_grad():
            taken = self._loss(outputs, torch.zeros_like(outputs))
        if not isinstance(taken, Tensor) or taken.shape != outputs.shape:
            raise SettingError(
                "loss",
                f"must give a number for each of {shown(outputs)}, not their mean"
                f' (reduction="none"); it gives {shown(taken)}',
            )

    def run(self, network: Callable[..., Any], inputs: Any, batch: Any) -> Any:
        outputs = super().run(network, inputs, batch)
        return single_column(outputs) if self.seen_labels()["train"].ndim == 1 else outputs

    def targets(self, labels: Float[Tensor, "batch *numbers"]) -> Float[Tensor, "batch *numbers"]:
        return labels

    def loss(
        self, outputs: Float[Tensor, "batch *numbers"], targets: Float[Tensor, "batch *numbers"]
    ) -> Float[Tensor, "batch"]:
        return _of_examples(self._loss(outputs, targets.to(outputs.dtype)))

    def validation_loss(
        self, outputs: Float[Tensor, "batch *numbers"], labels: Float[Tensor, "batch *numbers"]
    ) -> Float[Tensor, "batch"]:
        return self.loss(outputs, labels)

    def metrics(
        self, outputs: Float[Tensor, "batch *numbers"], labels: Float[Tensor, "batch *numbers"]
    ) -> dict[str, Float[Tensor, "batch"]]:
        error = outputs - labels
        found = {"squared_error": _of_examples(error.square()), "absolute_error": _of_examples(error.abs())}
        if "train" in self.splits():  # or nobody knows how much the labels vary
            found["r_squared"] = _of_examples(1 - error.square() / self._variance.to(error))
        return found

    def constant_answer(self) -> Float[Tensor, "*numbers"] | None:
        """The one prediction with the least training loss: the mean of the training labels for squares."""
        if not self.all_held:
            return None
        if self.loss_is == "squared":
            return self._mean
        labels = self.splits()["train"]["labels"]
        low, high = labels.amin(dim=0), labels.amax(dim=0)
        for _ in range(_BISECTIONS):  # a convex loss falls before its minimum and rises behind
            middle = ((low + high) / 2).requires_grad_()
            with torch.enable_grad():
                total = self._loss(middle.expand_as(labels), labels).sum()
                (slope,) = torch.autograd.grad(total, middle)
            middle = middle.detach()
            low, high = torch.where(slope < 0, middle, low), torch.where(slope < 0, high, middle)
        return (low + high) / 2


def _of_examples(values: Float[Tensor, "batch *numbers"]) -> Float[Tensor, "batch"]:
    return values if values.ndim == 1 else values.mean(dim=1)


def _squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.mse_loss(outputs, targets, reduction="none")


def _absolute(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.l1_loss(outputs, targets, reduction="none")


def _log_cosh(outputs: Tensor, targets: Tensor) -> Tensor:
    error = (outputs - targets).abs()  # log cosh x = |x| + log(1 + exp(-2|x|)) - log 2, which never overflows
    return error + F.softplus(-2 * error) - math.log(2)


class _Huber:
    """The Huber loss with its turning point; a class, so that it is picklable."""

    def __init__(self, delta: float) -> None:
        self.delta = delta

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.huber_loss(outputs, targets, reduction="none", delta=self.delta)


_LOSSES: dict[str, ElementLoss] = {"squared": _squared, "absolute": _absolute, "log_cosh": _log_cosh}


def _loss(given: object, delta: float | None) -> ElementLoss:
    if delta is not None and given != "huber":
        raise SettingError("delta", f"belongs to the loss 'huber', not to {given!r}; leave it out")
    if given == "huber":
        delta = 1.0 if delta is None else delta
        if isinstance(delta, bool) or not isinstance(delta, int | float) or not 0 < delta < math.inf:
            raise SettingError("delta", f"must be a number above 0, got {shown(delta)}")
        return _Huber(float(delta))
    if isinstance(given, str) and given in _LOSSES:
        return _LOSSES[given]
    if not isinstance(given, str) and callable(given):
        return given
    names = [*_LOSSES, "huber"]
    raise SettingError(
        "loss", f"must be one of {', '.join(names)}, or a function; {suggestion(str(given), names)}"
    )

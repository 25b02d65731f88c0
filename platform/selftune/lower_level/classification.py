"""Classification: one class of several per example."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from selftune.data import check_classes, check_outputs, classes_of
from selftune.data.labelled import labelled
from selftune.data.loading import Loading
from selftune.data.nested import size_of
from selftune.lower_level.objective import PROBED, Stage
from selftune.lower_level.optimization import Optimization
from selftune.lower_level.supervised_objective import SupervisedObjective
from selftune.shapes import Float, Int, Tensor

_READ_TARGETS = ("targets", "loss", "losses")  # methods of a subclass that may count on rows of probabilities


class Classification(SupervisedObjective):
    """A classifier: cross-entropy below, cross-entropy above.

    Args:
        build: makes a freshly initialised network, from inputs to logits.
        train, validation, test: pairs of inputs and labels, as tensors or arrays, examples first; or data sets or
            loaders that give such pairs, see ``SupervisedObjective``. Labels are class numbers from 0, of any
            type; rows with a single 1 (one-hot) are taken, too.
        optimization: how the network is trained.
        validation_batch_size: examples per hypergradient; None uses the whole validation split of tensors, and
            batches as large as those of training of a data set.
        extra: further tensors of every example by name, one per split, such as ``domains``; they are provided.
        stages: parts of training that see some of the examples only, one after the other: a continual task.
        balanced_by: ``"labels"`` or one of ``extra``: every batch holds as many examples of each value.
        classes: number of classes; None takes the number of the network's outputs. Not all need be in the data.
        ignored: examples with this label are left out of all splits, so that they count in no loss, metric, mean
            or regularizer; None takes every label for a class. Data sets and loaders must leave them out.
        loading: how the examples of a ``Dataset`` are loaded.

    Beside what every classifier provides, ``batch_norm`` is provided where the network has layers of it, and
    ``branches`` where modules of the network are named ``branch``: residual branches, which can be skipped.

    Raises:
        SettingError: if data or network cannot be used: a split is empty, ragged, smaller than a batch, or holds
            nan; labels are no classes, or have no output; the network does not run, or not put out
            (batch, classes).

    >>> from selftune import Optimization
    >>> data = torch.randn(32, 4), torch.randint(3, (32,))
    >>> objective = Classification(lambda: nn.Linear(4, 3), data, data, data, Optimization(batch_size=8))
    >>> objective.classes
    3
    """

    provides = SupervisedObjective.provides | {"probs", "classes"}

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
        classes: int | None = None,
        ignored: int | None = -100,
        loading: Loading | None = None,
    ) -> None:
        self._wanted_classes = classes
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
            ignored,
            loading,
        )

    def read_labels(self, labels: Mapping[str, Tensor], ignored: int | None) -> dict[str, Tensor]:
        return classes_of(labels, ignored)

    def arrange(self, split: str, batch: Any) -> dict[str, Any]:
        named = labelled(split, batch)
        classes = self.__dict__.get("classes")  # it is known once the network has run on the first batch
        if classes is not None and _are_class_numbers(named["labels"], classes):
            return named
        arranged = super().arrange(split, named)
        if classes is not None:
            check_classes({split: arranged["labels"]}, classes, None)
        return arranged

    def check_outputs(self, outputs: Any) -> None:
        self.classes = check_outputs(outputs, size_of(self.example(PROBED)))
        check_classes(self.seen_labels(), self.classes, self._wanted_classes)

    def targets(self, labels: Int[Tensor, "batch"]) -> Float[Tensor, "batch classes"]:
        targets = torch.zeros(*labels.shape, self.classes, device=labels.device)
        return targets.scatter_(-1, labels.unsqueeze(-1), 1.0)

    def plain_targets(self, labels: Int[Tensor, "batch"]) -> Float[Tensor, "batch classes"] | Int[Tensor, "batch"]:
        """The classes, of which the cross-entropy is the same to the last bit, and quicker."""
        kept = all(getattr(type(self), name) is getattr(Classification, name) for name in _READ_TARGETS)
        return labels if kept else self.targets(labels)

    def loss(
        self,
        outputs: Float[Tensor, "batch classes"],
        targets: Float[Tensor, "batch classes"] | Int[Tensor, "batch"],
    ) -> Float[Tensor, "batch"]:
        return F.cross_entropy(outputs, targets, reduction="none")

    def constant_answer(self) -> Float[Tensor, "classes"] | None:
        """Logarithms of the classes' shares of the training split, where all splits are in memory."""
        if not self.all_held:
            return None
        shares = self.targets(self._splits["train"]["labels"]).flatten(0, -2).mean(dim=0)
        return shares.clamp_min(torch.finfo(shares.dtype).tiny).log()

    def validation_loss(
        self, outputs: Float[Tensor, "batch classes"], labels: Int[Tensor, "batch"]
    ) -> Float[Tensor, "batch"]:
        return F.cross_entropy(outputs, labels, reduction="none")

    def metrics(
        self, outputs: Float[Tensor, "batch classes"], labels: Int[Tensor, "batch"]
    ) -> dict[str, Float[Tensor, "batch"]]:
        return {"accuracy": (outputs.argmax(dim=-1) == labels).to(outputs.dtype)}


def _are_class_numbers(labels: Tensor, classes: int) -> bool:
    """Whether nothing needs to be done to labels, as with most batches."""
    if labels.dtype != torch.int64 or labels.ndim != 1:
        return False
    low, high = labels.aminmax()
    return int(low) >= 0 and int(high) < classes

"""Multi-label classification: several labels per example, each there or not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from selftune.data.loading import Loading
from selftune.errors import SettingError
from selftune.fields import shown
from selftune.lower_level.losses import Losses
from selftune.lower_level.objective import Stage
from selftune.lower_level.optimization import Optimization
from selftune.lower_level.supervised_objective import SupervisedObjective
from selftune.networks.precision import wide_type
from selftune.regularization.quantity import Axes
from selftune.regularization.step import Step
from selftune.shapes import Float, Int, Tensor


class MultiLabelClassification(SupervisedObjective):
    """A classifier with one output per label, the logit of its being there: binary cross-entropy per label.

    The loss of an example is the mean over its labels that are known; examples of which more labels are known
    count for more, as every known label counts alike.

    Args:
        build: makes a freshly initialised network, from inputs to logits of shape (batch, labels).
        train, validation, test: pairs of inputs and labels, as tensors or arrays, examples first. Labels are rows
            of zeros and ones, of any type.
        optimization, validation_batch_size, extra, stages, balanced_by, loading: see
            ``SupervisedObjective``.
        ignored: what stands in the place of a label that is not known; it counts in no loss or metric.

    Raises:
        SettingError: as ``SupervisedObjective``; if labels are no rows of zeros and ones, or outputs not as many.

    >>> from selftune import Optimization
    >>> data = torch.randn(32, 4), (torch.rand(32, 3) < 0.5).float()
    >>> objective = MultiLabelClassification(lambda: nn.Linear(4, 3), data, data, data, Optimization(batch_size=8))
    >>> objective.loss(torch.zeros(1, 3), torch.tensor([[1.0, 0.0, -100.0]])).mean()
    tensor(0.6931)
    """

    axes: Mapping[str, Axes] = {
        "labels": ("batch", "labels"),
        "logits": ("batch", "labels"),
        "targets": ("batch", "labels"),
    }

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
        ignored: int = -100,
        loading: Loading | None = None,
    ) -> None:
        self.ignored = ignored
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

    def read_labels(self, labels: Mapping[str, Tensor], ignored: int | None) -> dict[str, Tensor]:
        for name, tensor in labels.items():
            if tensor.ndim != 2:
                raise SettingError(
                    "labels",
                    f"of the {name} split have shape {tuple(tensor.shape)}, but MultiLabelClassification takes a"
                    " row of zeros and ones per example; Classification takes one class number per example",
                )
            strange = (tensor != 0) & (tensor != 1) & (tensor != self.ignored)
            if bool(strange.any()):
                raise SettingError(
                    "labels",
                    f"of the {name} split hold {tensor[strange][0].item():g}, but MultiLabelClassification takes 0"
                    f" and 1, and {self.ignored} where nobody knows; Regression takes real numbers",
                )
            if not bool((tensor != self.ignored).any()):
                raise SettingError("labels", f"of the {name} split are all {self.ignored}, so that none counts")
        return {name: tensor.long() for name, tensor in labels.items()}

    def check_outputs(self, outputs: Any) -> None:
        labels = self.example(len(outputs))["labels"] if isinstance(outputs, Tensor) and outputs.ndim else None
        if labels is None or outputs.shape != labels.shape or not outputs.is_floating_point():
            columns = self.seen_labels()["validation"].shape[1]
            raise SettingError(
                "build",
                f"the network must put out real scores of shape (batch, {columns}), one for each label, but it"
                f" makes {shown(outputs)}",
            )

    def targets(self, labels: Int[Tensor, "batch labels"]) -> Float[Tensor, "batch labels"]:
        """Zeros where nobody knows: what is mixed with them does not count either."""
        return torch.where(labels != self.ignored, labels, 0).to(wide_type(self.real_type))

    def plain_targets(self, labels: Int[Tensor, "batch labels"]) -> Float[Tensor, "batch labels"]:
        """With ``ignored`` where nobody knows."""
        return labels.to(wide_type(self.real_type))

    def loss(self, outputs: Float[Tensor, "batch labels"], targets: Float[Tensor, "batch labels"]) -> Losses:
        known = targets != self.ignored
        wanted = torch.where(known, targets, 0).to(outputs.dtype)
        return Losses(F.binary_cross_entropy_with_logits(outputs, wanted, reduction="none"), known)

    def losses(self, step: Step) -> Losses:
        unknown = step.mix_rows((step.labels == self.ignored).to(step.logits.dtype))
        return replace(self.loss(step.logits, step.targets), weights=unknown == 0)

    def validation_loss(
        self, outputs: Float[Tensor, "batch labels"], labels: Int[Tensor, "batch labels"]
    ) -> Losses:
        return self.loss(outputs, labels)

    def metrics(
        self, outputs: Float[Tensor, "batch labels"], labels: Int[Tensor, "batch labels"]
    ) -> dict[str, Float[Tensor, "batch"] | Losses]:
        right = ((outputs > 0) == (labels > 0)).to(outputs.dtype)
        return {"accuracy": Losses(right, labels != self.ignored)}

    def constant_answer(self) -> Float[Tensor, "labels"] | None:
        """Logits of the share of training examples that have each label, where all splits are in memory."""
        if not self.all_held:
            return None
        labels = self.splits()["train"]["labels"]
        known = (labels != self.ignored).sum(dim=0).clamp_min(1)
        shares = (labels == 1).sum(dim=0).to(wide_type(self.real_type)) / known
        return torch.logit(shares, eps=torch.finfo(shares.dtype).eps)

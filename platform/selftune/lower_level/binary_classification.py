"""Binary classification: yes or no per example."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F

from selftune.data import classes_of
from selftune.errors import SettingError
from selftune.fields import shown
from selftune.lower_level.supervised_objective import SupervisedObjective, single_column
from selftune.networks.precision import wide_type
from selftune.regularization.quantity import Axes
from selftune.shapes import Float, Int, Tensor


class BinaryClassification(SupervisedObjective):
    """A classifier with one output per example, the logit of label 1: binary cross-entropy below and above.

    Args:
        build: makes a freshly initialised network, from inputs to logits of shape (batch,) or (batch, 1).
        train, validation, test: pairs of inputs and labels, as tensors or arrays, examples first. Labels are 0
            and 1, of any type, of shape (n,) or (n, 1).
        optimization, validation_batch_size, extra, stages, balanced_by, loading: see
            ``SupervisedObjective``.
        ignored: examples with this label are left out of all splits; None takes every label as it is.

    Raises:
        SettingError: as ``SupervisedObjective``; if labels are not 0 and 1, or outputs not one per example.

    >>> from torch import nn
    >>> from selftune import Optimization
    >>> data = torch.randn(32, 4), torch.arange(32) % 2
    >>> objective = BinaryClassification(lambda: nn.Linear(4, 1), data, data, data, Optimization(batch_size=8))
    >>> objective.constant_answer()
    tensor(0.)
    """

    provides = SupervisedObjective.provides | {"features"}
    # the one column of outputs is taken away, but what the last layer sees keeps its own
    axes: Mapping[str, Axes] = {"features": ("batch", "dim"), "targets": ("batch",), "logits": ("batch",)}

    def read_labels(self, labels: Mapping[str, Tensor], ignored: int | None) -> dict[str, Tensor]:
        for name, tensor in labels.items():
            if tensor.ndim == 2 and tensor.shape[1] > 1:
                raise SettingError(
                    "labels",
                    f"of the {name} split have shape {tuple(tensor.shape)}, but BinaryClassification takes one per"
                    " example; MultiLabelClassification takes rows of zeros and ones, Classification one-hot ones",
                )
        found = classes_of(labels, ignored)
        for name, tensor in found.items():
            looked_at = tensor if ignored is None else tensor[tensor != ignored]
            if len(looked_at) and int(looked_at.max()) > 1:
                raise SettingError(
                    "labels",
                    f"of the {name} split go up to {int(looked_at.max())}, but BinaryClassification takes 0 and 1;"
                    " Classification takes more classes",
                )
        return found

    def check_outputs(self, outputs: Any) -> None:
        examples = len(self.example(len(outputs))["labels"]) if isinstance(outputs, Tensor) and outputs.ndim else 0
        fits = isinstance(outputs, Tensor) and outputs.shape == (examples,) and outputs.is_floating_point()
        if not fits:
            raise SettingError(
                "build",
                "the network must put out one real score per example, of shape (batch,) or (batch, 1), but it"
                f" makes {shown(outputs)}; Classification takes a score per class",
            )

    def run(self, network: Callable[..., Any], inputs: Any, batch: Any) -> Any:
        return single_column(super().run(network, inputs, batch))

    def targets(self, labels: Int[Tensor, "batch"]) -> Float[Tensor, "batch"]:
        return labels.to(wide_type(self.real_type))

    def loss(self, outputs: Float[Tensor, "batch"], targets: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
        return F.binary_cross_entropy_with_logits(outputs, targets.to(outputs.dtype), reduction="none")

    def validation_loss(
        self, outputs: Float[Tensor, "batch"], labels: Int[Tensor, "batch"]
    ) -> Float[Tensor, "batch"]:
        return self.loss(outputs, labels)

    def metrics(
        self, outputs: Float[Tensor, "batch"], labels: Int[Tensor, "batch"]
    ) -> dict[str, Float[Tensor, "batch"]]:
        return {"accuracy": ((outputs > 0) == (labels > 0)).to(outputs.dtype)}

    def constant_answer(self) -> Float[Tensor, ""] | None:
        """The logit of the share of ones in the training split, where all splits are in memory."""
        if not self.all_held:
            return None
        share = self.targets(self.splits()["train"]["labels"]).mean()
        return torch.logit(share, eps=torch.finfo(share.dtype).eps)

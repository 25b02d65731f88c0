"""Region label calibration: the teacher labels only the crops it is sure of."""

from __future__ import annotations

import torch.nn.functional as F
from selftune.objectives.regularizers.supervision.label_smoothing import label_smoothing

from selftune.hyperparameters import Hyperparameter, Interval, Unit
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step, per_example
from selftune.shapes import Float, Int, Tensor


def region_label_calibration(
    teacher_probs: Float[Tensor, "batch classes"],
    labels: Int[Tensor, "batch"],
    lower: float | Float[Tensor, "*lower"] = 0.15,
    upper: float | Float[Tensor, "*upper"] = 0.5,
    smoothing: float | Float[Tensor, "*smoothing"] = 0.1,
) -> tuple[Float[Tensor, "batch classes"], Float[Tensor, "batch"]]:
    """Targets and weights of crops by the teacher's confidence (its largest probability).

    From ``upper`` on the teacher's probabilities are the target, below it the smoothed label. Below ``lower``
    the weight is 0, else 1. No gradient flows to the teacher.

    Args:
        lower, upper: confidences, at least 0; ``upper`` above 1 never uses the teacher.
        smoothing: in [0, 1].

    Source: "FerKD: Surgical Label Adaptation for Efficient Distillation" (arXiv 2312.17473).

    >>> import torch
    >>> teacher = torch.tensor([[0.9, 0.1], [0.6, 0.4]])
    >>> region_label_calibration(teacher, torch.tensor([0, 1]), lower=0.7, upper=0.8, smoothing=0.2)
    (tensor([[0.9000, 0.1000],
            [0.1000, 0.9000]]), tensor([1., 0.]))
    """
    teacher = teacher_probs.detach()
    confidence = teacher.amax(dim=-1)
    truth = F.one_hot(labels, teacher.shape[-1]).to(teacher.dtype)
    smoothed = label_smoothing(truth, per_example(smoothing, truth))
    targets = teacher.where((confidence >= upper)[:, None], smoothed)
    return targets, (confidence >= lower).to(teacher.dtype)


@register
class RegionLabelCalibration(Regularizer):
    """Takes targets from a teacher where it is sure, smoothed labels elsewhere, and drops hopeless examples."""

    name = "region_label_calibration"
    family = "supervision"
    kind = "target"
    reference = Reference("FerKD: Surgical Label Adaptation for Efficient Distillation", "2312.17473")
    hyperparameters = (
        Hyperparameter("lower", Unit(sweep=(0.0, 0.2)), 0.15, smooth=False),
        Hyperparameter("upper", Interval(0.0, 2.0, sweep=(0.2, 1.0)), 0.5, smooth=False),
        Hyperparameter("smoothing", Unit(sweep=(0.0, 0.5)), 0.1),
    )
    needs = frozenset({"targets", "labels", "losses", "teacher_logits", "class_probabilities"})
    order = "correction"

    def targets(self, step: Step) -> None:
        step.targets = self._calibrate(step)[0]

    def losses(self, step: Step, losses: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
        weights = self._calibrate(step)[1]
        return losses * weights * (len(weights) / weights.sum().clamp(min=1))

    def _calibrate(self, step: Step) -> tuple[Float[Tensor, "batch classes"], Float[Tensor, "batch"]]:
        values = (self.value(step, name) for name in ("lower", "upper", "smoothing"))
        return region_label_calibration(step.teacher_logits.softmax(dim=-1), step.labels, *values)

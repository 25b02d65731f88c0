"""Activation regularization: large outputs of the last recurrent layer cost."""

from __future__ import annotations

from typing import ClassVar

from selftune.hyperparameters import Hyperparameter, Positive, StartRule
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor


def activation_regularization(features: Float[Tensor, "batch *positions features"]) -> Float[Tensor, "batch"]:
    """The mean square of what the last layer sees, dropped where it is.

    Source: "Revisiting Activation Regularization for Language RNNs" (arXiv 1708.01009), where it is called AR.

    >>> import torch
    >>> activation_regularization(torch.tensor([[[1.0, 3.0]], [[0.0, 2.0]]]))
    tensor([5., 2.])
    """
    return features.square().flatten(1).mean(dim=1)


@register
class ActivationRegularization(Regularizer):
    """AR: what the last layer sees is kept small, in a language model the outputs of the last recurrent layer."""

    name = "activation_regularization"
    family = "supervision"
    kind = "penalty"
    reference = Reference("Revisiting Activation Regularization for Language RNNs", "1708.01009")
    hyperparameters = (
        Hyperparameter(
            "strength",
            Positive(sweep=(0.01, 10.0)),
            2.0,
            shared=True,
            start=StartRule(2.0, "Regularizing and Optimizing LSTM Language Models (1708.02182)"),
        ),
    )
    needs = frozenset({"features"})
    axes: ClassVar = {"features": ("batch", ...)}

    def penalty(self, step: Step) -> Float[Tensor, "batch"]:
        return activation_regularization(step.features)

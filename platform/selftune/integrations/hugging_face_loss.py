"""What a model of Hugging Face puts out and how its loss is taken, element by element."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch.nn.functional as F
from torch import nn
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from selftune.errors import SettingError
from selftune.lower_level.losses import Losses
from selftune.shapes import Float, Tensor

IGNORED = -100  # the label of elements that do not count, throughout the library


def logits(model: Any, call: Callable[..., Any], batch: Mapping[str, Any]) -> Tensor:
    """The model's logits on a batch; its own loss, which would be a mean, is not taken.

    Args:
        call: what is called in the model's place.

    Raises:
        SettingError: if it puts out no logits.
    """
    inputs = {name: value for name, value in batch.items() if name not in ("labels", "shift_labels")}
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False) and "decoder_input_ids" not in batch:
        inputs["decoder_input_ids"] = model.prepare_decoder_input_ids_from_labels(batch["labels"])
    outputs = call(**inputs)
    found = outputs.get("logits") if isinstance(outputs, Mapping) else outputs[0]
    if not isinstance(found, Tensor):
        raise SettingError("forward", f"is needed, because {type(model).__name__} puts out no logits")
    return found


def is_causal(model: nn.Module) -> bool:
    """Whether an element's label is that of the element after it: the same rule as the trainer's."""
    return type(model).__name__ in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()


def element_losses(
    model: nn.Module, outputs: Float[Tensor, "batch ..."], batch: Mapping[str, Any]
) -> Float[Tensor, "batch"] | Losses:
    """Losses of a batch with its ``labels``, of the model's kind.

    Args:
        outputs: logits of shape (batch, ..., classes); (batch, outputs) for several labels or a regression.
        batch: with ``labels`` as the model takes them: a class per example, a class per token, of which ``-100``
            does not count, zeros and ones for several labels, numbers for a regression.

    Raises:
        SettingError: if logits and labels fit no such kind.
    """
    labels, kind = batch["labels"], _kind(model, batch["labels"])
    if kind == "regression":
        return Losses((outputs.reshape(len(outputs), -1) - labels.reshape(len(labels), -1)).square())
    if kind == "multi_label_classification":
        return Losses(F.binary_cross_entropy_with_logits(outputs, labels, reduction="none"))
    if is_causal(model):
        outputs, labels = outputs[:, :-1], labels[:, 1:]
    if labels.shape != outputs.shape[:-1]:
        raise SettingError(
            "loss",
            f"is needed: logits of shape {tuple(outputs.shape)} and labels of {tuple(labels.shape)} fit no kind",
        )
    if labels.ndim == 1:
        return F.cross_entropy(outputs, labels, reduction="none")
    losses = F.cross_entropy(outputs.flatten(0, -2), labels.flatten(), reduction="none", ignore_index=IGNORED)
    return Losses(losses.view(labels.shape), (labels != IGNORED).to(losses.dtype))


def _kind(model: nn.Module, labels: Tensor) -> str:
    """The problem type, by the rule with which models of Hugging Face choose it when it is not set."""
    config = getattr(model, "config", None)
    given = getattr(config, "problem_type", None)
    if given is not None:
        return str(given)
    if not labels.is_floating_point():
        return "single_label_classification"
    return "regression" if getattr(config, "num_labels", 0) == 1 else "multi_label_classification"


def share_of_batch(model: nn.Module, batch: Mapping[str, Any], items: Tensor | int) -> Tensor:
    """The share of this batch in what the trainer accumulates before a step, counted in elements.

    Args:
        items: number of elements of all those batches, as the trainer counts them.
    """
    labels: Tensor = batch["labels"][..., 1:] if is_causal(model) else batch["labels"]
    return labels.ne(IGNORED).sum() / items

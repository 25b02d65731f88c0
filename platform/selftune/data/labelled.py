"""Batches of inputs and labels, as data sets and loaders give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from selftune.data.tensors import check_finite
from selftune.errors import SettingError
from selftune.fields import shown
from selftune.nested import size_of, tensors_in
from selftune.shapes import Tensor


def labelled(key: str, batch: Any) -> dict[str, Any]:
    """A batch by names: ``inputs``, ``labels``, and what else a mapping holds.

    Raises:
        SettingError: if it is neither a pair nor a mapping with these names.

    >>> import torch
    >>> sorted(labelled("train", [torch.zeros(2, 3), torch.tensor([0, 1])]))
    ['inputs', 'labels']
    """
    if isinstance(batch, Mapping) and {"inputs", "labels"} <= set(batch):
        return dict(batch)
    if isinstance(batch, tuple | list) and len(batch) == 2:
        return {"inputs": batch[0], "labels": batch[1]}
    raise SettingError(
        key,
        "must give batches of two, inputs and labels, or mappings with inputs and labels, got"
        f" {_form(batch)}; a collate function can make them so",
    )


def class_numbers(key: str, labels: Any, classes: int | None = None) -> Tensor:
    """The labels of a batch as one whole number per example.

    Args:
        classes: how many there are; None where nobody knows yet.

    Raises:
        SettingError: if they are something else, or no class has such a number.

    >>> import torch
    >>> class_numbers("train", torch.tensor([[1], [0]], dtype=torch.uint8))
    tensor([1, 0])
    """
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.is_complex():
        raise SettingError(
            "labels", f"of the {key} split must be whole numbers, one per example, got {shown(labels)}"
        )
    numbers: Tensor = labels.squeeze(1) if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if numbers.ndim != 1:
        raise SettingError(
            "labels",
            f"of the {key} split have shape {tuple(numbers.shape)} in a batch; give one class number per example",
        )
    numbers = numbers.long()
    low, high = (int(end) for end in numbers.aminmax())
    if low < 0:
        raise SettingError(
            "labels", f"of the {key} split hold {low}; classes are numbered from 0, so leave such examples out"
        )
    if classes is not None and high >= classes:
        raise SettingError(
            "labels",
            f"of the {key} split go up to {high}, but the network has outputs for {classes}"
            f" class{'es' if classes > 1 else ''}, from 0 on; give it {high + 1} outputs",
        )
    return numbers


def check_sample(key: str, batch: Mapping[str, Any]) -> None:
    """Refuses the first batch of a split if inputs are not finite, or not as many as labels.

    Raises:
        SettingError: naming what is wrong; later batches are not looked at.
    """
    for tensor in tensors_in(batch["inputs"]):
        check_finite(f"first batch of the {key}", "inputs", tensor)
    examples = size_of(batch["inputs"])
    if examples != len(batch["labels"]):
        raise SettingError(
            key, f"gives {examples} inputs and {len(batch['labels'])} labels in its first batch; give as many"
        )


def _form(batch: Any) -> str:
    if isinstance(batch, Mapping):
        return f"a mapping of {', '.join(map(str, batch))}"
    return f"a {type(batch).__name__} of {len(batch)}" if isinstance(batch, tuple | list) else shown(batch)

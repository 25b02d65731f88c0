"""Batches of inputs and labels, as data sets and loaders give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from selftune.data.nested import size_of, tensors_in
from selftune.data.tensors import check_finite
from selftune.errors import SettingError
from selftune.fields import shown
from selftune.shapes import Tensor


def labelled(key: str, batch: Any) -> dict[str, Any]:
    """A batch by names: ``inputs``, ``labels``, and what else a mapping holds.

    Raises:
        SettingError: if it is neither a pair nor a mapping with these names.

    >>> import torch
    >>> sorted(labelled("train", [torch.zeros(2, 3), torch.tensor([0, 1])]))
    ['inputs', 'labels']
    """
    if isinstance(batch, (tuple, list)) and len(batch) == 2:
        named = {"inputs": batch[0], "labels": batch[1]}
    elif isinstance(batch, Mapping) and {"inputs", "labels"} <= set(batch):
        named = dict(batch)
    else:
        raise SettingError(
            key,
            "must give batches of two, inputs and labels, or mappings with inputs and labels, got"
            f" {_form(batch)}; a collate function can make them so",
        )
    if not isinstance(named["labels"], Tensor) or not named["labels"].ndim:
        raise SettingError(
            "labels", f"of the {key} split must be a tensor per batch, got {shown(named['labels'])}"
        )
    return named


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

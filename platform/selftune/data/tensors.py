"""Data at the door: what people bring as tensors of examples, looked at once, when an objective is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from selftune.data.domains import groups
from selftune.errors import SettingError
from selftune.fields import shown
from selftune.shapes import Bool, Int, Tensor

Split = Mapping[str, Tensor]
"""One split of the data: tensors by name (``inputs``, ``labels``), examples along the first axis."""

SPLITS = ("train", "validation", "test")


def as_tensor(key: str, given: Any) -> Tensor:
    """A tensor or a numpy array as a tensor on the CPU without gradient.

    Raises:
        SettingError: if it is something else.

    >>> as_tensor("train", np.zeros(3, dtype=np.float32)).dtype
    torch.float32
    """
    if isinstance(given, np.ndarray) and given.dtype.kind in "fiub":
        given = torch.from_numpy(np.ascontiguousarray(given))
    if not isinstance(given, Tensor):
        raise SettingError(key, f"must be tensors or arrays of numbers, got {shown(given)}")
    return given.detach().cpu()


def pair_of(key: str, given: Any, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
    """The inputs and labels of a split.

    Args:
        dtype: of inputs that come as arrays of real numbers, which numpy makes in double precision; None leaves
            them as they are.

    Raises:
        SettingError: if it is no pair of tensors, or inputs are not finite.
    """
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise SettingError(key, f"must be a pair (inputs, labels), a Dataset or a DataLoader, got {shown(given)}")
    inputs, labels = (as_tensor(key, one) for one in given)
    if not inputs.ndim or not labels.ndim:
        raise SettingError(key, "must hold inputs and labels with the examples along their first axis")
    check_finite(key, "inputs", inputs)
    if dtype is not None and isinstance(given[0], np.ndarray) and inputs.is_floating_point():
        inputs = inputs.to(dtype)
    return inputs, labels


def check_finite(split: str, what: str, tensor: Tensor) -> None:
    """Refuses numbers that are none: one of them makes every weight nan within a step.

    Raises:
        SettingError: with the first example that holds one.
    """
    if not (tensor.is_floating_point() or tensor.is_complex()) or bool(torch.isfinite(tensor).all()):
        return
    rows = ~torch.isfinite(tensor).flatten(1).all(dim=1) if tensor.ndim > 1 else ~torch.isfinite(tensor)
    raise SettingError(
        what,
        f"{int(rows.sum())} examples of the {split} split hold nan or infinity, the first of them is number"
        f" {int(rows.nonzero()[0])}; fill them in, or leave those examples out",
    )


def classes_of(labels: Mapping[str, Tensor], ignored: int | None) -> dict[str, Int[Tensor, "examples"]]:
    """The labels of every split as one whole number per example.

    Whole numbers of any type are taken, also as floats, and with an axis of length 1 behind them; rows with a
    single 1 in every one of them (one-hot) become its position.

    Args:
        labels: by split.
        ignored: the label that is not looked at.

    Raises:
        SettingError: if they name no classes.

    >>> classes_of({"train": torch.tensor([[0.0, 1.0], [1.0, 0.0]])}, None)["train"]
    tensor([1, 0])
    """
    squeezed = {
        name: tensor.squeeze(1) if tensor.ndim == 2 and tensor.shape[1] == 1 else tensor
        for name, tensor in labels.items()
    }
    if all(_one_hot(tensor) for tensor in squeezed.values()):
        squeezed = {name: tensor.int().argmax(dim=1) for name, tensor in squeezed.items()}
    found = {}
    for name, tensor in squeezed.items():
        if tensor.ndim != 1:
            raise SettingError(
                "labels",
                f"of the {name} split have shape {tuple(tensor.shape)}; give one class number per example, from"
                " rows of scores or probabilities by labels.argmax(1); MultiLabelClassification takes rows of"
                " zeros and ones, Regression rows of real numbers, LanguageModelling rows of tokens",
            )
        whole = tensor.long()
        if tensor.is_floating_point() and not bool((tensor == whole).all()):
            raise SettingError(
                "labels",
                f"of the {name} split hold {float(tensor[tensor != whole][0]):g}, which is no class number;"
                " classes are numbered from 0, and Regression takes real numbers",
            )
        looked_at = whole if ignored is None else whole[whole != ignored]
        if len(looked_at) and int(looked_at.min()) < 0:
            low = int(looked_at.min())
            raise SettingError(
                "labels",
                f"of the {name} split hold {low}; classes are numbered from 0, and ignored={low} leaves such"
                " examples out",
            )
        found[name] = whole
    return found


def _one_hot(tensor: Tensor) -> bool:
    if tensor.ndim != 2 or tensor.shape[1] < 2 or not len(tensor):
        return False
    return bool(((tensor == 0) | (tensor == 1)).all()) and bool((tensor.sum(dim=1) == 1).all())


def check_outputs(outputs: object, examples: int) -> int:
    """The number of classes that a network scores, from what it puts out for some examples.

    Raises:
        SettingError: if that is not one row of scores per example.
    """
    fits = isinstance(outputs, Tensor) and outputs.ndim == 2 and len(outputs) == examples
    if not (fits and isinstance(outputs, Tensor) and outputs.is_floating_point() and outputs.shape[1]):
        raise SettingError(
            "build",
            "the network must put out real scores of shape (batch, classes), but of"
            f" {examples} examples it makes {shown(outputs)}",
        )
    return outputs.shape[1]


def check_classes(labels: Mapping[str, Tensor], outputs: int, classes: int | None) -> None:
    """Refuses labels without an output, and a number of classes that is not the network's.

    Raises:
        SettingError: naming both numbers.
    """
    if classes is not None and classes != outputs:
        raise SettingError("classes", f"is {classes}, but the network has outputs for {outputs} classes")
    for name, tensor in labels.items():
        if len(tensor) and int(tensor.max()) >= outputs:
            raise SettingError(
                "labels",
                f"of the {name} split go up to {int(tensor.max())}, but the network has outputs for {outputs}"
                f" class{'es' if outputs > 1 else ''}, from 0 on; give it {int(tensor.max()) + 1} outputs",
            )


def positions_of(index: Int[Tensor, "chosen"], kept: Bool[Tensor, "examples"]) -> Int[Tensor, "left"]:
    """Where chosen examples are once only those that are kept are left.

    >>> positions_of(torch.tensor([0, 2, 3]), torch.tensor([False, True, True, True]))
    tensor([1, 2])
    """
    place = kept.cumsum(0) - 1
    return place[index[kept[index]]]


def extra_of(extra: Mapping[str, Sequence[Any]] | None) -> dict[str, dict[str, Tensor]]:
    """Further tensors of every example by name and split.

    Raises:
        SettingError: if one is not given for each of the three splits.
    """
    if extra is not None and not isinstance(extra, Mapping):
        raise SettingError("extra", f"must be a mapping from name to three tensors, got {shown(extra)}")
    found = {}
    for name, tensors in (extra or {}).items():
        if not isinstance(tensors, tuple | list) or len(tensors) != len(SPLITS):
            raise SettingError(
                f"extra.{name}",
                f"must be three tensors, one for each of {', '.join(SPLITS)}; got {shown(tensors)}",
            )
        found[name] = {split: as_tensor(f"extra.{name}", one) for split, one in zip(SPLITS, tensors, strict=True)}
        for split, tensor in found[name].items():
            check_finite(split, f"extra.{name}", tensor)
    return found


def check_lengths(splits: Mapping[str, Split]) -> None:
    """Refuses splits that are empty or ragged.

    Raises:
        SettingError: with the name of the split.
    """
    for name in splits:
        lengths = {key: len(tensor) for key, tensor in splits[name].items()}
        examples = min(lengths.values())
        if examples == 0:
            raise SettingError(name, f"the {name} split is empty; give it at least one example")
        if examples != max(lengths.values()):
            raise SettingError(name, f"the {name} split has tensors of different lengths: {lengths}")


def check_splits(splits: Mapping[str, Split], batch_size: int, validation_batch_size: int | None) -> None:
    """Refuses data that cannot be trained on.

    Raises:
        SettingError: if a split is empty or ragged, or has fewer examples than a batch.
    """
    check_lengths(splits)
    sizes = {"train": batch_size, "validation": validation_batch_size or 1}
    for name in splits:
        size = sizes.get(name, 1)
        examples = len(splits[name]["labels"])
        if examples < size:
            key = "batch_size" if name == "train" else "validation_batch_size"
            raise SettingError(
                key, f"the {name} split has {examples} examples, fewer than a batch of {size}; lower {key}"
            )


def check_balance(train: Split, batch_size: int, balanced_by: str, pools: Sequence[Tensor] = ()) -> None:
    """Refuses batches that cannot hold as many examples of every value.

    Args:
        pools: positions of the examples that batches are drawn from, one pool after the other.

    Raises:
        SettingError: if the training split has no such tensor, it does not hold a whole number per example, or a
            batch cannot be shared out among its values.
    """
    values = train.get(balanced_by)
    if values is None or values.ndim != 1 or values.is_floating_point():
        fitting = [name for name, tensor in train.items() if tensor.ndim == 1 and not tensor.is_floating_point()]
        raise SettingError(
            "balanced_by",
            f"must name one of {', '.join(fitting)}, a whole number per example; got {balanced_by!r}",
        )
    for pool in list(pools) or [torch.arange(len(values))]:
        apart = groups(values, pool)
        share, rest = divmod(batch_size, len(apart))
        if rest:
            raise SettingError(
                "batch_size",
                f"is {batch_size}, which {len(apart)} values of {balanced_by} cannot share; set it to a multiple"
                f" of {len(apart)}",
            )
        rarest = min(apart, key=len)
        value = int(values[rarest[0]])
        if len(rarest) < share:
            raise SettingError(
                "batch_size",
                f"is {batch_size}, so that {share} examples must have {balanced_by} = {value}, but"
                f" only {len(rarest)} have; set it to {len(rarest) * len(apart)} or less",
            )

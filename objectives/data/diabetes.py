"""scikit-learn's diabetes data, split and standardised for tasks of linear regression."""

from __future__ import annotations

from typing import NamedTuple

import torch

from selftune.errors import SettingError
from selftune.lower_level.smooth_objective import check_device
from selftune.shapes import Float, Tensor

EXAMPLES = 442

Pair = tuple[Float[Tensor, "examples features"], Float[Tensor, "examples"]]


class Diabetes(NamedTuple):
    """Pairs of inputs and targets, and the features' names."""

    names: tuple[str, ...]
    train: Pair
    validation: Pair
    test: Pair


def diabetes(
    quadratic: bool, train_examples: int, validation_examples: int, split_seed: int, dtype: str, device: str
) -> Diabetes:
    """442 patients, ten measurements, with their squares and products if ``quadratic``.

    Features and targets are standardised by the training split; the rest of the 442 is the test split.

    Raises:
        SettingError: if a split is empty, the training split has fewer than two examples, or the device is not
            there.

    >>> len(diabetes(False, 150, 150, 0, "float64", "cpu").test[0])
    142
    """
    left = EXAMPLES - train_examples - validation_examples
    if train_examples < 2 or min(validation_examples, left) < 1:
        raise SettingError(
            "train_examples",
            f"{train_examples} training and {validation_examples} validation examples leave {left}"
            f" of {EXAMPLES} for the test split; training needs at least two, the others one",
        )
    check_device(device)
    names, inputs, targets = _load(quadratic)
    order = torch.randperm(EXAMPLES, generator=torch.Generator().manual_seed(split_seed))
    first = slice(train_examples)
    inputs, targets = (_standardised(data[order], first) for data in (inputs, targets))
    sizes = [train_examples, validation_examples, left]
    like = inputs.to(device, getattr(torch, dtype)), targets.to(device, getattr(torch, dtype))
    train, validation, test = zip(*(torch.split(data, sizes) for data in like), strict=True)
    return Diabetes(names, train, validation, test)


def _standardised(data: Tensor, first: slice) -> Tensor:
    # a feature that is constant on the training split stays zero there instead of becoming infinite
    return (data - data[first].mean(dim=0)) / data[first].std(dim=0).clamp(min=1e-12)


def _load(quadratic: bool) -> tuple[tuple[str, ...], Tensor, Tensor]:
    from sklearn.datasets import load_diabetes

    data = load_diabetes()
    inputs, targets = torch.tensor(data.data), torch.tensor(data.target)
    names = tuple(data.feature_names)
    if quadratic:
        rows, columns = torch.triu_indices(len(names), len(names))
        products = tuple(f"{names[i]}*{names[j]}" for i, j in zip(rows, columns, strict=True))
        inputs = inputs / inputs.std(dim=0)
        inputs = torch.cat([inputs, inputs[:, rows] * inputs[:, columns]], dim=1)
        names += products
    return names, inputs, targets

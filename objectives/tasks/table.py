"""A table: rows of numbers and categories, of which one column is predicted by an MLP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from selftune.objectives.common.dataset_key import check_word, under_dataset
from selftune.objectives.common.sizes import check_sizes
from selftune.objectives.data.bundled_tables import BUNDLED, bundled_table
from selftune.objectives.data.held_readings import held
from selftune.objectives.data.tables import Table as Rows
from selftune.objectives.data.tables import read_table
from selftune.objectives.networks.perceptron import check_hidden
from selftune.objectives.networks.table_mlp import TableMLP
from torch import nn

from selftune.data import SPLITS, Split
from selftune.errors import SettingError
from selftune.lower_level.classification import Classification
from selftune.lower_level.losses import Losses
from selftune.lower_level.objective import NetworkObjective, tasks
from selftune.lower_level.optimization import Optimization
from selftune.lower_level.regression import Regression
from selftune.lower_level.supervised_objective import SupervisedObjective
from selftune.shapes import Float, Tensor

_read = held(read_table)


class _OneHotInputs(SupervisedObjective):
    """Categories lie on the device as numbers; in a batch each column becomes a row with a single 1."""

    def __init__(self, sizes: tuple[int, ...], *arguments: Any) -> None:
        self.sizes = sizes
        super().__init__(*arguments)

    def inputs(self, batch: Any) -> Any:
        numbers = batch["inputs"]
        if not self.sizes:
            return numbers
        starts = torch.tensor([0, *self.sizes[:-1]]).cumsum(0).to(numbers.device)
        ones = numbers.new_zeros(len(numbers), sum(self.sizes))
        return torch.cat([numbers, ones.scatter_(1, batch["categories"] + starts, 1.0)], dim=1)


class _Classes(_OneHotInputs, Classification):
    pass


class _Numbers(_OneHotInputs, Regression):
    pass


@dataclass
class Table(NetworkObjective):
    """An MLP that predicts a column of a table from the others: its class, or a number.

    Numbers are standardised by mean and deviation of the training split, and so is a number that is predicted:
    a squared error of 1 is what the mean of the training split reaches. Every column of categories has an
    embedding. Losses and metrics are those of ``Classification`` for classes, of ``Regression`` for numbers.

    Args:
        dataset: a table of scikit-learn (``breast_cancer``, ``diabetes``, ``digits``, ``iris``, ``wine``), or the
            path of a CSV or Parquet file.
        target: the column of a file to predict.
        categorical: columns of numbers in a file that are categories, too.
        ignore: columns of a file to leave out.
        kind: whether the target of a file is a class or a number; None decides by its values.
        hidden: units of every hidden layer.
        embedding: largest width of an embedding; it has half as many as there are categories.
        split: fractions for validation and test, 0.2 each unless given, where a file has no column ``split``.
        batch_size, optimizer, learning_rate, momentum: see ``Optimization``.
        validation_batch_size: examples per hypergradient; None uses the whole validation split.
        split_seed: decides which rows go into which split.

    Raises:
        SettingError: if there is no such table, a column is missing or of no use, or a size is out of its range.

    >>> Table().splits()["train"]["inputs"].shape
    torch.Size([341, 30])
    """

    dataset: str = "breast_cancer"
    target: str | None = None
    categorical: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    kind: Literal["classification", "regression"] | None = None
    hidden: tuple[int, ...] = (128, 128)
    embedding: int = 16
    split: dict[str, float] | None = None
    batch_size: int = 64
    optimizer: str = "adam"
    learning_rate: float = 0.001
    momentum: float | None = None
    validation_batch_size: int | None = None
    split_seed: int = 0

    def __post_init__(self) -> None:
        check_hidden(self.hidden)
        check_sizes(self, "embedding")
        rows = self._rows()
        outputs = 1 if rows.classes is None else len(rows.classes)
        kind: Callable[..., Classification | Regression] = _Numbers if rows.classes is None else _Classes
        self.column_names, self.class_names = rows.columns, rows.classes
        numbers, target = _standardised(rows.numbers, rows), rows.target
        if rows.classes is None:
            target = _standardised(target[:, None], rows)[:, 0]
        self._objective = kind(
            rows.sizes,
            partial(TableMLP, numbers.shape[1], rows.sizes, outputs, self.hidden, self.embedding),
            *((numbers[rows.splits[name]], target[rows.splits[name]]) for name in SPLITS),
            Optimization(self.batch_size, self.optimizer, self.learning_rate, self.momentum),
            self.validation_batch_size,
            {"categories": tuple(rows.categories[rows.splits[name]] for name in SPLITS)},
        )
        self.optimization = self._objective.optimization
        self.provides, self.axes = self._objective.provides, self._objective.axes
        if isinstance(self._objective, Classification):
            self.classes = self._objective.classes

    def _rows(self) -> Rows:
        """What ``dataset`` names.

        Raises:
            SettingError: with the name of the setting.
        """
        if self.dataset not in BUNDLED:
            check_word(self.dataset, BUNDLED)
            if self.target is None:
                raise SettingError("target", f"is missing; name the column of {self.dataset} to predict")
            with under_dataset():
                return _read(
                    self.dataset,
                    self.target,
                    self.categorical,
                    self.kind,
                    self.ignore,
                    self.split,
                    self.split_seed,
                )
        for key in ("target", "categorical", "ignore", "kind"):
            if getattr(self, key):
                raise SettingError(key, f"is for a table in a file, and {self.dataset} is none; leave it out")
        return bundled_table(self.dataset, self.split, self.split_seed)

    # A class or a number: everything is asked of the objective for that. ---------------------------------

    def network(self) -> nn.Module:
        return self._objective.network()

    def splits(self) -> Mapping[str, Split]:
        return self._objective.splits()

    def inputs(self, batch: Any) -> Any:
        return self._objective.inputs(batch)

    def run(self, network: Callable[..., Any], inputs: Any, batch: Any) -> Any:
        return self._objective.run(network, inputs, batch)

    def targets(self, labels: Tensor) -> Tensor:
        return self._objective.targets(labels)

    def plain_targets(self, labels: Any) -> Any:
        return self._objective.plain_targets(labels)

    def loss(self, outputs: Any, targets: Any) -> Float[Tensor, "batch"] | Losses:
        return self._objective.loss(outputs, targets)

    def validation_loss(self, outputs: Any, labels: Any) -> Float[Tensor, "batch"] | Losses:
        return self._objective.validation_loss(outputs, labels)

    def metrics(self, outputs: Any, labels: Any) -> Mapping[str, Float[Tensor, "batch"] | Losses]:
        return self._objective.metrics(outputs, labels)

    def constant_answer(self) -> Tensor | None:
        return self._objective.constant_answer()


def _standardised(values: Float[Tensor, "rows columns"], rows: Rows) -> Float[Tensor, "rows columns"]:
    """By mean and deviation of the training rows; a column that is constant there stays as near to zero."""
    train = values[rows.splits["train"]]
    deviation = train.std(dim=0, correction=0)
    return (values - train.mean(dim=0)) / torch.where(deviation > 1e-9, deviation, 1.0)


tasks.register("table", Table)

"""Small tables for classification without a download: five that scikit-learn brings, ten that it generates.

The generated ones are of many kinds: smooth and rough borders, few and many columns of use, wrong labels, rare
classes, more columns than the rows can bear.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn import datasets

from selftune.storage.files import replacing

Rows = tuple[np.ndarray, np.ndarray]
BUNDLED = ("breast_cancer", "digits", "iris", "wine")


def _with_noise_columns(rows: Rows) -> Rows:
    """Eight further columns that say nothing."""
    inputs, labels = rows
    return np.hstack([inputs, np.random.default_rng(0).standard_normal((len(inputs), 8))]), labels


def _in_classes(rows: Rows, number: int) -> Rows:
    """A number to predict becomes classes of equal size, in its order."""
    inputs, target = rows
    return inputs, np.searchsorted(np.quantile(target, np.arange(1, number) / number), target)


def _classification(**settings: Any) -> Rows:
    return datasets.make_classification(random_state=0, **settings)


GENERATED: dict[str, Callable[[], Rows]] = {
    "diabetes": lambda: _in_classes(datasets.load_diabetes(return_X_y=True), 2),
    "circles": lambda: _with_noise_columns(datasets.make_circles(600, noise=0.2, factor=0.5, random_state=0)),
    "moons": lambda: _with_noise_columns(datasets.make_moons(600, noise=0.3, random_state=0)),
    "hastie": lambda: datasets.make_hastie_10_2(1200, random_state=0),
    "gaussian_quantiles": lambda: datasets.make_gaussian_quantiles(
        n_samples=900, n_features=10, n_classes=3, random_state=0
    ),
    "friedman1": lambda: _in_classes(datasets.make_friedman1(800, noise=2.0, random_state=0), 3),
    "friedman3": lambda: _in_classes(datasets.make_friedman3(800, noise=0.1, random_state=0), 3),
    "wrong_labels": lambda: _classification(n_samples=1000, n_informative=5, flip_y=0.3),
    "wide": lambda: _classification(n_samples=300, n_features=100, n_informative=10, flip_y=0.05),
    "six_classes": lambda: _classification(n_samples=1200, n_informative=8, n_classes=6, flip_y=0.05),
    "rare_class": lambda: _classification(n_samples=1000, n_informative=6, weights=[0.9], flip_y=0.03),
}
TABLES = (*BUNDLED, *GENERATED)


def objective(name: str, folder: Path, seed: int) -> dict[str, Any]:
    """The keys of a study's section ``objective`` that name a table.

    Args:
        name: one of ``TABLES``.
        folder: where a generated table is kept as a Parquet file.
        seed: decides which rows are for training, validation and test.
    """
    if name in BUNDLED:
        return {"task": "table", "dataset": name, "split_seed": seed}
    path = folder / f"{name}.parquet"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        inputs, labels = GENERATED[name]()
        columns = {f"x{column}": inputs[:, column] for column in range(inputs.shape[1])}
        names = np.char.add("class ", np.unique(labels, return_inverse=True)[1].astype(str))
        with replacing(path) as temporary:
            pq.write_table(pa.table({**columns, "label": names}), temporary)
    return {"task": "table", "dataset": str(path), "target": "label", "split_seed": seed}

"""Signals of a fixed length, each of one class: a one-dimensional CNN."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from selftune.objectives.common.dataset_key import check_word, under_dataset
from selftune.objectives.common.sizes import check_sizes
from selftune.objectives.data.cylinder_bell_funnel import CLASSES, cylinder_bell_funnel
from selftune.objectives.data.held_readings import held
from selftune.objectives.data.splits import Splits, completed
from selftune.objectives.data.tables import read_table
from selftune.objectives.networks.signal_cnn import SignalCNN

from selftune.data import SPLITS
from selftune.errors import SettingError
from selftune.lower_level.classification import Classification
from selftune.lower_level.objective import tasks
from selftune.lower_level.optimization import Optimization
from selftune.shapes import Float, Int, Tensor

GENERATED = "cylinder_bell_funnel"
_read = held(read_table)
_EXAMPLES, _NOISE = 900, 1.0


@dataclass
class TimeSeries(Classification):
    """A classifier of signals of one channel and a fixed length, by three convolutions.

    Layers are ``conv1``, ``conv2``, ``conv3`` and ``output``. Signals are standardised by mean and deviation of
    all values of the training split.

    Args:
        dataset: ``cylinder_bell_funnel``, noisy signals of length 128 and three kinds that are generated; or the
            path of a CSV or Parquet file in which every row is a signal: a column of lists, or one for each place.
        target: the column of a file that holds the classes.
        ignore: columns of a file that belong to no signal.
        examples: how many signals are generated; None takes 900.
        noise: standard deviation of their noise; None takes 1, as published.
        channels: of every convolution.
        split: fractions for validation and test, 0.2 each unless given, where a file has no column ``split``.
        batch_size, optimizer, learning_rate, momentum: see ``Optimization``.
        validation_batch_size: examples per hypergradient; None uses the whole validation split.
        split_seed: decides which signals go into which split, and what they are where they are generated.

    Raises:
        SettingError: if there is no such file, a column is missing or of no use, or a size is out of its range.

    Source: ``cylinder_bell_funnel`` of "Local feature extraction and its applications using a library of bases"
    (Saito, 1994); the network after "Scaling Down Deep Learning with MNIST-1D" (arXiv 2011.14439).

    >>> TimeSeries().splits()["train"]["inputs"].shape
    torch.Size([540, 1, 128])
    """

    dataset: str = GENERATED
    target: str | None = None
    ignore: tuple[str, ...] = ()
    examples: int | None = None
    noise: float | None = None
    channels: int = 25
    split: dict[str, float] | None = None
    batch_size: int = 64
    optimizer: str = "adam"
    learning_rate: float = 0.003
    momentum: float | None = None
    validation_batch_size: int | None = None
    split_seed: int = 0

    def __post_init__(self) -> None:
        check_sizes(self, "channels", "examples")
        generated = self.dataset == GENERATED
        for key in ("target", "ignore") if generated else ("examples", "noise"):
            if getattr(self, key) not in (None, ()):
                use = "a file, and these signals are generated" if generated else f"{GENERATED} alone"
                raise SettingError(key, f"is for {use}; leave it out")
        signals, labels, self.class_names, splits = self._generated() if generated else self._from_file()
        train = signals[splits["train"]]
        signals = ((signals - train.mean()) / train.std().clamp_min(1e-9)).unsqueeze(1)
        first, second, third = ((signals[splits[name]], labels[splits[name]]) for name in SPLITS)
        build = partial(SignalCNN, len(self.class_names), signals.shape[2], self.channels)
        optimization = Optimization(self.batch_size, self.optimizer, self.learning_rate, self.momentum)
        super().__init__(build, first, second, third, optimization, self.validation_batch_size)

    def _generated(self) -> tuple[Float[Tensor, "rows length"], Int[Tensor, "rows"], tuple[str, ...], Splits]:
        noise = _NOISE if self.noise is None else self.noise
        if not 0 <= noise < torch.inf:
            raise SettingError("noise", f"must be a number of at least 0, got {noise}")
        count = self.examples or _EXAMPLES
        signals, labels = cylinder_bell_funnel(count, noise, self.split_seed)
        return signals, labels, CLASSES, completed({}, count, self.split, self.split_seed, labels)

    def _from_file(self) -> tuple[Float[Tensor, "rows length"], Int[Tensor, "rows"], tuple[str, ...], Splits]:
        check_word(self.dataset, [GENERATED])
        if self.target is None:
            raise SettingError("target", f"is missing; name the column of {self.dataset} that holds the classes")
        with under_dataset():
            table = _read(
                self.dataset, self.target, None, "classification", self.ignore, self.split, self.split_seed
            )
        length = table.numbers.shape[1]
        if table.sizes or len(table.columns) != length or any(" is missing" in name for name in table.columns):
            odd = next((name for name in table.columns if " is missing" in name), None) or table.columns[-1]
            what = odd.removesuffix(" is missing")
            problem = "lacks values" if odd != what else "holds no numbers"
            raise SettingError(
                "dataset", f"{self.dataset}: the column {what!r} {problem}; mend it, or name it under ignore"
            )
        assert table.classes is not None  # a target of numbers was refused
        return table.numbers, table.target.long(), table.classes, table.splits


tasks.register("time_series", TimeSeries)

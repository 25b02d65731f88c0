"""What objectives share whose data are inputs and labels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from selftune.data import (
    SPLITS,
    Split,
    check_balance,
    check_lengths,
    check_splits,
    extra_of,
    pair_of,
    positions_of,
)
from selftune.data.labelled import check_sample, labelled
from selftune.data.loading import Loading
from selftune.errors import SettingError
from selftune.lower_level.door import (
    Splits,
    check_settings_of_read,
    sized,
    taken_apart,
    warn_of_overlap,
    without_positions,
)
from selftune.lower_level.objective import NetworkObjective, Stage, check_door
from selftune.lower_level.optimization import Optimization
from selftune.shapes import Tensor


class SupervisedObjective(NetworkObjective):
    """A network that answers inputs, and labels that its answers are compared with.

    Subclasses say what labels may be, what outputs must be, and what the losses are.

    Args:
        build: makes a freshly initialised network, from inputs to outputs.
        train, validation, test: pairs of inputs and labels, as tensors or arrays, examples first; or a map-style
            ``torch.utils.data.Dataset``, a ``DataLoader`` or another iterable, which give such pairs, or mappings
            with ``inputs``, ``labels`` and more.
        optimization: how the network is trained. A loader's batches are as large as it makes them.
        validation_batch_size: examples per hypergradient; None uses the whole validation split of tensors, and
            batches as large as those of training of a data set.
        extra: further tensors of every example by name, one per split, such as ``domains``; they are provided.
        stages: parts of training that see some of the examples only, one after the other: a continual task.
        balanced_by: ``"labels"`` or one of ``extra``: every batch holds as many examples of each value.
        ignored: what stands for no label; such examples are left out of tensors. None leaves none out.
        loading: how the examples of a ``Dataset`` are loaded.

    ``batch_norm`` is provided where the network has layers of it, and ``branches`` where modules of the network
    are named ``branch``: residual branches, which can be skipped.

    Of data sets and loaders the first batch is looked at here, and the labels of every batch when it comes. A
    warning says so where validation or test data are seen to share examples with training data.

    Raises:
        SettingError: if data or network cannot be used: a split is empty, ragged, smaller than a batch, or holds
            nan; labels are of another kind; the network does not run, or puts out something else; a setting would
            do nothing with such data.
    """

    provides = frozenset(
        {"inputs", "labels", "targets", "index", "logits", "parameters", "learning_rate", "examples"}
    )

    def __init__(
        self,
        build: Callable[[], nn.Module],
        train: Any,
        validation: Any,
        test: Any,
        optimization: Optimization | None = None,
        validation_batch_size: int | None = None,
        extra: Mapping[str, tuple[Tensor, Tensor, Tensor]] | None = None,
        stages: Sequence[Stage] = (),
        balanced_by: str | None = None,
        ignored: int | None = -100,
        loading: Loading | None = None,
    ) -> None:
        check_door(build, optimization, validation_batch_size)
        self._build = build
        self._stages = tuple(stages)
        self.optimization = optimization or Optimization()
        self.validation_batch_size = validation_batch_size
        self.loading = loading or Loading()
        given = dict(zip(SPLITS, (train, validation, test), strict=True))
        held, self._read = taken_apart(given, self.optimization.batch_size, self.loading)
        check_settings_of_read(self._read, extra, balanced_by, self._stages, validation_batch_size, self.loading)
        dtype = self.real_type
        pairs = {name: pair_of(name, pair, dtype) for name, pair in held.items()}
        self._splits = Splits({name: {"inputs": x, "labels": y} for name, (x, y) in pairs.items()})
        for key, tensors in extra_of(extra).items():
            for name, tensor in tensors.items():
                self._splits[name][key] = tensor
        check_lengths(self._splits)
        labels = self.read_labels({name: split["labels"] for name, split in self._splits.items()}, ignored)
        for name, split in self._splits.items():
            split["labels"] = labels[name]
        self._leave_out(ignored)
        self._look_at_read(given)
        check_splits(self._splits, self.optimization.batch_size, validation_batch_size)
        for number, stage in enumerate(self._stages):
            if len(stage.index) < self.optimization.batch_size:
                raise SettingError(
                    "batch_size", f"stage {number} has {len(stage.index)} examples, fewer than a batch; lower it"
                )
        self.balanced_by = balanced_by
        if balanced_by is not None:
            check_balance(
                self._splits["train"],
                self.optimization.batch_size,
                balanced_by,
                [stage.index for stage in self._stages],
            )
        provides = type(self).provides.union(extra or (), self._further(), self.marks())
        self.provides = without_positions(provides, self._read.get("train"))
        self.check_outputs(self.probed())

    @abstractmethod
    def read_labels(self, labels: Mapping[str, Tensor], ignored: int | None) -> dict[str, Tensor]:
        """The labels of every split as losses take them.

        Raises:
            SettingError: if they are of another kind, naming the objective that takes them.
        """

    @abstractmethod
    def check_outputs(self, outputs: Any) -> None:
        """Refuses what the network puts out for the first examples of the validation split.

        Raises:
            SettingError: if the losses cannot be taken of it.
        """

    @property
    def all_held(self) -> bool:
        """Whether all splits are tensors in memory."""
        return not self._read

    def seen_labels(self) -> dict[str, Tensor]:
        """The labels of every split: all of them of tensors, those of the first batch of what is read."""
        return {
            name: (self.first_batch(name) if name in self._read else self._splits[name])["labels"]
            for name in SPLITS
        }

    def _look_at_read(self, given: Mapping[str, Any]) -> None:
        """Refuses first batches of data sets and loaders that cannot be trained on."""
        first = {name: self.first_batch(name) for name in self._read}
        for name, batch in first.items():
            check_sample(name, batch)
        self.optimization = sized(self.optimization, self._read, first)
        warn_of_overlap(given, first)

    def _further(self) -> set[str]:
        """Names of what a data set gives beside inputs and labels."""
        first = self.first_batch("train") if "train" in self._read else {}
        return {name for name, value in first.items() if isinstance(value, Tensor)}

    def _leave_out(self, ignored: int | None) -> None:
        """Takes the examples with this label out of splits and stages."""
        if ignored is None:
            return
        kept = {name: split["labels"].ne(ignored) for name, split in self._splits.items()}
        if all(bool(mask.all()) for mask in kept.values()):
            return
        for name, split in list(self._splits.items()):
            if not bool(kept[name].any()):
                raise SettingError("labels", f"of the {name} split are all {ignored}, so that all are left out")
            self._splits[name] = {key: tensor[kept[name]] for key, tensor in split.items()}
        if "train" in kept:
            self._stages = tuple(
                Stage(positions_of(stage.index, kept["train"]), stage.steps) for stage in self._stages
            )

    @property
    def real_type(self) -> torch.dtype:
        """The precision of the network's parameters."""
        return next((p.dtype for p in self.structure().parameters() if p.is_floating_point()), torch.float32)

    def network(self) -> nn.Module:
        return self._build()

    def splits(self) -> Mapping[str, Split]:
        """The splits that are tensors in memory; asked for another one, it raises a ``SettingError``."""
        return self._splits

    def data(self, split: str) -> Any:
        return self._read[split] if split in self._read else self._splits.get(split)

    def arrange(self, split: str, batch: Any) -> dict[str, Any]:
        named = labelled(split, batch)
        return named | {"labels": self.read_labels({split: named["labels"]}, None)[split]}

    def stages(self) -> tuple[Stage, ...]:
        return self._stages


def single_column(outputs: Any) -> Any:
    """One number per example, where a network puts it into a column.

    >>> single_column(torch.zeros(8, 1)).shape, single_column(torch.zeros(8, 2)).shape
    (torch.Size([8]), torch.Size([8, 2]))
    """
    column = isinstance(outputs, Tensor) and outputs.ndim == 2 and outputs.shape[1] == 1
    return outputs.squeeze(1) if column else outputs

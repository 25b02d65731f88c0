"""Objectives: what is trained below and judged above, and what they provide to regularizers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from selftune.data import (
    SPLITS,
    Split,
    check_balance,
    check_classes,
    check_lengths,
    check_outputs,
    check_splits,
    classes_of,
    extra_of,
    pair_of,
    positions_of,
)
from selftune.data.door import (
    Splits,
    batch_size_of,
    check_settings_of_read,
    taken_apart,
    warn_of_overlap,
    without_positions,
)
from selftune.data.kinds import first_batch, is_dataset
from selftune.data.labelled import check_sample, class_numbers, labelled
from selftune.data.loading import Loading
from selftune.errors import SettingError
from selftune.fields import shown
from selftune.inventory import Feed, Inventory, take_inventory, undisturbed
from selftune.losses import Losses, check_losses
from selftune.modes import constant_buffers
from selftune.needs import special_cases
from selftune.nested import first_of, moved, size_of
from selftune.optimization import Optimization as Optimization
from selftune.quantity import Axes, Quantity, Type, observed, quantities
from selftune.registry import Registry
from selftune.shapes import Float, Int, Tensor
from selftune.step import Step

_STRUCTURE, _INVENTORY = "_structure", "_inventory"  # where an objective keeps what it is asked for repeatedly
_PROBED_OUTPUTS, _FIRST_BATCHES = "_probed_outputs", "_first_batches"
_PROBED = 4  # examples that an inventory sees
_MOST_EVALUATED = 1024  # examples per pass where no validation batch says how many fit


@dataclass(frozen=True)
class Stage:
    """A part of training that sees some of the examples only.

    Args:
        index: positions of its examples in the training split.
        steps: training steps.
    """

    index: Int[Tensor, "examples"]
    steps: int


class NetworkObjective(ABC):
    """A network trained on mini-batches, judged by a plain loss on validation data.

    Subclasses say what the network, the data and the losses are. They are picklable and cheap to build: data
    are loaded when first asked for.
    """

    provides: frozenset[str] = frozenset()
    """Names of the ``selftune.quantities`` that a training step offers."""

    axes: Mapping[str, Axes] = {}
    """Axes of provided quantities, where they are neither those declared nor seen in data and outputs."""

    types: Mapping[str, Type] = {}
    """Types of provided quantities, likewise."""

    optimization: Optimization
    validation_batch_size: int | None = None
    """Examples per hypergradient; None uses the whole validation split."""

    @property
    def evaluation_batch_size(self) -> int:
        """Examples per pass where a whole split is measured: no more than a hypergradient takes, or a batch."""
        whole = self.data("validation")
        held = size_of(whole) if isinstance(whole, Mapping) else self.optimization.batch_size
        size = self.validation_batch_size or held
        return max(self.optimization.batch_size, min(size, _MOST_EVALUATED))

    loading: Loading = Loading()
    """How data sets are loaded."""

    balanced_by: str | None = None
    """A tensor of the training split, such as ``domains``, of which every batch holds each value as often."""

    @abstractmethod
    def network(self) -> nn.Module:
        """A freshly initialised network (draws from torch's global generator, which the caller seeds)."""

    @abstractmethod
    def splits(self) -> Mapping[str, Split]:
        """The ``train``, ``validation`` and ``test`` splits, on the CPU."""

    @abstractmethod
    def targets(self, labels: Tensor) -> Tensor:
        """What the loss compares outputs with, before regularizers change it (one-hot rows for classes)."""

    @abstractmethod
    def loss(self, outputs: Any, targets: Any) -> Float[Tensor, "batch"] | Losses:
        """Training loss of every example, or of its elements, without regularization."""

    @abstractmethod
    def validation_loss(self, outputs: Any, labels: Any) -> Float[Tensor, "batch"] | Losses:
        """Validation loss of every example, or of its elements: the upper level."""

    def metrics(self, outputs: Any, labels: Any) -> Mapping[str, Float[Tensor, "batch"] | Losses]:
        """Further measures of every example, or of its elements, such as accuracy."""
        return {}

    def data(self, split: str) -> Any:
        """What a split is read from: tensors by name on the CPU, a map-style data set, or a loader of batches."""
        return self.splits()[split]

    def arrange(self, split: str, batch: Any) -> Any:
        """A batch that a data set or a loader of a split gave, as the other methods take it."""
        return batch

    # What a batch is ----------------------------------------------------------------------------------

    def inputs(self, batch: Any) -> Any:
        """Of a batch what enters the network, and what augmentations change."""
        return batch["inputs"]

    def labels(self, batch: Any) -> Any:
        """Of a batch what losses compare outputs with."""
        return batch["labels"]

    def run(self, network: Callable[..., Any], inputs: Any, batch: Any) -> Any:
        """The network's outputs on ``inputs``, which stand in the place of the batch's own.

        Args:
            network: is called as the network is, and may be a function that stands for it.
        """
        return network(inputs)

    def outputs(self, network: Callable[..., Any], batch: Any) -> Any:
        """What the validation loss judges: the network's outputs on the inputs of a batch."""
        return self.run(network, self.inputs(batch), batch)

    def losses(self, step: Step) -> Float[Tensor, "batch"] | Losses:
        """The training loss of a step whose network has run."""
        return self.loss(step.logits, step.targets)

    def judge(self, outputs: Any, batch: Any) -> Float[Tensor, "batch"] | Losses:
        """The validation loss of outputs on a batch."""
        return self.validation_loss(outputs, self.labels(batch))

    def measure(self, outputs: Any, batch: Any) -> Mapping[str, Float[Tensor, "batch"] | Losses]:
        """The further measures of outputs on a batch."""
        return self.metrics(outputs, self.labels(batch))

    def prepare(self, step: Step) -> None:  # noqa: B027
        """Before regularizers see a batch: draws views, or whatever else the task makes of its examples."""

    def marks(self) -> frozenset[str]:
        """What the network and the stages make possible beside: names to provide."""
        modules = dict(self.structure().named_modules())
        marks = {
            "batch_norm": any(
                isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) for module in modules.values()
            ),
            "branches": any(name.rpartition(".")[2] == "branch" for name in modules),
            "stage": bool(self.stages()),
        }
        return frozenset(name for name, there in marks.items() if there)

    def constant_answer(self) -> Tensor | None:
        """What the best network that does not look at its input puts out; None where there is no such thing.

        A result that is worse than this one is said to be so at the end of a study.
        """
        return None

    def quantity(self, name: str, step: Step) -> Any:
        """A quantity that this objective ``provides`` beside what the engine computes and what its splits hold.

        Raises:
            NotImplementedError: where a name is declared that nobody computes.
        """
        raise NotImplementedError(f"{type(self).__name__} provides {name}, but does not compute it")

    def stages(self) -> tuple[Stage, ...]:
        """Stages of a continual task, one after the other; empty where there is one."""
        return ()

    def structure(self) -> nn.Module:
        """The network, built once and kept to be looked at: types and shapes of its modules, not its values.

        The global random streams do not notice; processes do not pass it on.

        Raises:
            SettingError: if the network cannot be built.
        """
        found: nn.Module | None = self.__dict__.get(_STRUCTURE)
        if found is None:
            try:
                with undisturbed():
                    found = self.network()
            except Exception as error:  # whatever a user's constructor raises
                raise SettingError("", f"the network cannot be built here: {_first_line(error)}") from error
            self.__dict__[_STRUCTURE] = found
        return found

    def inventory(self) -> Inventory:
        """What the network is, seen while it runs on a few examples of the validation split; taken once.

        Raises:
            SettingError: if the network cannot be built, or does not run on the data.
        """
        found: Inventory | None = self.__dict__.get(_INVENTORY)
        if found is None:
            network, batch = self.structure(), self.example(_PROBED)

            def run(network: nn.Module, size: int) -> object:
                outputs = self.outputs(network, first_of(batch, size))
                if size == size_of(batch):
                    self.__dict__[_PROBED_OUTPUTS] = outputs
                return outputs

            try:
                found = take_inventory(network, Feed(run, size_of(batch)))
            except Exception as error:  # whatever a user's forward pass raises
                raise SettingError(
                    "", f"the network does not run on examples of the data: {_first_line(error)}"
                ) from error
            self.__dict__[_INVENTORY] = found
            if self.optimization.batch_size == 1:
                mistake = self.single_example_mistake()
                if mistake:
                    raise SettingError("batch_size", f"is 1, but {mistake}")
        return found

    def single_example_mistake(self) -> str:
        """Why the network cannot be trained on one example alone, as norm layers cannot; empty if it can."""
        network = self.structure()
        try:
            with torch.no_grad(), undisturbed(), constant_buffers(network):
                self.outputs(network, self.example(1))
        except (RuntimeError, ValueError) as error:  # what layers of torch raise
            return f"the network does not train on single examples: {_first_line(error)}"
        return ""

    def example(self, size: int, split: str = "validation") -> Any:
        """The first examples of a split, where the network is that is kept to be looked at."""
        device = next((tensor.device for tensor in self.structure().parameters()), torch.device("cpu"))
        data = self.data(split)
        return moved(first_of(data if isinstance(data, Mapping) else self._first_batch(split), size), device)

    def _first_batch(self, split: str) -> Any:
        """The first batch of a split that is read; read once."""
        kept: dict[str, Any] = self.__dict__.setdefault(_FIRST_BATCHES, {})
        if split not in kept:
            size = max(_PROBED, self.optimization.batch_size)
            kept[split] = self.arrange(split, first_batch(split, self.data(split), size, self.loading.collate))
        return kept[split]

    def feed(self) -> Feed:
        """Runs networks on a batch of training examples, of two at least."""
        size = max(2, self.optimization.batch_size)
        batch = self.example(size, "train")

        def run(network: nn.Module, size: int) -> object:
            device = next((tensor.device for tensor in network.parameters()), torch.device("cpu"))
            fed = moved(first_of(batch, size), device)
            return self.run(network, self.inputs(fed), fed)

        return Feed(run, size_of(batch))

    def check_losses(self) -> None:
        """Refuses a validation loss that is not one number per example, of which means are taken.

        Raises:
            SettingError: as ``inventory``, or with the key ``validation_loss``.
        """
        outputs, batch = self.probed(), self.example(_PROBED)
        try:
            with torch.no_grad(), undisturbed():
                losses = self.judge(outputs, batch)
        except Exception as error:  # whatever a user's loss raises
            message = f"cannot be taken of the network's outputs: {_first_line(error)}"
            raise SettingError("validation_loss", message) from error
        check_losses("validation_loss", losses, size_of(batch))

    def offers(self) -> frozenset[str]:
        """Names of what a training step offers: what is provided, and what that is a special case of."""
        offered = self.quantities()
        return frozenset(offered) | special_cases(offered)

    def quantities(self) -> dict[str, Quantity]:
        """What is provided, by name, with the axes and types that it has here.

        They are those that ``axes`` and ``types`` say; else those seen in the data, targets and outputs; else
        those that were declared. One that nobody declared may be anything.

        Raises:
            SettingError: as ``inventory``.
        """
        return {name: self._quantity(name) for name in self.provides}

    def _quantity(self, name: str) -> Quantity:
        train, known = self.example(_PROBED, "train"), quantities.known(name)
        if isinstance(train, Mapping) and name in train:
            found = observed(name, train[name], known)
        elif name == "logits" and type(self).outputs is NetworkObjective.outputs:
            found = observed(name, self.probed(), known)
        elif name == "targets":
            found = observed(name, self.targets(train["labels"][:_PROBED]), known)
        else:
            found = known or Quantity(name, (...,), "number")
        return replace(found, axes=self.axes.get(name, found.axes), type=self.types.get(name, found.type))

    def probed(self) -> Any:
        """What the network put out when it ran for the ``inventory``.

        Raises:
            SettingError: as there.
        """
        self.inventory()
        return self.__dict__[_PROBED_OUTPUTS]

    def layers(self) -> tuple[str, ...]:
        """Names of the layers that a pass of the network uses and whose ``weight`` has two or more axes.

        They stand in the order of their first use; the layer that is used last comes last.
        """
        return tuple(layer.name for layer in self.inventory().layers if layer.weight and layer.used)

    def __getstate__(self) -> dict[str, Any]:
        """Without the network that was built, and the batches that were read, to be looked at."""
        return {name: value for name, value in self.__dict__.items() if name not in (_STRUCTURE, _FIRST_BATCHES)}


class Classification(NetworkObjective):
    """A classifier: cross-entropy below, cross-entropy above.

    Args:
        build: makes a freshly initialised network, from inputs to logits.
        train, validation, test: pairs of inputs and labels, as tensors or arrays, examples first; or a map-style
            ``torch.utils.data.Dataset``, a ``DataLoader`` or another iterable that gives such pairs, or mappings
            with ``inputs``, ``labels`` and more. Labels are class numbers from 0, of any type; in tensors, rows
            with a single 1 (one-hot) are taken, too.
        optimization: how the network is trained. A loader's batches are as large as it makes them.
        validation_batch_size: examples per hypergradient; None uses the whole validation split of tensors, and
            batches as large as those of training of a data set.
        extra: further tensors of every example by name, one per split, such as ``domains``; they are provided.
        stages: parts of training that see some of the examples only, one after the other: a continual task.
        balanced_by: ``"labels"`` or one of ``extra``: every batch holds as many examples of each value.
        classes: number of classes; None takes the number of the network's outputs. Not all need be in the data.
        ignored: examples with this label are left out of all splits of tensors, so that they count in no loss,
            metric, mean or regularizer; None takes every label for a class.
        loading: how the examples of a ``Dataset`` are loaded.

    Beside what every classifier provides, ``batch_norm`` is provided where the network has layers of it, and
    ``branches`` where modules of the network are named ``branch``: residual branches, which can be skipped.

    Of data sets and loaders the first batch is looked at here, and the labels of every batch when it comes.
    A warning says so where validation or test data are seen to share examples with training data.

    Raises:
        SettingError: if data or network cannot be used: a split is empty, ragged, smaller than a batch, or holds
            nan; labels are no classes, or have no output; the network does not run, or not put out
            (batch, classes); a setting would do nothing with such data.

    >>> data = torch.randn(32, 4), torch.randint(3, (32,))
    >>> objective = Classification(lambda: nn.Linear(4, 3), data, data, data, Optimization(batch_size=8))
    >>> objective.classes
    3
    """

    provides = frozenset(
        {
            "inputs",
            "labels",
            "targets",
            "index",
            "logits",
            "probs",
            "parameters",
            "learning_rate",
            "examples",
            "classes",
        }
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
        classes: int | None = None,
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
        dtype = next((p.dtype for p in self.structure().parameters() if p.is_floating_point()), torch.float32)
        pairs = {name: pair_of(name, pair, dtype) for name, pair in held.items()}
        self._splits = Splits({name: {"inputs": x, "labels": y} for name, (x, y) in pairs.items()})
        for key, tensors in extra_of(extra).items():
            for name, tensor in tensors.items():
                self._splits[name][key] = tensor
        check_lengths(self._splits)
        labels = classes_of({name: split["labels"] for name, split in self._splits.items()}, ignored)
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
        self.classes = check_outputs(self.probed(), size_of(self.example(_PROBED)))
        seen = {name: (self._splits if name in self._splits else self._first)[name]["labels"] for name in SPLITS}
        check_classes(seen, self.classes, classes)

    def _look_at_read(self, given: Mapping[str, Any]) -> None:
        """Refuses first batches of data sets and loaders that cannot be trained on."""
        self._first = {name: self._first_batch(name) for name in self._read}
        for name, batch in self._first.items():
            check_sample(name, batch)
        if "train" in self._read and not is_dataset(self._read["train"]):
            size = batch_size_of(self._first["train"], self.optimization.batch_size)
            self.optimization = replace(self.optimization, batch_size=size)
        warn_of_overlap(given, self._first)

    def _further(self) -> set[str]:
        """Names of what a data set gives beside inputs and labels."""
        return {name for name, value in self._first.get("train", {}).items() if isinstance(value, Tensor)}

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

    def network(self) -> nn.Module:
        return self._build()

    def splits(self) -> Mapping[str, Split]:
        """The splits that are held as tensors; asked for another one, it raises a ``SettingError``."""
        return self._splits

    def data(self, split: str) -> Any:
        return self._read[split] if split in self._read else self._splits[split]

    def arrange(self, split: str, batch: Any) -> dict[str, Any]:
        named = labelled(split, batch)
        return named | {"labels": class_numbers(split, named["labels"], getattr(self, "classes", None))}

    def stages(self) -> tuple[Stage, ...]:
        return self._stages

    def targets(self, labels: Int[Tensor, "batch"]) -> Float[Tensor, "batch classes"]:
        targets = torch.zeros(*labels.shape, self.classes, device=labels.device)
        return targets.scatter_(-1, labels.unsqueeze(-1), 1.0)

    def loss(
        self, outputs: Float[Tensor, "batch classes"], targets: Float[Tensor, "batch classes"]
    ) -> Float[Tensor, "batch"]:
        return F.cross_entropy(outputs, targets, reduction="none")

    def constant_answer(self) -> Float[Tensor, "classes"] | None:
        """Logarithms of the classes' shares of the training split, where all splits are held as tensors."""
        if self._read:
            return None
        shares = self.targets(self._splits["train"]["labels"]).flatten(0, -2).mean(dim=0)
        return shares.clamp_min(torch.finfo(shares.dtype).tiny).log()

    def validation_loss(
        self, outputs: Float[Tensor, "batch classes"], labels: Int[Tensor, "batch"]
    ) -> Float[Tensor, "batch"]:
        return F.cross_entropy(outputs, labels, reduction="none")

    def metrics(
        self, outputs: Float[Tensor, "batch classes"], labels: Int[Tensor, "batch"]
    ) -> dict[str, Float[Tensor, "batch"]]:
        return {"accuracy": (outputs.argmax(dim=-1) == labels).to(outputs.dtype)}


def check_door(build: object, optimization: object, validation_batch_size: object) -> None:
    """Refuses what is no function, no ``Optimization``, no number of examples.

    Raises:
        SettingError: with the name of the argument.
    """
    if isinstance(build, nn.Module) or not callable(build):
        raise SettingError("build", f"must be a function that returns a fresh network, got {shown(build)}")
    if not isinstance(optimization, Optimization | None):
        raise SettingError("optimization", f"must be an Optimization(...), got {shown(optimization)}")
    size = validation_batch_size
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
        raise SettingError("validation_batch_size", f"must be a whole number of at least 1, got {shown(size)}")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


tasks: Registry[Callable[..., NetworkObjective]] = Registry("task", "selftune.tasks")
"""Objectives by name, as study files call them."""

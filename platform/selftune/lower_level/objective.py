"""Objectives: what is trained below and judged above, and what they provide to regularizers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from selftune.data import Split
from selftune.data.kinds import examples_of, first_batch, is_held
from selftune.data.loading import Loading
from selftune.data.nested import first_of, moved, size_of
from selftune.errors import SettingError
from selftune.fields import shown
from selftune.lower_level.losses import Losses, check_losses
from selftune.lower_level.optimization import Optimization as Optimization
from selftune.lower_level.own_hyperparameters import OwnHyperparameters
from selftune.networks.inventory import Feed, Inventory, take_inventory, undisturbed
from selftune.networks.modes import constant_buffers
from selftune.registries.registry import Registry
from selftune.regularization.needs import check_said, special_cases
from selftune.regularization.quantity import Axes, Quantity, Type, observed, quantities
from selftune.regularization.step import Step
from selftune.shapes import Float, Int, Tensor

_STRUCTURE, _INVENTORY = "_structure", "_inventory"  # where an objective keeps what it is asked for repeatedly
_PROBED_OUTPUTS, _FIRST_BATCHES = "_probed_outputs", "_first_batches"
PROBED = 4
"""Examples that an inventory sees."""
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


class NetworkObjective(OwnHyperparameters, ABC):
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

    @property
    def title(self) -> str:
        """What it is called in messages."""
        return type(self).__name__

    optimization: Optimization
    validation_batch_size: int | None = None
    """Examples per hypergradient; None uses the whole validation split."""

    @property
    def evaluation_batch_size(self) -> int:
        """Examples per pass where a whole split is measured: no more than a hypergradient takes, or a batch."""
        whole = self.data("validation")
        usual = size_of(whole) if is_held(whole) else self.optimization.batch_size
        size = self.validation_batch_size or usual
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

    def plain_targets(self, labels: Any) -> Any:
        """``targets`` where no regularizer needs them: they may be smaller, if ``loss`` takes that, too."""
        return self.targets(labels)

    @abstractmethod
    def loss(self, outputs: Any, targets: Any) -> Float[Tensor, "batch"] | Losses:
        """Training loss of every example, or of its elements, without regularization."""

    @abstractmethod
    def validation_loss(self, outputs: Any, labels: Any) -> Float[Tensor, "batch"] | Losses:
        """Validation loss of every example, or of its elements: the upper level."""

    def metrics(self, outputs: Any, labels: Any) -> Mapping[str, Float[Tensor, "batch"] | Losses]:
        """Further measures of every example, or of its elements, such as accuracy."""
        return {}

    def training_examples(self, key: str) -> tuple[str, ...]:
        """Labels of all training examples, their positions, as parts of hyperparameters per example.

        Raises:
            SettingError: with this key, if the data do not say which examples a batch holds.
        """
        if "index" not in self.provides:
            message = (
                "has one value per training example, but the data do not say which examples a batch holds (index)"
            )
            raise SettingError(key, message)
        data = self.data("train")
        return tuple(map(str, range(size_of(data) if is_held(data) else examples_of(data) or 0)))

    # Data ----------------------------------------------------------------------------------------------

    def data(self, split: str) -> Any:
        """What a split is read from: a batch of all examples on the CPU, a map-style data set, or a loader.

        None where there is no such split.
        """
        return self.splits().get(split)

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

    def prepare(self, step: Step) -> None:
        """Before regularizers see a batch: draws views, or whatever else the task makes of its examples."""

    def marks(self) -> frozenset[str]:
        """What the network and the stages make possible beside: names to provide."""
        modules = dict(self.structure().named_modules())
        marks = {
            "batch_norm": any(
                isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) for module in modules.values()
            ),
            "branches": any(name.rpartition(".")[2] == "branch" for name in modules),
            "recurrent_layers": any(isinstance(module, nn.RNNBase) for module in modules.values()),
            "embeddings": any(isinstance(module, nn.Embedding) for module in modules.values()),
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
            network, batch = self.structure(), self.example(PROBED)

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
        return moved(first_of(data if is_held(data) else self.first_batch(split), size), device)

    def first_batch(self, split: str) -> Any:
        """The first batch of a split that is a data set or a loader; read once.

        Raises:
            SettingError: if it cannot be read, or gives nothing.
        """
        kept: dict[str, Any] = self.__dict__.setdefault(_FIRST_BATCHES, {})
        if split not in kept:
            size = max(PROBED, self.optimization.batch_size)
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
        outputs, batch = self.probed(), self.example(PROBED)
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
            SettingError: as ``inventory``; if ``axes`` or ``types`` speak of what is not provided.
        """
        check_said(type(self).__name__, self.axes, self.types, self.provides, "provides")
        found = map(self.seen_as, self.provides)
        return {
            one.name: replace(one, axes=self.axes.get(one.name, one.axes), type=self.types.get(one.name, one.type))
            for one in found
        }

    def seen_as(self, name: str) -> Quantity:
        """What is provided under a name, as it is seen in a few examples or was declared."""
        batch, known = self.example(PROBED), quantities.known(name)
        if name == "inputs":
            return observed(name, self.inputs(batch), known)
        if name == "labels":
            return observed(name, self.labels(batch), known)
        if name == "targets":
            return observed(name, self.targets(self.labels(batch)), known)
        if name == "logits" and type(self).outputs is NetworkObjective.outputs:
            return observed(name, self.probed(), known)
        if isinstance(batch, Mapping) and name in batch:
            return observed(name, batch[name], known)
        return known or Quantity(name, (...,), "number")

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


tasks: Registry[Callable[..., Any]] = Registry("task", "selftune.tasks")
"""Objectives by name, as study files call them."""

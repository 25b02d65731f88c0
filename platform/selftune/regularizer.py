"""Regularizers: the hooks, and what one declares; ``selftune.composition`` says in which order several act."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Literal

import torch
from torch import nn
from torch.nn.utils import parametrize

from selftune.errors import SettingError, suggestion
from selftune.hyperparameters import Hyperparameter
from selftune.objective import NetworkObjective
from selftune.provided import PROVIDED, closure
from selftune.registry import Registry
from selftune.shapes import Float, Tensor
from selftune.step import Step, per_example

__all__ = [
    "PROVIDED",
    "Reference",
    "Regularizer",
    "Stage",
    "Step",
    "has_a_response",
    "is_in_the_loss",
    "overrides",
    "per_example",
    "register",
    "regularizers",
    "reparameterized_weights",
    "weight_of",
]

Stage = Literal[
    "problem", "replay", "mixing", "noise", "correction", "smoothing", "projection", "any", "clipping", "average"
]
"""When a regularizer acts among others: ``problem`` is what defines labels, the loss or the initial weights."""


@dataclass(frozen=True)
class Reference:
    """Where a method comes from."""

    title: str
    arxiv: str | None = None

    def __str__(self) -> str:
        return f"{self.title} (arXiv {self.arxiv})" if self.arxiv else self.title


class Regularizer:
    """Base of all regularizers: declares hyperparameters and needs, and overrides the hooks it uses.

    Args:
        parts: for a regularizer that acts per layer: ``"layer"`` for one value per layer, or a mapping from
            label to a list of layer-name patterns; None for one value in all.
        values: hyperparameters by short name: a number, a mapping from part to number, or a ``Tune``.

    Raises:
        SettingError: for an unknown hyperparameter; ``bind`` raises it for values that do not fit.
    """

    name: ClassVar[str]
    family: ClassVar[str]
    kind: ClassVar[str]
    reference: ClassVar[Reference]
    hyperparameters: ClassVar[tuple[Hyperparameter, ...]] = ()
    needs: ClassVar[frozenset[str]] = frozenset()
    provides: ClassVar[frozenset[str]] = frozenset()
    incompatible: ClassVar[Mapping[str, str]] = {}
    whole_batch: ClassVar[str | None] = None
    """Why it cannot act on the parts of a batch one by one, as an ``aggregate`` asks; None where it can."""
    per_layer: ClassVar[bool] = False
    risk: ClassVar[Literal["examples", "domains"]] = "examples"
    """What weighs the same in the mean loss: every example, or, because a term compares domains, every domain."""
    freezes: ClassVar[bool] = False
    """Whether it keeps the weights of its layers as they are, and trains other tensors in their place."""
    stage: ClassVar[Stage] = "any"
    when: ClassVar[Literal["before", "after"]] = "after"
    layer_filter: ClassVar[Callable[[nn.Module], bool] | None] = None

    def __init__(self, *, parts: str | Mapping[str, Iterable[str]] | None = None, **values: Any) -> None:
        known = [h.name for h in self.hyperparameters]
        for key in values:
            if key not in known:
                raise SettingError(key, f"unknown hyperparameter of {self.name}; {suggestion(key, known)}")
        if parts is not None and not self.per_layer:
            raise SettingError("parts", f"{self.name} does not act per layer, so it has no parts")
        self.settings = values
        self.parts = parts
        self.bound: dict[str, Hyperparameter] = {}
        self.layers: dict[str, tuple[str, ...]] = {}
        self.weight_names: dict[str, str] = {}
        self.step: Step | None = None

    def bind(self, objective: NetworkObjective, provided: frozenset[str] | None = None) -> None:
        """Checks needs against what is provided and fixes hyperparameters and parts.

        Args:
            provided: what the objective and other regularizers provide; None for what the objective does.

        Raises:
            SettingError: if a need is not provided, a layer pattern matches nothing, or a value does not fit.
        """
        provided = closure(objective.provides) if provided is None else provided
        missing = sorted(self.needs - provided)
        if missing:
            raise SettingError("", f"{self.name} needs {_wanted(missing, objective)}")
        if self.per_layer:
            self.layers = self._resolve_parts(self._acted_on(objective))
        labels = tuple(self.layers) if self.parts is not None else ()
        for declared in self.hyperparameters:
            value = self.settings.get(declared.name, declared.value)
            movable = declared.domain.movable
            try:
                self.bound[declared.name] = declared.with_value(value, labels if movable else (), f"{self.name}.")
            except ValueError as error:
                raise SettingError(declared.name, str(error)) from error

    def _acted_on(self, objective: NetworkObjective) -> tuple[str, ...]:
        """The layers that this regularizer can act on."""
        layers, accepts = objective.layers(), type(self).layer_filter
        if accepts is None:
            return layers
        with torch.device("meta"):
            modules = dict(objective.network().named_modules())
        fitting = tuple(layer for layer in layers if accepts(modules[layer]))
        if not fitting:
            kinds = ", ".join(sorted({type(modules[layer]).__name__ for layer in layers}))
            raise SettingError("", f"{self.name} finds no layer to act on; the network's layers are {kinds}")
        return fitting

    def weight_name(self, layer: str) -> str:
        """The name of a layer's trained weight, also where another regularizer reparameterised it."""
        return self.weight_names.get(layer, weight_of(layer))

    def default_layers(self, layers: tuple[str, ...]) -> tuple[str, ...]:
        """The layers acted on when ``parts`` does not name any."""
        return layers

    def _resolve_parts(self, layers: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
        if self.parts is None:
            return {"": self.default_layers(layers)}
        if self.parts == "layer":
            return {layer: (layer,) for layer in self.default_layers(layers)}
        if isinstance(self.parts, str):
            raise SettingError("parts", f"must be 'layer' or a mapping of layer patterns, got {self.parts!r}")
        resolved = {}
        for label, patterns in self.parts.items():
            found = tuple(layer for layer in layers if any(fnmatchcase(layer, p) for p in patterns))
            if not found:
                raise SettingError(
                    f"parts.{label}", f"no layer matches {list(patterns)}; the layers are {', '.join(layers)}"
                )
            resolved[label] = found
        return resolved

    def value(self, step: Step, name: str) -> Any:
        """The current value of one of this regularizer's hyperparameters."""
        return step.values[f"{self.name}.{name}"]

    def value_by_part(self, step: Step, name: str) -> dict[str, Any]:
        """The current value for every part: tensors of shape () or (batch,)."""
        value = self.value(step, name)
        if not self.bound[name].parts:
            return dict.fromkeys(self.layers, value)
        return dict(zip(self.layers, value.unbind(-1), strict=True))

    # Hooks -------------------------------------------------------------------------------------------

    def extend(self, network: nn.Module) -> None:
        """Once, before ``attach``, and on every exported network: what becomes part of the network for good."""

    def attach(self, network: nn.Module) -> None:
        """Once, before training: place hooks on layers, reparameterise."""

    def batch(self, step: Step) -> None:
        """Before the forward pass: change ``step.inputs`` and ``step.targets``."""

    def targets(self, step: Step) -> None:
        """After the forward pass: change ``step.targets``."""

    def penalty(self, step: Step) -> Float[Tensor, "..."]:
        """A term of the training loss: per example (batch,), per part (parts,), or a scalar ().

        The engine multiplies it by ``strength``, where there is one, and averages over the batch.
        """
        raise NotImplementedError

    def gradients(self, step: Step, gradients: dict[str, Tensor]) -> None:
        """After the backward pass: change the gradients in place."""

    def losses(self, step: Step, losses: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
        """After the targets: the training loss of every example, weighted or replaced."""
        return losses

    def replace(self, step: Step) -> Float[Tensor, ""] | None:
        """Instead of a whole training step: trains, and returns the loss; None leaves the step as it is."""

    def aggregate(self, step: Step, gradients: Float[Tensor, "shards size"]) -> Float[Tensor, "size"]:
        """Instead of one backward pass: one gradient from those of the parts of the batch, ``workers`` of them."""
        raise NotImplementedError

    def parameters(self, step: Step) -> None:
        """After the optimizer's step and the parameter maps: averages, tables, masks, restored weights."""

    def boundary(self, step: Step) -> None:
        """Before the first step of the next stage of a continual task: remember what this stage taught."""

    def quantity(self, name: str, step: Step) -> Any:
        """A quantity that this regularizer ``provides``, when another one needs it."""
        raise NotImplementedError

    def map_parameter(self, parameter: Tensor, step: Step, values: Mapping[str, Any]) -> Tensor:
        """Around the optimizer's step (``when``): the parameter after a proximal map or projection.

        ``values`` are this regularizer's hyperparameters for the parameter's part. The map must be a function
        of its arguments, because a response step differentiates through it.
        """
        raise NotImplementedError

    def export(self, state: dict[str, Tensor]) -> None:
        """At the end: turn the trained tensors, by name, into those of the plain network.

        A regularizer whose ``attach`` added tensors merges them into the plain ones and takes them out.
        """

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        del state


def weight_of(layer: str) -> str:
    """The parameter name of a layer's weight; a network that is one layer has the layer name ``""``."""
    return f"{layer}.weight" if layer else "weight"


def reparameterized_weights(network: nn.Module) -> dict[str, str]:
    """The parameter names of the tensors in the place of reparameterised weights, by layer."""
    return {
        name: f"{name}.parametrizations.weight.original" if name else "parametrizations.weight.original"
        for name, module in network.named_modules()
        if parametrize.is_parametrized(module, "weight")
    }


_IN_THE_LOSS = ("extend", "attach", "batch", "targets", "losses", "penalty")


def is_in_the_loss(regularizer: Regularizer) -> bool:
    """Whether a regularizer changes the training loss, so that the loss depends on what it declares."""
    return any(overrides(regularizer, hook) for hook in _IN_THE_LOSS)


def has_a_response(regularizer: Regularizer) -> bool:
    """Whether a step that fits the response sees what a regularizer does: in the loss, or as a parameter map."""
    return is_in_the_loss(regularizer) or overrides(regularizer, "map_parameter")


def overrides(regularizer: Regularizer, hook: str) -> bool:
    """Whether a regularizer implements a hook."""
    return getattr(type(regularizer), hook) is not getattr(Regularizer, hook)


def _wanted(missing: list[str], objective: NetworkObjective) -> str:
    """The names, and who could provide them."""
    providers = {
        name: [other for other in regularizers.names() if name in regularizers[other].provides] for name in missing
    }
    helpers = sorted({other for others in providers.values() for other in others})
    hint = f"; add {' or '.join(helpers)}" if helpers and all(providers.values()) else ""
    known = ", ".join(sorted(objective.provides))
    task = type(objective).__name__
    return f"{', '.join(missing)}, which {task} does not provide (it provides {known}){hint}"


regularizers: Registry[type[Regularizer]] = Registry("regularizer", "selftune.regularizers")
"""Regularizer classes by name, as study files call them."""


def register(cls: type[Regularizer]) -> type[Regularizer]:
    """Class decorator: makes a regularizer known by its name."""
    return regularizers.register(cls.name, cls)

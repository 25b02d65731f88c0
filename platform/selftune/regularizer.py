"""Regularizers: the hooks, what they see of a training step, and how several compose.

**Order of action.** Within one training step, hooks run in this order, whatever the order in the study:
``batch`` (what defines the problem, replay, mixing, noise), forward pass with what ``attach`` placed on layers,
``targets`` (corrections before smoothing), ``losses``, ``penalty``, backward pass (by parts of the batch for an
``aggregate``), ``gradients`` (projections before clipping), parameter maps marked ``before`` the optimizer, the
optimizer's step, parameter maps ``after`` it, ``parameters`` (averages last). Regularizers of one stage act in the
order of their names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, ClassVar, Literal, get_args

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
    "Regularizers",
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

_STAGES = get_args(Stage)


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


class Regularizers:
    """Several regularizers acting as one, in the documented order.

    Args:
        regularizers: bound or not; at most one of each name.
        objective: what they are bound to.
        known: what is provided beside what the objective does.

    Raises:
        SettingError: if two have one name, or one does not fit the objective; keys start with the name.
    """

    def __init__(
        self, regularizers: Iterable[Regularizer], objective: NetworkObjective, known: Iterable[str] = ()
    ) -> None:
        self.members = sorted(regularizers, key=lambda r: (_STAGES.index(r.stage), r.name))
        names = [r.name for r in self.members]
        for name in names:
            if names.count(name) > 1:
                raise SettingError(name, "is listed twice; name each regularizer once")
        self._check_pairs()
        self.provided = closure(objective.provides.union(known, *(r.provides for r in self.members)))
        for regularizer in self.members:
            try:
                regularizer.bind(objective, self.provided)
            except SettingError as error:
                key = f"{regularizer.name}.{error.key}" if error.key else regularizer.name
                raise SettingError(key, error.message) from error
        kept = {
            layer: r.name for r in self.members if r.freezes for layers in r.layers.values() for layer in layers
        }
        for regularizer in self.members:
            if kept and _acts_on_weights(regularizer):
                _leave_alone(regularizer, kept)
        self.needs = frozenset[str]().union(*(r.needs for r in self.members))
        self._batch = self._with("batch")
        self._targets = self._with("targets")
        self._penalty = self._with("penalty")
        self._gradients = self._with("gradients")
        self._losses = self._with("losses")
        self._maps = self._with("map_parameter")
        self._parameters = self._with("parameters")
        self._replace = self._with("replace")
        self._boundary = self._with("boundary")
        self.aggregator = next(iter(self._with("aggregate")), None)

    def _check_pairs(self) -> None:
        names = {r.name: r for r in self.members}
        for regularizer in self.members:
            for other, reason in regularizer.incompatible.items():
                if other in names:
                    raise SettingError(regularizer.name, f"cannot be combined with {other}: {reason}")
        for hook, why in _ALONE.items():
            both = self._with(hook)
            if len(both) > 1:
                first, second, *_ = (r.name for r in both)
                raise SettingError(second, f"cannot be combined with {first}: {why}")
        for one, another, why in self._clashes():
            raise SettingError(one.name, f"cannot be combined with {another.name}: {why}")
        owners: dict[str, str] = {}
        for regularizer in self.members:
            for name in regularizer.provides:
                if owners.setdefault(name, regularizer.name) != regularizer.name:
                    raise SettingError(
                        regularizer.name, f"cannot be combined with {owners[name]}: both provide {name}"
                    )

    def _clashes(self) -> Iterator[tuple[Regularizer, Regularizer, str]]:
        """Pairs that cannot work together whatever they are called, and why."""
        for aggregator in self._with("aggregate"):
            for other in self.members:
                if overrides(other, "replace"):
                    yield other, aggregator, "it replaces the training step whose gradients would be combined"
                if other.whole_batch is not None:
                    yield other, aggregator, other.whole_batch
        readers = {*self._with("targets"), *self._with("penalty")}
        for mixer in (r for r in self.members if r.stage == "mixing"):
            for reader in sorted(readers, key=lambda r: r.name):
                known = sorted(reader.needs & _OF_ONE_EXAMPLE)
                if known:
                    yield reader, mixer, f"it reads the {' and '.join(known)} of examples, which mixed ones lack"

    def _with(self, hook: str) -> list[Regularizer]:
        return [r for r in self.members if overrides(r, hook)]

    @property
    def hyperparameters(self) -> tuple[Hyperparameter, ...]:
        """All hyperparameters, in the order of the regularizers' names."""
        return tuple(h for r in sorted(self.members, key=lambda r: r.name) for h in r.bound.values())

    @property
    def quantities(self) -> dict[str, Callable[[Step], Any]]:
        """What some regularizers provide for others: functions of the step by name."""
        return {name: partial(r.quantity, name) for r in self.members for name in r.provides}

    @property
    def changes_gradients(self) -> bool:
        return bool(self._gradients)

    def extend(self, network: nn.Module) -> None:
        for regularizer in self.members:
            regularizer.extend(network)

    def attach(self, network: nn.Module) -> None:
        for regularizer in self.members:
            regularizer.attach(network)
        names = reparameterized_weights(network)
        for regularizer in self.members:
            regularizer.weight_names = names

    def begin(self, step: Step) -> None:
        """Starts a training step: inputs are augmented."""
        for regularizer in self._batch:
            regularizer.batch(step)

    def act(self, step: Step) -> None:
        """Before a forward pass: what is attached to layers acts as the step says."""
        for regularizer in self.members:
            regularizer.step = step

    def end(self) -> None:
        """Ends the forward pass: what is attached to layers is the identity again."""
        for regularizer in self.members:
            regularizer.step = None

    def targets(self, step: Step) -> None:
        for regularizer in self._targets:
            regularizer.targets(step)

    def penalty(self, step: Step) -> Float[Tensor, ""] | None:
        """The sum of all penalties times their strengths; None without penalties."""
        total: Tensor | None = None
        for regularizer in self._penalty:
            value = regularizer.penalty(step)
            if "strength" in regularizer.bound:
                value = _weighted(regularizer, value, regularizer.value(step, "strength"))
            weighted = value.mean() if value.ndim else value
            total = weighted if total is None else total + weighted
        return total

    def losses(self, step: Step, losses: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
        for regularizer in self._losses:
            losses = regularizer.losses(step, losses)
        return losses

    def replace(self, step: Step) -> Float[Tensor, ""] | None:
        """Lets the one regularizer that trains by itself do so."""
        return self._replace[0].replace(step) if self._replace else None

    def gradients(self, step: Step, gradients: dict[str, Tensor]) -> None:
        for regularizer in self._gradients:
            regularizer.gradients(step, gradients)

    @torch.no_grad()
    def parameters(self, step: Step) -> None:
        for regularizer in self._parameters:
            regularizer.parameters(step)

    def boundary(self, step: Step) -> None:
        for regularizer in self._boundary:
            regularizer.boundary(step)

    @torch.no_grad()
    def map_parameters(self, step: Step, when: Literal["before", "after"]) -> None:
        """Applies the parameter maps to the network's own parameters, in place."""
        for regularizer in self._maps:
            if regularizer.when == when:
                for name, values in _parts_of(regularizer, step):
                    parameter = step.parameters[name]
                    if not parameter.requires_grad:  # frozen by a reparameterisation
                        continue
                    parameter.copy_(regularizer.map_parameter(parameter, step, values))

    def map_surrogate(self, step: Step) -> Float[Tensor, ""] | None:
        """A term whose gradient in the step's parameters is what the parameter maps do, in units of the loss.

        A map w -> M(w) applied once a step balances a loss gradient g where w - M(w) = -learning_rate * g, or
        learning_rate / (1 - momentum) * g under SGD with momentum. So it acts like a term with gradient
        (w - M(w)) * (1 - momentum) / learning_rate: a multiple of w for decoupled weight decay, the gradient of
        a squared distance for a projection. Response steps add this term, so that hyperparameters of
        parameter maps have a response although they are not in the loss.
        """
        total: Tensor | None = None
        for regularizer in self._maps:
            for name, values in _parts_of(regularizer, step):
                parameter = step.parameters[name]
                if not parameter.requires_grad:  # has no response
                    continue
                with torch.no_grad():
                    mapped = regularizer.map_parameter(parameter, step, values)
                    direction = (parameter - mapped) * (1 - step.momentum) / step.learning_rate
                term = (direction * parameter).sum()
                total = term if total is None else total + term
        return total

    def export(self, state: dict[str, Tensor]) -> None:
        for regularizer in reversed(self.members):  # averages of all tensors before these are merged
            regularizer.export(state)

    def state_dict(self) -> dict[str, Any]:
        return {r.name: r.state_dict() for r in self.members}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for regularizer in self.members:
            regularizer.load_state_dict(state[regularizer.name])


def _weighted(regularizer: Regularizer, value: Tensor, strength: Tensor) -> Float[Tensor, ""]:
    if value.ndim == 1 and strength.ndim == 1 and len(value) < len(strength):  # appended examples have no term
        strength = strength[: len(value)]
    product = strength * value
    if regularizer.parts is not None:
        product = product.sum(dim=-1)
    return product.mean() if product.ndim else product


_ALONE = {
    "replace": "each of them replaces the whole training step",
    "aggregate": "each of them makes the one gradient of the step",
}
"""Hooks that one regularizer of a study can have, and why."""


_OF_ONE_EXAMPLE = frozenset({"labels", "domains", "domain_gradients"})
"""What an example mixed of several has not got; its targets are mixed with it."""


def _acts_on_weights(regularizer: Regularizer) -> bool:
    """Whether its layers are those whose trained weights it reads or maps; what attaches makes them itself."""
    return regularizer.per_layer and "parameters" in regularizer.needs and not overrides(regularizer, "attach")


def _leave_alone(regularizer: Regularizer, kept: Mapping[str, str]) -> None:
    """Takes away layers whose weights another regularizer keeps as they are, unless the study names them."""
    for label, layers in regularizer.layers.items():
        trained = tuple(layer for layer in layers if layer not in kept)
        if not trained or (regularizer.parts is not None and len(trained) < len(layers)):
            layer = next(layer for layer in layers if layer in kept)
            raise SettingError(
                regularizer.name,
                f"cannot be combined with {kept[layer]} on layer {layer}: that keeps the weight as it is and"
                " trains other tensors in its place; name other layers in parts",
            )
        regularizer.layers[label] = trained


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


def _parts_of(regularizer: Regularizer, step: Step) -> Iterable[tuple[str, dict[str, Any]]]:
    """Parameter names that a regularizer acts on, each with the hyperparameters of its part."""
    by_name = {name: regularizer.value_by_part(step, name) for name in regularizer.bound}
    for label, layers in regularizer.layers.items():
        values = {name: by_part[label] for name, by_part in by_name.items()}
        for layer in layers:
            yield regularizer.weight_name(layer), values


regularizers: Registry[type[Regularizer]] = Registry("regularizer", "selftune.regularizers")
"""Regularizer classes by name, as study files call them."""


def register(cls: type[Regularizer]) -> type[Regularizer]:
    """Class decorator: makes a regularizer known by its name."""
    return regularizers.register(cls.name, cls)

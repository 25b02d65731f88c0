"""Regularizers: the hooks, and what one declares; ``composition`` says in which order several act."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from torch import nn
from torch.nn.utils import parametrize

from selftune.data.kinds import gives_batches
from selftune.errors import SettingError, suggestion
from selftune.fields import shown
from selftune.hyperparameters import Hyperparameter
from selftune.networks.inventory import Inventory, Layer
from selftune.registries.reference import Reference
from selftune.registries.registry import Registry
from selftune.regularization.needs import as_needed, check_said, mistakes
from selftune.regularization.quantity import Axes, Quantity, Type, quantities
from selftune.regularization.step import Step
from selftune.regularization.step_quantities import closure
from selftune.regularization.units import (
    PER_CLASS,
    PER_UNIT,
    along_rows,
    class_labels,
    spread_over_units,
    unit_labels,
)
from selftune.shapes import Float, Tensor

if TYPE_CHECKING:
    from selftune.lower_level.objective import NetworkObjective

__all__ = [
    "Order",
    "Regularizer",
    "differs_by_example",
    "has_a_response",
    "is_in_the_loss",
    "overrides",
    "register",
    "regularizers",
    "reparameterized_weights",
    "weight_of",
]

Order = Literal[
    "problem",
    "replay",
    "mixing",
    "colour",
    "geometry",
    "noise",
    "correction",
    "smoothing",
    "projection",
    "any",
    "clipping",
    "average",
]
"""When a regularizer acts among others: ``problem`` is what defines labels, the loss or the initial weights."""


PER_EXAMPLE = "example"
"""What ``parts`` are where there is one value per training example."""


class Regularizer:
    """Base of all regularizers: declares hyperparameters and needs, and overrides the hooks it uses.

    Args:
        parts: for a regularizer that acts per layer: ``"layer"`` for one value per layer, or a mapping from
            label to a list of layer-name patterns; for one that is ``unitwise`` also ``"unit"``, one value per
            unit of every layer. For one that acts on examples ``"example"`` or ``"class"``: one value per training
            example, or per class, of what can be another one for each example. None for one value in all.
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
    axes: ClassVar[Mapping[str, Axes]] = {}
    """Axes of what it needs, where others than those declared will do: ``("batch", ...)`` for any that follow."""
    types: ClassVar[Mapping[str, Type]] = {}
    """Types of what it needs, likewise."""
    incompatible: ClassVar[Mapping[str, str]] = {}
    whole_batch: ClassVar[str | None] = None
    """Why it cannot act on the parts of a batch one by one, as an ``aggregate`` asks; None where it can."""
    one_process: ClassVar[str | None] = None
    """Why several processes cannot share a batch with it, each of which has all outputs, but gradients through the
    network of its own part alone; None where they can. What replaces the training step, or takes gradients through
    the network, has to say None itself where they can."""
    whole_network: ClassVar[str | None] = None
    """Why several processes cannot hold a part of the weights each (FSDP) with it: it uses tensors of the network
    elsewhere than in ``step.parameters``; None where they can."""
    waits: ClassVar[str | None] = None
    """Why its training steps make the host wait for a GPU; None where they do not."""
    per_layer: ClassVar[bool] = False
    unitwise: ClassVar[bool] = False
    """Whether it can have one value per unit: its penalty of weights is the sum of those of their rows, its map of
    a weight goes row by row, or its noise acts on channels one by one."""
    risk: ClassVar[Literal["examples", "domains"]] = "examples"
    """What weighs the same in the mean loss: every example, or, because a term compares domains, every domain."""
    acts_from: ClassVar[str | None] = None
    """The hyperparameter that says from which training step it acts as it should; None where there is none."""
    sparse: ClassVar[bool] = False
    """Whether it sets weights to zero, perhaps whole rows of them."""
    freezes: ClassVar[bool] = False
    """Whether it keeps the weights of its layers as they are, and trains other tensors in their place."""
    order: ClassVar[Order] = "any"
    when: ClassVar[Literal["before", "after"]] = "after"
    layer_filter: ClassVar[Callable[[nn.Module], bool] | None] = None

    def __init__(self, *, parts: str | Mapping[str, Iterable[str]] | None = None, **values: Any) -> None:
        known = [h.name for h in self.hyperparameters]
        for key in values:
            if key not in known:
                raise SettingError(key, f"unknown hyperparameter of {self.name}; {suggestion(key, known)}")
        self.per_example = parts == PER_EXAMPLE
        """Whether it has one value per training example."""
        self.per_class = parts == PER_CLASS
        """Whether it has one value per class of the training examples."""
        self.per_unit = parts == PER_UNIT
        """Whether it has one value per unit of its layers."""
        if self.per_unit and not self.unitwise:
            raise SettingError("parts", f"{self.name} does not act unit by unit; see its parts in the catalogue")
        if self.per_example or self.per_class:
            if not differs_by_example(type(self)):
                raise SettingError("parts", f"{self.name} does not act on examples one by one; leave them out")
            parts = None
        if parts is not None and not self.per_layer:
            raise SettingError("parts", f"{self.name} does not act per layer, so it has no parts")
        if parts is not None:
            _check_parts(parts)
        self.settings = values
        self.parts = parts
        self.bound: dict[str, Hyperparameter] = {}
        self.layers: dict[str, tuple[str, ...]] = {}
        self.units: dict[str, tuple[str, ...]] = {}
        """Labels of the units of every layer, where there is one value per unit."""
        self.renamed: Mapping[str, str] = {}
        self._weights: dict[str, tuple[str, ...]] = {}
        self.step: Step | None = None

    def bind(self, objective: NetworkObjective, offered: frozenset[str] | None = None) -> None:
        """Checks needs against what is provided and fixes hyperparameters and parts.

        Args:
            offered: what the objective and other regularizers provide; None for what the objective does.

        Raises:
            SettingError: if a need is not provided, or not of these axes or this type; if a layer pattern matches
                nothing, or a value does not fit.
        """
        offered = closure(objective.offers()) if offered is None else offered
        missing = sorted(self.needs - offered)
        if missing:
            raise SettingError("", f"{self.name} needs {_wanted(missing, objective)}")
        for mistake in mistakes(self.needed(), objective.quantities(), type(objective).__name__):
            raise SettingError("", f"{self.name} {mistake}; leave it out")
        if self.per_layer:
            inventory = objective.inventory()
            self.layers = self._resolve_parts(self._acted_on(objective))
            if self.acts_on_weights:
                self._share_out(inventory)
            if self.per_unit:
                self._find_units(objective.structure())
        labels = tuple(self.layers) if self.parts is not None else ()
        if self.per_unit:
            labels = tuple(label for units in self.units.values() for label in units)
        examples = objective.training_examples("parts") if self.per_example else ()
        examples = class_labels(objective) if self.per_class else examples
        for declared in self.hyperparameters:
            value = self.settings.get(declared.name, declared.value)
            movable = declared.domain.movable
            if self.per_unit:
                value = spread_over_units(value, self.units)
            by_example = (self.per_example or self.per_class) and _differs(declared)
            if by_example:
                declared = replace(declared, per_example=self.per_example, per_class=self.per_class)
            try:
                parts = examples if by_example else labels if movable else ()
                bound = declared.with_value(value, parts, f"{self.name}.")
            except ValueError as error:
                raise SettingError(declared.name, str(error)) from error
            if self.per_unit and bound.parts:
                bound = replace(bound, pools=tuple(map(len, self.units.values())))
            elif bound.per_class:
                bound = replace(bound, pools=(bound.size,))
            self.bound[declared.name] = replace(
                bound, smooth=bound.smooth and is_in_the_loss(self), responds=has_a_response(self)
            )

    @classmethod
    def needed(cls) -> list[Quantity]:
        """What it needs, in the axes and types that it needs.

        Raises:
            SettingError: if ``axes`` or ``types`` speak of what it does not need.
        """
        check_said(cls.name, cls.axes, cls.types, cls.needs, "needs")
        found = (as_needed(name, cls.axes, cls.types) for name in sorted(cls.needs))
        return [quantity for quantity in found if quantity is not None]

    # Layers ------------------------------------------------------------------------------------------

    @property
    def acts_on_weights(self) -> bool:
        """Whether its layers are those whose trained weights it reads or maps; what attaches makes them itself."""
        return self.per_layer and "parameters" in self.needs and not overrides(self, "attach")

    def candidates(self, inventory: Inventory) -> tuple[Layer, ...]:
        """The layers that ``parts`` can name: of a regularizer of weights, all that hold some."""
        if self.acts_on_weights:
            return inventory.layers
        return tuple(layer for layer in inventory.layers if layer.weight)

    def obstacle(self, layer: Layer) -> str:
        """Why it cannot act on a layer; empty where it can."""
        if self.sparse and layer.length_apart:
            return "weight_norm divides its weight by lengths of rows, which are zero where all of a row is"
        return "" if layer.used or self.acts_on_weights else "nothing uses it when the network runs"

    def default_layers(self, layers: tuple[str, ...]) -> tuple[str, ...]:
        """The layers acted on when ``parts`` does not name any, out of those that the network uses, in order."""
        return layers

    def _acted_on(self, objective: NetworkObjective) -> tuple[Layer, ...]:
        """The layers that this regularizer can act on, and those that it cannot for a reason of their own."""
        layers, accepts = self.candidates(objective.inventory()), type(self).layer_filter
        fitting = layers
        if accepts is not None:
            modules = dict(objective.structure().named_modules())
            fitting = tuple(layer for layer in layers if accepts(modules[layer.name]))
        if not fitting:
            kinds = ", ".join(sorted({layer.type for layer in layers})) or "none that hold weights"
            raise SettingError("", f"{self.name} finds no layer to act on; the network's layers are {kinds}")
        return fitting

    def _resolve_parts(self, layers: tuple[Layer, ...]) -> dict[str, tuple[str, ...]]:
        """Layers by part."""
        if isinstance(self.parts, Mapping):
            return {label: self._named(label, patterns, layers) for label, patterns in self.parts.items()}
        used = tuple(layer.name for layer in layers if layer.used)
        chosen = self.default_layers(used)
        if chosen == used:  # what a few examples do not use, others may
            chosen += tuple(layer.name for layer in layers if not layer.used)
        obstacles = {layer.name: self.obstacle(layer) for layer in layers if layer.name in chosen}
        found = tuple(name for name in chosen if not obstacles[name])
        if not found:
            reasons = "; ".join(f"layer {name or '(the network)'}: {why}" for name, why in obstacles.items())
            raise SettingError("", f"{self.name} finds no layer to act on{f' ({reasons})' if reasons else ''}")
        return {"": found} if self.parts is None else {name: (name,) for name in found}

    def _named(self, label: str, patterns: Iterable[str], layers: tuple[Layer, ...]) -> tuple[str, ...]:
        """The layers that the patterns of a part name; each of them must name one that can be acted on."""
        found: list[str] = []
        patterns = list(patterns)
        matching = {p: [layer for layer in layers if fnmatchcase(layer.name, p)] for p in patterns}
        if not any(matching.values()):
            known = ", ".join(layer.name for layer in layers)
            raise SettingError(f"parts.{label}", f"no layer matches {patterns}; the layers are {known}")
        for matched in matching.values():
            obstacles = {layer.name: self.obstacle(layer) for layer in matched}
            if matched and all(obstacles.values()):
                name, why = next(iter(obstacles.items()))
                raise SettingError(
                    f"parts.{label}", f"{self.name} cannot act on layer {name or '(the network)'}: {why}"
                )
            found += [name for name, why in obstacles.items() if not why]
        return tuple(layer.name for layer in layers if layer.name in found)

    def _share_out(self, inventory: Inventory) -> None:
        """Gives every trained tensor to the first of the layers that hold it, so that it is acted on once."""
        owners: dict[str, str] = {}
        for label, layers in list(self.layers.items()):
            for name in layers:
                trained = [weight for weight in inventory[name].weights if weight not in inventory.frozen]
                for weight in trained:
                    owner = owners.setdefault(weight, name)
                    if owner not in layers and self.parts != "layer":
                        raise SettingError(
                            f"parts.{label}",
                            f"layer {name} shares {weight} with layer {owner} of another part; name both in one",
                        )
                own = tuple(weight for weight in trained if owners[weight] == name)
                self._weights[name] = own
                if self.parts == "layer" and trained and not own:
                    del self.layers[label]
            if isinstance(self.parts, Mapping) and not any(self._weights[name] for name in layers):
                raise SettingError(
                    f"parts.{label}",
                    f"nothing is trained in {' and '.join(layers)} (requires_grad is False), so that {self.name}"
                    " has nothing to act on there; leave the part out",
                )
        if not any(self._weights.values()):
            raise SettingError("", f"{self.name} finds nothing to act on: none of the layers is trained")

    def _find_units(self, network: nn.Module) -> None:
        """Gives every layer its units; those that have none are left out."""
        units = {layer: self._units_of(network, layer) for layer in self.layers}
        self.units = {layer: labels for layer, labels in units.items() if labels}
        self.layers = {layer: self.layers[layer] for layer in self.units}
        if not self.units:
            raise SettingError("parts", f"{self.name} finds no layer whose units are known; leave them out")

    def _units_of(self, network: nn.Module, layer: str) -> tuple[str, ...]:
        """Labels of the units of a layer: of the rows of its trained weights, along their first axis."""
        names = self._weights[layer]
        owners = [layer] if len(names) == 1 else names
        rows = [len(network.get_parameter(name)) for name in names]
        return tuple(label for pair in zip(owners, rows, strict=True) for label in unit_labels(*pair))

    def weight_names(self, layer: str) -> tuple[str, ...]:
        """The names of the trained weights of a layer, also of those that another regularizer reparameterised.

        A tensor that several layers share belongs to the first of them; what is frozen belongs to none.
        """
        return tuple(self.renamed.get(name, name) for name in self._weights[layer])

    def weights(self, step: Step, layers: Iterable[str]) -> list[Tensor]:
        """The step's trained weights of some layers, each once."""
        return [step.parameters[name] for layer in layers for name in self.weight_names(layer)]

    def value(self, step: Step, name: str) -> Any:
        """The current value of one of this regularizer's hyperparameters."""
        bound = self.bound.get(name)
        return step.values[f"{self.name}.{name}"] if bound is None else step.value(bound)

    def value_by_part(self, step: Step, name: str) -> dict[str, Any]:
        """The current value for every part: tensors of shape () or (batch,).

        With one value per unit those of every layer: (units,) or (batch, units).
        """
        value = self.value(step, name)
        if not self.bound[name].parts or self.per_example or self.per_class:
            return dict.fromkeys(self.layers, value)
        if self.per_unit:
            pieces = value.split([len(units) for units in self.units.values()], dim=-1)
            return dict(zip(self.layers, pieces, strict=True))
        return dict(zip(self.layers, value.unbind(-1), strict=True))

    def of_rows(self, values: Mapping[str, Any], rows: slice, weight: Tensor) -> dict[str, Any]:
        """Of the values of a layer's units those of some rows, in a shape that multiplies the weight."""
        return {
            name: along_rows(value[rows], weight) if self.bound[name].parts else value
            for name, value in values.items()
        }

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


def differs_by_example(cls: type[Regularizer]) -> bool:
    """Whether a regularizer can have one value per training example, or per class."""
    of_weights = cls.per_layer and "parameters" in cls.needs and cls.attach is Regularizer.attach
    return not of_weights and any(_differs(h) for h in cls.hyperparameters)


def _differs(hyperparameter: Hyperparameter) -> bool:
    """Whether it can have another value for each example of a batch."""
    return hyperparameter.domain.movable and not hyperparameter.shared


def _check_parts(parts: object) -> None:
    if isinstance(parts, str) and parts in ("layer", PER_UNIT):
        return
    if not isinstance(parts, Mapping):
        wanted = "'layer' or a mapping from label to layer patterns such as {hidden: [hidden*]}"
        raise SettingError("parts", f"must be {wanted}, got {shown(parts)}")
    for label, patterns in parts.items():
        listed = isinstance(patterns, Iterable) and not isinstance(patterns, str)
        if not (listed and all(isinstance(pattern, str) for pattern in patterns)):
            wanted = "a list of layer patterns such as [hidden*]"
            raise SettingError(f"parts.{label}", f"must be {wanted}, got {shown(patterns)}")


def weight_of(layer: str) -> str:
    """The parameter name of a layer's weight; a network that is one layer has the layer name ``""``."""
    return f"{layer}.weight" if layer else "weight"


def reparameterized_weights(network: nn.Module) -> dict[str, str]:
    """The names of the tensors in the place of reparameterised weights, by the weights' own names."""
    return {
        weight_of(name): f"{name}.parametrizations.weight.original" if name else "parametrizations.weight.original"
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
    if "index" in missing and gives_batches(objective.data("train")):
        hint += "; a loader does not tell which examples a batch holds: give a Dataset or tensors"
    offered, task = objective.quantities(), objective.title
    found = [(name, quantities.known(name)) for name in missing]
    words = [name if quantity is None else quantity.explained for name, quantity in found]
    seen = {offered[one.of].form for _, one in found if one is not None and one.of in offered}
    known = ", ".join(sorted(objective.provides))
    there = "; ".join([f"it provides {known}", *sorted(seen)])
    return f"{', '.join(words)}, which {task} does not provide ({there}){hint}"


def built_regularizers(given: Any) -> tuple[Regularizer, ...]:
    """The regularizers that a call names by a mapping from name to settings, or gives as they are.

    Raises:
        SettingError: if a name is unknown, or settings or regularizers are something else.

    >>> built_regularizers({"weight_decay": {"strength": 0.1}})[0].settings
    {'strength': 0.1}
    """
    if isinstance(given, Mapping):
        return tuple(_by_name(name, settings) for name, settings in given.items())
    built = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str | Tensor) else (given,)
    for one in built:
        if not isinstance(one, Regularizer):
            raise SettingError(
                "regularizers",
                f"must be a mapping from name to settings, or a list of regularizers; got {shown(one)}",
            )
    return built


def _by_name(name: Any, settings: Any) -> Regularizer:
    if name not in regularizers:
        raise SettingError(str(name), f"unknown regularizer; {suggestion(str(name), regularizers.names())}")
    if not (isinstance(settings, Mapping) and all(isinstance(key, str) for key in settings)):
        raise SettingError(name, f"must be a mapping of settings, which may be empty; got {shown(settings)}")
    try:
        return regularizers[name](**settings)
    except SettingError as error:
        raise SettingError(f"{name}.{error.key}", error.message) from error


regularizers: Registry[type[Regularizer]] = Registry("regularizer", "selftune.regularizers")
"""Regularizer classes by name, as study files call them."""


def register(cls: type[Regularizer]) -> type[Regularizer]:
    """Class decorator: makes a regularizer known by its name."""
    return regularizers.register(cls.name, cls)

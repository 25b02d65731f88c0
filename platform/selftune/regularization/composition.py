"""How several regularizers act as one.

**Order of action.** Within one training step, hooks run in this order, whatever the order in the study:
``batch`` (what defines the problem, replay, mixing, noise), forward pass with what ``attach`` placed on layers,
``targets`` (corrections before smoothing), ``losses`` (then, where a penalty compares domains, every domain gets
the same weight), ``penalty``, backward pass (by parts of the batch for an
``aggregate``), ``gradients`` (projections before clipping), parameter maps marked ``before`` the optimizer, the
optimizer's step, parameter maps ``after`` it, ``parameters`` (averages last).
Regularizers of one ``order`` act by their names, alphabetically.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import nn

from selftune.data.domains import balanced
from selftune.errors import SettingError
from selftune.hyperparameters import Hyperparameter
from selftune.networks.precision import typed_as, widened
from selftune.networks.sharded_weights import WholeWeights
from selftune.regularization.regularizer import Order, Regularizer, overrides, reparameterized_weights
from selftune.regularization.step import Step
from selftune.regularization.step_quantities import closure, last_layer_mistake
from selftune.shapes import Float, Tensor

if TYPE_CHECKING:
    from selftune.lower_level.objective import NetworkObjective

_ORDERS = get_args(Order)


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
        self.members = sorted(regularizers, key=lambda r: (_ORDERS.index(r.order), r.name))
        names = [r.name for r in self.members]
        for name in names:
            if names.count(name) > 1:
                raise SettingError(name, "is listed twice; name each regularizer once")
        self._check_pairs()
        self._of_objective = objective.hyperparameters
        self.offered = closure(objective.offers().union(known, *(r.provides for r in self.members)))
        for regularizer in self.members:
            try:
                regularizer.bind(objective, self.offered)
            except SettingError as error:
                key = f"{regularizer.name}.{error.key}" if error.key else regularizer.name
                raise SettingError(key, error.message) from error
        if any(h.per_example for h in self.hyperparameters):
            for adding in (r for r in self.members if r.order == "replay"):
                message = "cannot be combined with hyperparameters per example: those that it adds have none"
                raise SettingError(adding.name, message)
        for regularizer in self.members:
            wanted = regularizer.needs - regularizer.provides
            mistake = last_layer_mistake(wanted, objective.inventory())
            if mistake is not None:
                raise SettingError(regularizer.name, mistake)
        kept = {
            layer: r.name for r in self.members if r.freezes for layers in r.layers.values() for layer in layers
        }
        for regularizer in self.members:
            if kept and regularizer.acts_on_weights:
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
        self._domains_weigh_the_same = any(r.risk == "domains" for r in self.members)
        self.terms: dict[str, Tensor] = {}
        """The weighted terms of the last loss, by regularizer, without gradient."""
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
        for mixer in (r for r in self.members if r.order == "mixing"):
            for reader in sorted(readers, key=lambda r: r.name):
                known = sorted(reader.needs & _OF_ONE_EXAMPLE)
                if known:
                    yield reader, mixer, f"it reads the {' and '.join(known)} of examples, which mixed ones lack"

    def _with(self, hook: str) -> list[Regularizer]:
        return [r for r in self.members if overrides(r, hook)]

    @property
    def hyperparameters(self) -> tuple[Hyperparameter, ...]:
        """Those of the objective, then all others in the order of the regularizers' names."""
        own = (h for r in sorted(self.members, key=lambda r: r.name) for h in r.bound.values())
        return (*self._of_objective, *own)

    @property
    def without_effect(self) -> frozenset[str]:
        """Full names of hyperparameters of parts in which nothing is trained, as ``parts: layer`` may give."""
        names: set[str] = set()
        for regularizer in (r for r in self.members if r.acts_on_weights and r.parts is not None):
            for label, layers in regularizer.layers.items():
                if not any(regularizer.weight_names(layer) for layer in layers):
                    bound = (h for h in regularizer.bound.values() if label in h.parts)
                    names.update(h.names[h.parts.index(label)] for h in bound)
        return frozenset(names)

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
            regularizer.renamed = names

    def begin(self, step: Step) -> None:
        """Starts a training step: inputs are augmented."""
        for regularizer in self._batch:
            inputs = step.inputs
            regularizer.batch(step)
            step.inputs = typed_as(step.inputs, inputs)  # hyperparameters are wider than half precision

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
        self.terms = {}
        for regularizer in self._penalty:
            value = regularizer.penalty(step)
            if "strength" in regularizer.bound:
                value = _weighted(regularizer, value, regularizer.value(step, "strength"))
            weighted = value.mean() if value.ndim else value
            self.terms[regularizer.name] = weighted.detach()
            total = weighted if total is None else total + weighted
        return total

    def losses(self, step: Step, losses: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
        for regularizer in self._losses:
            losses = regularizer.losses(step, losses)
        return balanced(losses, step.domains) if self._domains_weigh_the_same else losses

    def replace(self, step: Step) -> Float[Tensor, ""] | None:
        """Lets the one regularizer that trains by itself do so."""
        return self._replace[0].replace(step) if self._replace else None

    def gradients(self, step: Step, gradients: dict[str, Tensor]) -> None:
        for regularizer in self._gradients:
            regularizer.gradients(step, gradients)

    def parameters(self, step: Step) -> None:
        if self._parameters:
            with torch.no_grad():
                for regularizer in self._parameters:
                    regularizer.parameters(step)

    def boundary(self, step: Step) -> None:
        for regularizer in self._boundary:
            regularizer.boundary(step)

    def map_parameters(self, step: Step, when: Literal["before", "after"]) -> None:
        """Applies the parameter maps to the network's own parameters, in place."""
        if self._maps:
            with torch.no_grad():
                for regularizer in self._maps:
                    if regularizer.when == when:
                        self._map(regularizer, step)

    def _map(self, regularizer: Regularizer, step: Step) -> None:
        for name, values in _parts_of(regularizer, step):
            parameter = step.parameters[name]
            if parameter.requires_grad:  # not frozen by a reparameterisation
                parameter.copy_(regularizer.map_parameter(widened(parameter), step, values))
            if isinstance(step.parameters, WholeWeights):
                step.parameters.put_back(name)  # at once: all of them together may not fit

    def map_surrogate(self, step: Step) -> Float[Tensor, ""] | None:
        """A term whose gradient in the step's parameters is what the parameter maps do, in units of the loss.

        A map w -> M(w) applied once a step balances a loss gradient g where w - M(w) = -learning_rate * g, or
        learning_rate / (1 - momentum) * g under SGD with momentum. So it acts like a term with gradient
        (w - M(w)) * (1 - momentum) / learning_rate: a multiple of w for decoupled weight decay, the gradient of
        a squared distance for a projection. Response steps add this term, so that hyperparameters of
        parameter maps have a response although they are not in the loss.
        """
        total: Tensor | None = None
        for regularizer in self._maps if step.learning_rate else ():  # without one, no loss balances a map
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


def _parts_of(regularizer: Regularizer, step: Step) -> Iterable[tuple[str, dict[str, Any]]]:
    """Parameter names that a regularizer acts on, each with the hyperparameters of its part."""
    by_name = {name: regularizer.value_by_part(step, name) for name in regularizer.bound}
    for label, layers in regularizer.layers.items():
        values = {name: by_part[label] for name, by_part in by_name.items()}
        for layer in layers:
            first = 0
            for weight in regularizer.weight_names(layer):
                if regularizer.per_unit:
                    rows = slice(first, first + len(step.parameters[weight]))
                    yield weight, regularizer.of_rows(values, rows, step.parameters[weight])
                    first = rows.stop
                else:
                    yield weight, values

"""Decorators that register a stateless function as a regularizer and return the function unchanged.

The function stays what its card says: pure, without randomness of its own, usable alone. The decorator binds
its tensor arguments to what the training step provides and its keyword arguments to hyperparameters.

>>> from selftune.hyperparameters import Positive
>>> @penalty(family="supervision", reference=Reference("Doctest"), strength=Positive(), default=0.1,
...          needs={"logits": "logits"})
... def doctest_penalty(logits):
...     return logits.square().mean(dim=-1)
>>> regularizers["doctest_penalty"].kind
'penalty'
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
from torch import nn

from selftune.errors import SettingError
from selftune.hyperparameters import Domain, Hyperparameter, Integer, StartRule
from selftune.registries.aggregators import Aggregator, Fewest, Tolerated, aggregators
from selftune.registries.reference import Reference
from selftune.regularization.needs import from_signature
from selftune.regularization.regularizer import Order, Regularizer, regularizers
from selftune.regularization.step import Step, per_example
from selftune.shapes import Float, Tensor

if TYPE_CHECKING:
    from selftune.lower_level.objective import NetworkObjective

F = TypeVar("F", bound=Callable[..., Any])
Draw = Callable[[Step], Tensor]


def normal_like_inputs(step: Step) -> Tensor:
    """N(0, 1) noise of the inputs' shape."""
    return step.randn(*step.inputs.shape)


def uniform_like_inputs(step: Step) -> Tensor:
    """U[0, 1) draws of the inputs' shape."""
    return step.rand(*step.inputs.shape)


def permutation(step: Step) -> Tensor:
    """A random order of the batch."""
    return step.permutation()


def _register(
    base: type[Regularizer],
    function: Callable[..., Any],
    first: str | None = None,
    arguments: Mapping[str, str] | None = None,
    **attributes: Any,
) -> None:
    """Makes the class and registers it.

    Args:
        first: what the function's first argument receives, where it is always the same.
        arguments: what other arguments receive, by name; shapes in the signature say in which axes.
    """
    name = function.__name__
    of_layers = ("weight", "parameters")  # which are handed over layer by layer
    receives = {argument: name for argument, name in (arguments or {}).items() if name not in of_layers}
    if first is not None:
        receives[next(iter(inspect.signature(function).parameters))] = first
    needed = from_signature(function, receives)
    body = {
        "axes": {quantity.name: quantity.axes for quantity in needed.values()},
        "types": {quantity.name: quantity.type for quantity in needed.values()},
        "arguments": dict(arguments or {}),
        "name": name,
        "function": staticmethod(function),
        "__doc__": function.__doc__,
        "__module__": function.__module__,
        **attributes,
    }
    regularizers.register(name, type(name, (base,), body))


class _Penalty(Regularizer):
    kind = "penalty"
    function: Callable[..., Tensor]
    arguments: Mapping[str, str]
    draws: Mapping[str, Draw]
    each: str | None
    of_rows_alone: Callable[..., Tensor]

    def penalty(self, step: Step) -> Tensor:
        extra = {h.name: self.value(step, h.name) for h in self.hyperparameters if h.name != "strength"}
        if not self.per_layer:
            given = {argument: getattr(step, quantity) for argument, quantity in self.arguments.items()}
            drawn = {argument: draw(step) for argument, draw in self.draws.items()}
            return self.function(**given, **drawn, **extra)
        if self.per_unit:
            return self._of_units(step, extra)
        terms = [self._of_layers(step, layers, extra) for layers in self.layers.values()]
        return terms[0] if self.parts is None else torch.stack(terms)

    def _of_units(self, step: Step, values: Mapping[str, Any]) -> Float[Tensor, "units"]:
        """The penalty of every row of the weights, all rows of a weight at once."""
        terms, first = [], 0
        for weight in self.weights(step, self.layers):
            rows = slice(first, first + len(weight))
            own = {name: value[rows] if self.bound[name].parts else value for name, value in values.items()}
            terms.append(self.of_rows_alone(weight.flatten(1), **own))
            first = rows.stop
        return torch.cat(terms)

    def _of_layers(self, step: Step, layers: tuple[str, ...], extra: Mapping[str, Any]) -> Tensor:
        weights = self.weights(step, layers)
        if not weights:  # nothing is trained there
            return step.logits.new_zeros(())
        if self.each is None:
            return self.function(weights, **extra)
        return torch.stack([self.function(weight, **extra) for weight in weights]).sum()


def penalty(
    *,
    family: str,
    reference: Reference,
    strength: Domain,
    default: float,
    needs: Mapping[str, str],
    start: StartRule | None = None,
    hyperparameters: Sequence[Hyperparameter] = (),
    draws: Mapping[str, Draw] | None = None,
    layers: Callable[[nn.Module], bool] | None = None,
    waits: str | None = None,
    incompatible: Mapping[str, str] | None = None,
    risk: Literal["examples", "domains"] = "examples",
    requires: Iterable[str] = (),
    unitwise: Callable[..., Tensor] | None = None,
) -> Callable[[F], F]:
    """Registers a term of the training loss.

    Args:
        strength, default: domain and default of the factor in front of the term.
        start: the rule that says where the factor starts, where one is known.
        needs: function argument -> provided quantity. An argument bound to ``parameters`` receives a list
            of weight tensors, one bound to ``weight`` every weight in turn, and the terms are added up; the
            regularizer then acts per layer with a strength shared by the batch.
        hyperparameters: the function's further keyword arguments.
        draws: function argument -> random numbers of the step.
        layers: of a regularizer that acts per layer, those it acts on by default; None for all.
        waits: why it makes the host wait for a GPU.
        incompatible: names of regularizers it cannot be combined with, and why.
        requires: what must be provided beside, such as the mark of what an argument means.
        risk: what weighs the same in the mean loss beside the term, every example or every domain.
        unitwise: where the term of some weights is the sum of those of their rows, the function of a weight of two
            axes that gives those of all its rows; each row, a unit, can then have a strength of its own.
    """
    each = next((argument for argument, quantity in needs.items() if quantity == "weight"), None)
    on_weights = "parameters" in needs.values() or each is not None

    def decorate(function: F) -> F:
        _register(
            _Penalty,
            function,
            family=family,
            reference=reference,
            needs=frozenset("parameters" if name == "weight" else name for name in needs.values()).union(requires),
            arguments=needs,
            draws=dict(draws or {}),
            each=each,
            per_layer=on_weights,
            waits=waits,
            layer_filter=staticmethod(layers) if layers is not None else None,
            incompatible=dict(incompatible or {}),
            risk=risk,
            unitwise=unitwise is not None,
            of_rows_alone=None if unitwise is None else staticmethod(unitwise),
            hyperparameters=(
                Hyperparameter("strength", strength, default, shared=on_weights, start=start),
                *hyperparameters,
            ),
        )
        return function

    return decorate


class _Target(Regularizer):
    kind = "target"
    function: Callable[..., Tensor]
    arguments: Mapping[str, str]

    def targets(self, step: Step) -> None:
        values = {h.name: per_example(self.value(step, h.name), step.targets) for h in self.hyperparameters}
        given = {argument: getattr(step, quantity) for argument, quantity in self.arguments.items()}
        step.targets = self.function(step.targets, **given, **values)


def target(
    *,
    family: str,
    reference: Reference,
    hyperparameters: Sequence[Hyperparameter],
    needs: Mapping[str, str] | None = None,
    order: Order = "correction",
    requires: Iterable[str] = (),
) -> Callable[[F], F]:
    """Registers a change of the targets: ``function(targets, **needs, **hyperparameters) -> targets``.

    Args:
        requires: what must be provided beside: ``class_probabilities`` where only those make sense.
    """

    def decorate(function: F) -> F:
        _register(
            _Target,
            function,
            first="targets",
            family=family,
            reference=reference,
            needs=frozenset({"targets", *(needs or {}).values(), *requires}),
            arguments=needs,
            hyperparameters=tuple(hyperparameters),
            order=order,
        )
        return function

    return decorate


class _Augment(Regularizer):
    kind = "augment"
    function: Callable[..., Any]
    draws: Mapping[str, Draw]

    def batch(self, step: Step) -> None:
        values = {h.name: per_example(self.value(step, h.name), step.inputs) for h in self.hyperparameters}
        drawn = {argument: draw(step) for argument, draw in self.draws.items()}
        step.inputs = self.function(step.inputs, **drawn, **values)


def augment(
    *,
    family: str,
    reference: Reference,
    hyperparameters: Sequence[Hyperparameter],
    draws: Mapping[str, Draw],
    needs: Iterable[str] = (),
    order: Order = "noise",
) -> Callable[[F], F]:
    """Registers a change of real inputs: ``function(inputs, **draws, **hyperparameters) -> inputs``."""

    def decorate(function: F) -> F:
        _register(
            _Augment,
            function,
            first="inputs",
            family=family,
            reference=reference,
            needs=frozenset({"inputs", "real_inputs", *needs}),
            draws=dict(draws),
            hyperparameters=tuple(hyperparameters),
            order=order,
        )
        return function

    return decorate


class _Gradient(Regularizer):
    kind = "gradient"
    function: Callable[..., Any]
    joint: bool

    def gradients(self, step: Step, gradients: dict[str, Tensor]) -> None:
        values = {h.name: self.value(step, h.name) for h in self.hyperparameters}
        if self.joint:
            changed = self.function(list(gradients.values()), **values)
        else:
            changed = [self.function(g, step.parameters[name].detach(), **values) for name, g in gradients.items()]
        for gradient, new in zip(gradients.values(), changed, strict=True):
            gradient.copy_(new)


def gradient(
    *,
    family: str,
    reference: Reference,
    hyperparameters: Sequence[Hyperparameter] = (),
    joint: bool = False,
    order: Order = "projection",
) -> Callable[[F], F]:
    """Registers a change of the gradients after the backward pass.

    The function is ``function(gradient, parameter, **hyperparameters) -> gradient`` of every tensor, or,
    ``joint``, ``function(list of gradients, **hyperparameters) -> gradients``.
    """

    def decorate(function: F) -> F:
        _register(
            _Gradient,
            function,
            family=family,
            reference=reference,
            needs=frozenset({"gradients"}),
            hyperparameters=tuple(hyperparameters),
            joint=joint,
            order=order,
        )
        return function

    return decorate


def check_workers(workers: int, objective: NetworkObjective) -> None:
    """Refuses more parts of a batch than it has examples, and parts of one that the network cannot train on.

    Raises:
        SettingError: naming both numbers.
    """
    size = objective.optimization.batch_size
    if workers > size:
        raise SettingError("workers", f"is {workers}, but a batch has {size} examples; set it to {size} or less")
    mistake = objective.single_example_mistake() if size // workers == 1 else ""
    if mistake:
        raise SettingError(
            "workers",
            f"is {workers}, so that parts of a batch of {size} have one example; set it to {size // 2} or less, or"
            f" batch_size to {2 * workers} or more, because {mistake}",
        )


class _Aggregator(Regularizer):
    kind = "gradient"
    function: Callable[..., Tensor]
    optional: frozenset[str]

    def bind(self, objective: NetworkObjective, offered: frozenset[str] | None = None) -> None:
        super().bind(objective, offered)
        workers = self.bound["workers"].value
        check_workers(workers, objective)
        try:
            self._combined(torch.eye(workers))
        except ValueError as error:
            raise SettingError("workers", str(error)) from error

    def aggregate(self, step: Step, gradients: Tensor) -> Tensor:
        return self._combined(gradients)

    def _combined(self, gradients: Tensor) -> Tensor:
        values = {h.name: self.bound[h.name].value for h in self.hyperparameters if h.name != "workers"}
        return self.function(
            gradients, **{n: None if n in self.optional and not v else v for n, v in values.items()}
        )


def aggregator(
    *,
    family: str,
    reference: Reference,
    hyperparameters: Sequence[Hyperparameter] = (),
    workers: int = 4,
    fewest: Fewest = lambda faulty: 1,
    tolerates: Tolerated = lambda members, faulty: 0,
    coordinatewise: bool = False,
    unit: bool = False,
) -> Callable[[F], F]:
    """Registers what makes one gradient of several: as a regularizer, of those of ``workers`` equal parts of the
    batch; in ``selftune.registries.aggregators``, of those of trainers or of data-parallel workers.

    The function is ``function(gradients of shape (workers, size), **hyperparameters) -> (size,)``; its
    hyperparameters stay as they are. Where one has the default None in the signature, None is written as 0.

    Args:
        fewest, tolerates, coordinatewise, unit: see ``selftune.registries.aggregators.Aggregator``.
    """

    def decorate(function: F) -> F:
        parameters = inspect.signature(function).parameters
        optional = frozenset(h.name for h in hyperparameters if parameters[h.name].default is None)
        _register(
            _Aggregator,
            function,
            family=family,
            reference=reference,
            needs=frozenset({"shards"}),
            optional=optional,
            hyperparameters=(
                Hyperparameter(
                    "workers", Integer(1, 1024), workers, online=False, smooth=False, shared=True, swept=False
                ),
                *hyperparameters,
            ),
        )
        name, settings = function.__name__, tuple(hyperparameters)
        entry = Aggregator(
            name, family, reference, function, settings, optional, fewest, tolerates, coordinatewise, unit
        )
        aggregators.register(name, entry)
        return function

    return decorate


class _Proximal(Regularizer):
    kind = "proximal"
    function: Callable[..., Tensor]
    per_layer = True
    uses_learning_rate: bool

    def map_parameter(self, parameter: Tensor, step: Step, values: Mapping[str, Any]) -> Tensor:
        if self.uses_learning_rate:
            return self.function(parameter, learning_rate=step.learning_rate, **values)
        return self.function(parameter, **values)


def proximal(
    *,
    family: str,
    reference: Reference,
    hyperparameters: Sequence[Hyperparameter],
    when: Literal["before", "after"] = "after",
    uses_learning_rate: bool = False,
    layers: Callable[[nn.Module], bool] | None = None,
    unitwise: bool = False,
) -> Callable[[F], F]:
    """Registers a map of every layer's weight around the optimizer's step.

    The function is ``function(weight, [learning_rate=...,] **hyperparameters) -> weight``.

    Args:
        unitwise: whether it maps rows one by one, so that each can have values of its own; they come in a shape
            that multiplies the weight.
    """
    needs = {"parameters", "learning_rate"} if uses_learning_rate else {"parameters"}

    def decorate(function: F) -> F:
        _register(
            _Proximal,
            function,
            family=family,
            reference=reference,
            needs=frozenset(needs),
            hyperparameters=tuple(hyperparameters),
            when=when,
            uses_learning_rate=uses_learning_rate,
            unitwise=unitwise,
            layer_filter=staticmethod(layers) if layers is not None else None,
        )
        return function

    return decorate

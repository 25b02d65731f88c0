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

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import torch

from selftune.hyperparameters import Domain, Hyperparameter
from selftune.regularizer import Reference, Regularizer, Stage, Step, per_example, regularizers, weight_of
from selftune.shapes import Tensor

F = TypeVar("F", bound=Callable[..., Any])
Draw = Callable[[Step], Tensor]


def normal_like_inputs(step: Step) -> Tensor:
    """N(0, 1) noise of the inputs' shape."""
    return step.randn(*step.inputs.shape)


def uniform_like_inputs(step: Step) -> Tensor:
    """U[0, 1) draws of the inputs' shape."""
    return step.rand(*step.inputs.shape)


def _register(base: type[Regularizer], function: Callable[..., Any], **attributes: Any) -> None:
    name = function.__name__
    body = {
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

    def penalty(self, step: Step) -> Tensor:
        extra = {h.name: self.value(step, h.name) for h in self.hyperparameters if h.name != "strength"}
        if not self.per_layer:
            given = {argument: getattr(step, provided) for argument, provided in self.arguments.items()}
            return self.function(**given, **extra)
        terms = [
            self.function([step.parameters[weight_of(layer)] for layer in layers], **extra)
            for layers in self.layers.values()
        ]
        return terms[0] if self.parts is None else torch.stack(terms)


def penalty(
    *,
    family: str,
    reference: Reference,
    strength: Domain,
    default: float,
    needs: Mapping[str, str],
    hyperparameters: Sequence[Hyperparameter] = (),
) -> Callable[[F], F]:
    """Registers a term of the training loss.

    Args:
        strength, default: domain and default of the factor in front of the term.
        needs: function argument -> provided quantity. An argument bound to ``parameters`` receives a list
            of weight tensors, and the regularizer then acts per layer with a strength shared by the batch.
        hyperparameters: the function's further keyword arguments.
    """
    on_weights = "parameters" in needs.values()

    def decorate(function: F) -> F:
        _register(
            _Penalty,
            function,
            family=family,
            reference=reference,
            needs=frozenset(needs.values()),
            arguments=dict(needs),
            per_layer=on_weights,
            hyperparameters=(
                Hyperparameter("strength", strength, default, shared=on_weights),
                *hyperparameters,
            ),
        )
        return function

    return decorate


class _Target(Regularizer):
    kind = "target"
    function: Callable[..., Tensor]

    def targets(self, step: Step) -> None:
        values = {h.name: per_example(self.value(step, h.name), step.targets) for h in self.hyperparameters}
        step.targets = self.function(step.targets, **values)


def target(
    *,
    family: str,
    reference: Reference,
    hyperparameters: Sequence[Hyperparameter],
    stage: Stage = "correction",
) -> Callable[[F], F]:
    """Registers a change of the targets: ``function(targets, **hyperparameters) -> targets``."""

    def decorate(function: F) -> F:
        _register(
            _Target,
            function,
            family=family,
            reference=reference,
            needs=frozenset({"targets"}),
            hyperparameters=tuple(hyperparameters),
            stage=stage,
        )
        return function

    return decorate


class _Augment(Regularizer):
    kind = "augment"
    function: Callable[..., Tensor]
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
    stage: Stage = "noise",
) -> Callable[[F], F]:
    """Registers a change of the inputs: ``function(inputs, **draws, **hyperparameters) -> inputs``."""

    def decorate(function: F) -> F:
        _register(
            _Augment,
            function,
            family=family,
            reference=reference,
            needs=frozenset({"inputs"}),
            draws=dict(draws),
            hyperparameters=tuple(hyperparameters),
            stage=stage,
        )
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
) -> Callable[[F], F]:
    """Registers a map of every layer's weight around the optimizer's step.

    The function is ``function(weight, [learning_rate=...,] **hyperparameters) -> weight``.
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
        )
        return function

    return decorate

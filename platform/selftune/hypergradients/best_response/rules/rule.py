"""What a rule is, and the registry of rules.

A response moves every parameter tensor W of a network along its leading axis, row by row:

    W(h)[r] = W0[r] + sum over k of (V_k[r] . h) W_k[r]        k = 1..R, the rank

and every vector entry by entry, b(h)[r] = b0[r] + (C[r] . h) b_r[r]. That is the definition for all modules, so
that a tensor that several modules hold has one response. A rule adds only what a module type *computes* with such
weights when each example of a batch has its own h, without building weights per example. ``Linear``, for one, has

    output_i = (W0 x_i + b0) + g_i * (W_1 x_i) + c_i            g_i = V_1 h_i,  c_i = (C h_i) * b_1

A rule is a class with a ``forward``, registered for a type of module:

    @responds(nn.Bilinear)
    class Bilinear(Rule):
        def forward(self, module, response, first, second): ...

``forward`` gets the arguments of the module's own forward, and gives what that would give; it serves both kinds
of passes. In a *perturbed* pass (``response.linearized`` is false) tensors are plain and the result is
f(x_i; W(h_i)). In a *linearized* pass (``response.linearized`` is true) inputs may be dual numbers of torch's
forward mode, and so is the result: its value is f(x; W0), its tangent is the tangent that the inputs pass on
through the plain module, plus the derivative of f(x_i; W(h_i)) in h, in direction h_i, at h = 0. Parameters are
constants.

A rule need not tell the two apart where it is built from ``response.linear`` (and its like), which give sums or
dual numbers as the pass demands, and torch operations, which carry tangents on by themselves:

    @responds(nn.RNNCell)
    class RNNCell(Rule):
        def forward(self, module, response, input, hidden):
            below = response.linear(input, "weight_ih", "bias_ih")
            before = response.linear(hidden, "weight_hh", "bias_hh")
            return torch.tanh(below + before)

Where the output is affine in the parameters, compute the plain output and the change, and let
``response.add(output, change)`` put them together; linear.py and convolution.py are examples. See
``ModuleResponse`` for all that a rule can ask for. A rule stands in a file of its own in this folder, is imported
by ``__init__.py``, and is tested against its definition by tests/hypergradients/best_response/test_rules.py.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from torch import nn

from selftune.hypergradients.best_response.rules.module_response import ModuleResponse


class Rule(ABC):
    """How one type of module computes with weights that differ from example to example."""

    methods: ClassVar[tuple[str, ...]] = ("forward",)
    """Methods of the module that the rule stands for: a subclass that has its own does not go by the rule."""
    any_batch_axis: ClassVar[bool] = False
    """Whether examples may run along another axis of the input than the first: ``response.batch_axis``."""
    intercepted: ClassVar[bool] = True
    """Whether operations within ``forward`` are seen to in linearized passes as a network's are: where torch has
    no forward derivative, or a slow one. Without need of that, False saves some microseconds per operation."""
    serves_without_examples: ClassVar[bool] = False
    """Whether inputs may have no axis of examples at all, as positions of tokens have none: the output then gets
    one, in front or in place of a first axis of length 1."""
    looked_up: ClassVar[frozenset[str]] = frozenset()
    """Parameters of which a pass reads only some rows, such as a table: ``response.moves`` does not have them."""

    @property
    def name(self) -> str:
        """In reports: ``batch_norm`` of a class ``BatchNorm``."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(self).__name__).lower()

    def parameters(self, module: nn.Module) -> list[str]:
        """Names of the parameters that the rule computes with, of submodules also (``out_proj.weight``)."""
        return [name for name, parameter in module._parameters.items() if parameter is not None]

    def batch_axis(self, module: nn.Module) -> int | None:
        """The axis of the input that the module itself takes for that of the examples; None if it takes none."""
        return None

    def obstacle(self, module: nn.Module) -> str:
        """Why this module must stay plain (``it changes its weights in forward``); empty if it need not."""
        return ""

    @abstractmethod
    def forward(self, module: nn.Module, response: ModuleResponse, /, *args: Any, **kwargs: Any) -> Any:
        """The module's output with the weights of each example; see above."""


_RULES: dict[type[nn.Module] | str, Rule] = {}


def responds(*types: type[nn.Module] | str) -> Callable[[type[Rule]], type[Rule]]:
    """Registers a rule for types of modules, or for their full names, which need not be importable.

    >>> @responds("some_package.layers.Scale")
    ... class Scale(Rule):
    ...     def forward(self, module, response, input):
    ...         change = response.change("weight")
    ...         output = input * module.weight
    ...         return output if change is None else response.add(output, response.along(change, input) * input)
    """

    def register(rule: type[Rule]) -> type[Rule]:
        made = rule()
        for each in types:
            _RULES[each] = made
        return rule

    return register


def rule_of(module: nn.Module) -> Rule | None:
    """The rule of a module: that of its type, or of a base whose methods its type has not replaced."""
    own = type(module)
    for base in own.__mro__:
        rule = _RULES.get(base) or _RULES.get(f"{base.__module__}.{base.__qualname__}")
        if rule is not None:
            kept = all(getattr(own, name) is getattr(base, name) for name in rule.methods)
            return rule if kept else None
    return None


def is_subclass_with_own_forward(module: nn.Module) -> bool:
    """Whether a base has a rule that the module's type does not go by, because it replaces a method."""
    bases = type(module).__mro__
    return rule_of(module) is None and any(
        base in _RULES or f"{base.__module__}.{base.__qualname__}" in _RULES for base in bases
    )

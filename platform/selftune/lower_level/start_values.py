"""Start values that rules give: what is known before training, and the regularizers that start from it."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, TypeVar

import torch

from selftune.data.kinds import examples_of, is_held
from selftune.data.nested import size_of
from selftune.errors import SettingError
from selftune.hyperparameters import AUTO, Hyperparameter, Tune
from selftune.lower_level.losses import as_losses
from selftune.lower_level.objective import PROBED, NetworkObjective
from selftune.networks.inventory import undisturbed
from selftune.regularization.regularizer import Regularizer
from selftune.shapes import Float, Tensor

T = TypeVar("T")

_MOST_LOOKED_AT = 1024  # training examples of which sizes of inputs are taken


class Setup:
    """What rules know before training: how much data and network there is, and how it is trained.

    What is asked for is found when it is asked for. What nobody knows raises a ``ValueError``, one sentence that
    starts with what needs it being meant: "needs ...".

    Args:
        objective: what is trained.
        regularizers: those of the study, at whose values rules may look.
        steps: training steps of the run; None where nobody knows.
        optimizer: that of a loop of somebody's own; None for the one of ``objective.optimization``.
        examples: training examples of a loop of somebody's own, where they are known.

    >>> from torch import nn
    >>> from selftune.lower_level.classification import Classification
    >>> data = torch.randn(64, 4), torch.randint(3, (64,))
    >>> setup = Setup(Classification(lambda: nn.Linear(4, 3), data, data, data), steps=100)
    >>> setup.examples, setup.parameters, setup.updates, setup.examples_seen
    (64, 15, 100, 6400)
    """

    def __init__(
        self,
        objective: NetworkObjective,
        regularizers: Sequence[Regularizer] = (),
        steps: int | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        examples: int | None = None,
    ) -> None:
        self.objective = objective
        self.regularizers = regularizers
        self._steps = steps
        self._optimizer = optimizer
        self._examples = examples

    # Data ----------------------------------------------------------------------------------------------

    @cached_property
    def examples(self) -> int:
        """Number of training examples."""
        data = self.objective.data("train")
        known = self._examples if data is None else size_of(data) if is_held(data) else examples_of(data)
        return _there(known, "needs the number of training examples, which the data do not say")

    @cached_property
    def elements(self) -> float:
        """Loss values per example: 1 for a label per example, the tokens of a text."""
        batch = self.objective.example(PROBED)
        with torch.no_grad(), undisturbed():
            losses = as_losses(
                self.objective.judge(self.objective.outputs(self.objective.structure(), batch), batch)
            )
            counted = losses.values.numel() if losses.weights is None else float(losses.weights.sum())
        return counted / size_of(batch)

    @cached_property
    def inputs(self) -> Float[Tensor, "batch ..."]:
        """Inputs of the first training examples."""
        inputs = self.objective.inputs(self.objective.example(_MOST_LOOKED_AT, "train"))
        if not (isinstance(inputs, Tensor) and inputs.is_floating_point()):
            raise ValueError("needs inputs that are one tensor of real numbers")
        return inputs

    @property
    def mean_square_input(self) -> float:
        """Mean square of the entries of the inputs; 1 where data have mean zero and variance one."""
        return float(self.inputs.double().square().mean())

    @property
    def image_side(self) -> int:
        """The shorter side of images, in pixels."""
        if self.inputs.ndim < 3:
            raise ValueError("needs images")
        return min(self.inputs.shape[-2:])

    # Network -------------------------------------------------------------------------------------------

    @cached_property
    def parameters(self) -> int:
        """Number of trained parameters."""
        inventory = self.objective.inventory()
        return sum(size for name, size in inventory.sizes.items() if name not in inventory.frozen)

    @cached_property
    def gradient(self) -> float:
        """Root of the mean square, over all trained weights of two axes or more, of a first mini-batch's gradient.

        It is that of the plain loss of an untrained network.
        """
        batch = self.objective.example(self.objective.optimization.batch_size, "train")
        with torch.enable_grad(), undisturbed():
            network = self.objective.network()
            losses = as_losses(self.objective.judge(self.objective.outputs(network, batch), batch))
            weights = [p for p in network.parameters() if p.requires_grad and p.ndim > 1]
            try:
                gradients = torch.autograd.grad(losses.mean(), weights, allow_unused=True)
            except RuntimeError as error:  # torch's word for what has no gradient
                raise ValueError("needs a validation loss that has a gradient in the weights") from error
        squares = [gradient.double().square() for gradient in gradients if gradient is not None]
        total = sum(float(square.sum()) for square in squares)
        root = math.sqrt(total / max(1, sum(square.numel() for square in squares)))
        if not (root > 0 and math.isfinite(root)):
            raise ValueError("needs a first gradient that is finite and not zero")
        return root

    # Training ------------------------------------------------------------------------------------------

    @property
    def optimizer(self) -> str:
        """The optimizer's name, as study files have it: ``adam``, ``sgd``, ..."""
        given = self.objective.optimization.optimizer if self._optimizer is None else type(self._optimizer)
        return given if isinstance(given, str) else getattr(given, "__name__", "a function").lower()

    @property
    def learning_rate(self) -> float:
        """The largest one of the schedule."""
        if self._optimizer is not None:
            return float(self._optimizer.param_groups[0].get("initial_lr", self._optimizer.param_groups[0]["lr"]))
        optimization = self.objective.optimization
        if not isinstance(optimization.optimizer, str):
            raise ValueError("needs the learning rate, which a function that makes the optimizer does not say")
        return optimization.learning_rate

    @property
    def updates(self) -> int:
        """Steps of the optimizer in the whole run."""
        steps = _there(self._steps, "needs to know how long training is; give the budget in training steps")
        return max(1, steps // self.objective.optimization.accumulate)

    @property
    def examples_seen(self) -> int:
        """Training examples that the whole run sees, each time they are seen."""
        if self._optimizer is not None:
            raise ValueError("needs the batch size, which a training loop of your own does not say")
        optimization = self.objective.optimization
        return self.updates * optimization.accumulate * optimization.batch_size

    # The others ----------------------------------------------------------------------------------------

    def start_of(self, regularizer: str, name: str) -> float | None:
        """The number at which another regularizer of the study starts, the mean over its parts.

        None where it is not in the study, or starts by a rule itself.
        """
        for other in self.regularizers:
            if other.name != regularizer:
                continue
            declared = next(h for h in other.hyperparameters if h.name == name)
            value = other.settings.get(name, declared.value)
            start = value.start if isinstance(value, Tune) else value
            start = declared.value if start is None else start
            if isinstance(start, str):
                return None
            return float(torch.tensor(list(start.values()) if isinstance(start, dict) else start).double().mean())
        return None


def with_starts(
    regularizers: Sequence[Regularizer],
    objective: NetworkObjective,
    steps: int | None,
    optimizer: torch.optim.Optimizer | None = None,
    examples: int | None = None,
) -> tuple[Regularizer, ...]:
    """The regularizers, with numbers in the place of ``auto``; as they are where there is none.

    Args:
        steps, optimizer, examples: as of ``Setup``.

    Raises:
        SettingError: naming the hyperparameter, if no rule is known for it, or its rule does not apply.

    >>> from torch import nn
    >>> from selftune.lower_level.classification import Classification
    >>> from selftune.regularization.regularizer import built_regularizers
    >>> data = torch.randn(64, 4), torch.randint(3, (64,))
    >>> objective = Classification(lambda: nn.Linear(4, 3), data, data, data)
    >>> smoothing = built_regularizers({"label_smoothing": {"epsilon": Tune("auto")}})
    >>> with_starts(smoothing, objective, steps=100)[0].settings
    {'epsilon': Tune(start=0.1, domain=None)}
    """
    if not any(map(starts_by_rule, regularizers)):
        return tuple(regularizers)
    setup = Setup(objective, regularizers, steps, optimizer, examples)
    return tuple(_started(regularizer, setup) for regularizer in regularizers)


def _started(regularizer: Regularizer, setup: Setup) -> Regularizer:
    declared = {h.name: h for h in regularizer.hyperparameters}
    automatic = {name: value for name, value in regularizer.settings.items() if is_auto(declared[name], value)}
    if not automatic:
        return regularizer
    started = copy.copy(regularizer)
    started.settings = dict(regularizer.settings)
    for name, value in automatic.items():
        key = f"{regularizer.name}.{name}" + (".start" if isinstance(value, Tune) else "")
        try:
            start = rule_value(declared[name], value, setup)
        except ValueError as error:
            raise SettingError(key, f"{error}; give {regularizer.name}.{name} a number") from error
        started.settings[name] = Tune(start, value.domain) if isinstance(value, Tune) else start
    return started


def starts_by_rule(regularizer: Regularizer) -> bool:
    """Whether something of it starts at ``auto``."""
    return any(is_auto(h, regularizer.settings.get(h.name)) for h in regularizer.hyperparameters)


def is_auto(declared: Hyperparameter, value: Any) -> bool:
    """Whether a rule gives the value."""
    given = value.start if isinstance(value, Tune) else value
    return isinstance(given, str) and given == AUTO and not declared.domain.contains(AUTO)


def rule_value(declared: Hyperparameter, value: Any, setup: Setup) -> float:
    """What a hyperparameter's rule gives.

    Args:
        value: what the study says of it: ``Tune`` where it is tuned, perhaps in a domain of its own.

    Raises:
        ValueError: one sentence, if there is no rule, it does not apply, or what it gives is not allowed.
    """
    if declared.start is None:
        raise ValueError(f"no rule says where {declared.name} starts")
    start = declared.start.value(setup)
    tuned = isinstance(value, Tune)
    domain = value.domain if tuned and value.domain is not None else declared.domain
    if not (domain.is_interior(start) if tuned else domain.contains(start)):
        raise ValueError(f"the rule gives {start:g}, but it must be {domain.describe()}")
    return start


def _there(value: T | None, message: str) -> T:
    if value is None:
        raise ValueError(message)
    return value

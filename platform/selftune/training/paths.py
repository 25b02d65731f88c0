"""Whether tuned hyperparameters can change anything that is trained, judged by the graph and not by values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from selftune.errors import SettingError
from selftune.networks.modes import constant_buffers
from selftune.regularization.composition import Regularizers
from selftune.regularization.regularizer import Regularizer, is_in_the_loss, overrides
from selftune.regularization.step import Step
from selftune.shapes import Tensor
from selftune.training.lower_level import LowerLevel

_LATE = 2**20  # a training step at which whatever is annealed or delayed is due


def pathless(lower: LowerLevel, differentiated: bool) -> Iterator[SettingError]:
    """Tuned hyperparameters that cannot change anything that is trained.

    They can where a path leads to a trained weight: for methods that differentiate the training loss, one from the
    hyperparameter, in the graph of the loss's gradients in the weights; for others, which compare values, one from
    the penalty that it is of. What is zero now has its paths all the same. What comes into play later is judged
    where it is due: at the last step, or after it. What is not judged: what acts around the optimizer's step, and
    what belongs to a regularizer that remembers what only training brings.

    Args:
        differentiated: whether the method differentiates the training loss in the hyperparameters.

    Yields:
        SettingError: with the hyperparameter's name as key.
    """
    members = {r.name: r for r in lower.regularizers.members}
    waiting: dict[str, Regularizer | None] = {}
    for hyperparameter in lower.space.tuned:
        owner = members.get(hyperparameter.name.partition(".")[0])
        if owner is None:  # the objective
            judged = differentiated
        else:
            judged = _is_judged(owner) and (differentiated or _is_a_penalty(owner))
        if judged:
            waiting[hyperparameter.name] = owner
    look = _moving if differentiated else _of_weights
    for number in dict.fromkeys((0, max(0, (lower.steps or 1) - 1), _LATE)):
        if waiting:
            found = look(lower, number, waiting)
            waiting = {name: owner for name, owner in waiting.items() if name not in found}
    for name in waiting:
        yield SettingError(
            name,
            "changes nothing that is trained: no path leads from it through the training loss to a trained weight;"
            " leave it out, give it a fixed value, or train what it acts on",
        )


def _is_judged(regularizer: Regularizer) -> bool:
    remembers = overrides(regularizer, "boundary") or overrides(regularizer, "state_dict")
    return is_in_the_loss(regularizer) and not remembers


def _is_a_penalty(regularizer: Regularizer) -> bool:
    """Whether a regularizer is in the loss as a penalty only."""
    others = ("extend", "attach", "batch", "targets", "losses", "map_parameter")
    return overrides(regularizer, "penalty") and not any(overrides(regularizer, hook) for hook in others)


def _moving(lower: LowerLevel, number: int, waiting: Mapping[str, Regularizer | None]) -> set[str]:
    """Those of the hyperparameters on which the gradients of a training step depend."""
    values = dict(lower.space.values(lower.space.start.to(lower.device)))
    leaves = {name: values[name].detach().clone().requires_grad_() for name in waiting}
    weights = [parameter for parameter in lower.parameters.values() if parameter.requires_grad]
    with _unseen(lower):
        _, loss = _taken(lower, number, values | leaves)
        gradients = torch.autograd.grad(loss, weights, create_graph=True, allow_unused=True)
    return _found_behind(gradients, {id(leaf): name for name, leaf in leaves.items()})


def _of_weights(lower: LowerLevel, number: int, waiting: Mapping[str, Regularizer | None]) -> set[str]:
    """Those of the hyperparameters whose penalty is a function of trained weights in a training step."""
    weights = {id(parameter): "" for parameter in lower.parameters.values() if parameter.requires_grad}
    with _unseen(lower):
        step, _ = _taken(lower, number, lower.space.values(lower.space.start.to(lower.device)))
        owners = {name: owner for name, owner in waiting.items() if owner is not None}
        return {name for name, owner in owners.items() if _found_behind((owner.penalty(step),), weights)}


@contextmanager
def _unseen(lower: LowerLevel) -> Iterator[None]:
    """A step within leaves no trace, and attention takes the one kernel that can be differentiated twice."""
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), constant_buffers(lower.network):
        yield


def _taken(lower: LowerLevel, number: int, values: Mapping[str, Any]) -> tuple[Step, Tensor]:
    step = lower.begin(number, lower.batches.at(0), values, "hypergradient", perturbed=True)
    return step, lower.loss(step, lower.network, lower.parameters)


def _found_behind(tensors: Sequence[Tensor | None], names: Mapping[int, str]) -> set[str]:
    """Names of the leaves, given by identity, that tensors depend on; all of them where the graph cannot tell."""
    waiting = [tensor.grad_fn for tensor in tensors if tensor is not None and tensor.grad_fn is not None]
    seen, found = set(waiting), set[str]()
    while waiting:
        node = waiting.pop()
        if "Error" in node.name() or "NotImplemented" in node.name():  # an operation without a second derivative
            return set(names.values())
        name = names.get(id(getattr(node, "variable", None)))
        if name is not None:
            found.add(name)
        following = {other for other, _ in node.next_functions if other is not None} - seen
        seen |= following
        waiting += following
    return found


def responseless(regularizers: Regularizers, responding: frozenset[str]) -> Iterator[SettingError]:
    """Tuned hyperparameters of weights none of which responds to hyperparameters: their hypergradient is noise.

    Args:
        responding: names of the parameters that have gates.

    Yields:
        SettingError: with the hyperparameter's name, and its part, as key.
    """
    for regularizer in (r for r in regularizers.members if r.acts_on_weights):
        for hyperparameter in (h for h in regularizer.bound.values() if h.tuned):
            everywhere = tuple(layer for layers in regularizer.layers.values() for layer in layers)
            by_part = regularizer.layers if hyperparameter.parts else {"": everywhere}
            for part, layers in by_part.items():
                acted_on = {weight for layer in layers for weight in regularizer.weight_names(layer)}
                if acted_on and not acted_on & responding:
                    name = f"{hyperparameter.name}[{part}]" if hyperparameter.parts else hyperparameter.name
                    weights = " and ".join(sorted(acted_on))
                    yield SettingError(
                        name,
                        f"acts on {weights} alone, to which self_tuning fits no response, so"
                        " that it would drift; put layers that respond into its part, give it a fixed value, or"
                        " tune it by implicit",
                    )

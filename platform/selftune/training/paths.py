"""Whether tuned hyperparameters can change anything that is trained, judged by the graph and not by values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from selftune.composition import Regularizers
from selftune.errors import SettingError
from selftune.hyperparameters import Hyperparameter
from selftune.modes import constant_buffers
from selftune.regularizer import is_in_the_loss, overrides
from selftune.shapes import Tensor
from selftune.training.lower_level import LowerLevel

_LATE = 2**20  # a training step at which whatever is annealed or delayed is due


def pathless(lower: LowerLevel) -> Iterator[SettingError]:
    """Tuned hyperparameters from which no path leads through the training loss to a trained weight.

    A path is one of the graph of the loss's gradients in the trained weights, so that a term that is zero now has
    one all the same. What comes into play later is judged where it is due: at the last step, or after it. What is
    not judged: hyperparameters in which the loss is not differentiable, which act around the optimizer's step, or
    whose regularizer remembers what only training brings.

    Yields:
        SettingError: with the hyperparameter's name as key.
    """
    members = {r.name: r for r in lower.regularizers.members}
    judged = {}
    for hyperparameter in lower.space.tuned:
        owner = members[hyperparameter.name.partition(".")[0]]
        remembers = overrides(owner, "boundary") or overrides(owner, "state_dict")
        if hyperparameter.smooth and is_in_the_loss(owner) and not remembers:
            judged[hyperparameter.name] = hyperparameter
    for number in dict.fromkeys((0, max(0, (lower.steps or 1) - 1), _LATE)):
        if judged:
            found = _moving(lower, number, judged)
            judged = {name: h for name, h in judged.items() if name not in found}
    for name in judged:
        yield SettingError(
            name,
            "changes nothing that is trained: no path leads from it through the training loss to a trained weight;"
            " leave it out, give it a fixed value, or train what it acts on",
        )


def _moving(lower: LowerLevel, number: int, judged: Mapping[str, Hyperparameter]) -> set[str]:
    """Those of the hyperparameters on which the gradients of a training step depend."""
    index = lower.batches.index(number)
    assert index is not None
    values = dict(lower.space.values(lower.space.start.to(lower.device)))
    leaves = {name: values[name].detach().clone().requires_grad_() for name in judged}
    weights = [parameter for parameter in lower.parameters.values() if parameter.requires_grad]
    # the other kernels of attention have no second derivatives
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), constant_buffers(lower.network):
        step = lower.begin(number, index, values | leaves, "hypergradient", perturbed=True)
        loss = lower.loss(step, lower.network, lower.parameters)
        gradients = torch.autograd.grad(loss, weights, create_graph=True, allow_unused=True)
    names = {id(leaf): name for name, leaf in leaves.items()}
    return _found_behind(gradients, names)


def _found_behind(tensors: tuple[Tensor | None, ...], names: Mapping[int, str]) -> set[str]:
    """Names of the leaves that some tensors depend on; all of them where the graph cannot tell."""
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

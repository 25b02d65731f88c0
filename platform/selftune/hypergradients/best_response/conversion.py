"""Turning an unmodified network into a best-response network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import nn

from selftune.hypergradients.best_response.examples_apart import keeps_examples_apart
from selftune.hypergradients.best_response.mixing import Mixing
from selftune.hypergradients.best_response.plan import Plan, WithoutRule
from selftune.hypergradients.best_response.response import BestResponse, has_response
from selftune.networks.inventory import Feed, take_inventory
from selftune.shapes import Tensor


def convert(
    model: nn.Module,
    *,
    hyperparameters: int,
    example: Tensor | tuple[Any, ...] | Feed,
    generator: torch.Generator,
    rank: int | Literal["auto"] = "auto",
    output_layer: bool = True,
    without_rule: WithoutRule = "auto",
    mixing: Mixing | None = None,
) -> BestResponse:
    """Gives the layers of ``model`` gates that depend on n hyperparameters, by a rule per type of module.

    Until ``linearized`` or ``perturbed`` is called the network runs its original code, bit for bit, with the
    same ``state_dict`` keys. Layers that are not trained, whose own forward is not what uses the weight, or whose
    input does not have the batch as its leading axis, are left plain; ``response.report`` tells which and why.

    Args:
        model: the network, on its device and in its type. Convert before ``torch.compile``.
        hyperparameters: n, the number of columns of h.
        example: a batch of inputs with at least two rows, or the tuple of arguments of ``model``, or what runs
            it on at least two examples; the network sees it in evaluation mode.
        generator: draws the response directions W_r, b_r, each row kaiming-uniform; the global random stream is
            left alone. V = C = 0: the response starts at zero.
        rank: directions per output row, in 1..n. The published 1 lets every row move along one direction only.
            Where a layer has fewer rows than there are hyperparameters that cannot represent the response: a
            single output with two penalties has a Jacobian of rank two, and its best fit of rank one gave one
            of the two hypergradient components the wrong sign. "auto" takes the least rank with at least as
            many directions in the layer as hyperparameters, min(n, ceil(n / rows)), which is 1 in wide layers.
        output_layer: whether the layer that is called last gets gates.
        without_rule: what happens with tensors that no rule covers: bare parameters, parametrised layers, modules
            of types without a rule, layers whose input does not show the examples. "weight_space": the tensor
            itself becomes W(h) of one h for the whole batch, and the module's own code computes with it; passes
            then take one row of h (``response.shared_draw``), because a response that is fitted with one draw for
            some tensors and one per example for others would be biased. "plain": they do not respond. "auto":
            in weight space if they hold a tenth of the trained parameters or more, else plain.
        mixing: for thousands of hyperparameters: gates see its coordinates of them and the rows' own. None gives
            every row a gate for each hyperparameter, which takes memory and time for rows times n.

    Returns:
        The response set, with the passes that use it.

    Raises:
        ValueError: if n or rank is out of range, the example is too small, nothing can be converted, or it has
            been already.

    >>> model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))
    >>> response = convert(model, hyperparameters=2, example=torch.randn(8, 3), generator=torch.Generator())
    >>> print(response.report)
    layer  type         path               reason
    0      Linear       linear rank 1
    1      BatchNorm1d  batch_norm rank 1
    3      Linear       linear rank 2
    """
    if hyperparameters < 1:
        raise ValueError(f"hyperparameters must be at least 1, got {hyperparameters}")
    if mixing is not None and mixing.hyperparameters != hyperparameters:
        raise ValueError(f"mixing is of {mixing.hyperparameters} hyperparameters, but there are {hyperparameters}")
    if rank != "auto" and not 1 <= rank <= hyperparameters:
        raise ValueError(f"rank must be 'auto' or in 1..{hyperparameters} (the hyperparameters), got {rank}")
    if has_response(model):
        raise ValueError(f"{type(model).__name__} was converted before: it has gates already; remove() them")
    feed = _feed(example)
    inventory = take_inventory(model, feed)

    def planned(of_all: Mapping[str, str]) -> Plan:
        independent = hyperparameters if mixing is None else mixing.width
        return Plan(model, inventory, independent, rank, output_layer, without_rule, of_all)

    plan = planned({})
    shared = [name for name, module in plan.modules.items() if module.without_examples]
    if shared:
        drawn = torch.Generator(generator.device).set_state(generator.get_state())
        probe = BestResponse(model, plan.modules, plan.tensors, hyperparameters, drawn, plan.report, mixing)
        apart = probe.shared_draw or keeps_examples_apart(model, probe, feed)
        probe.remove()
        if not apart:
            plan = planned(dict.fromkeys(shared, "all examples share its input, and what is done with its output"))
    if not plan.tensors:
        reasons = "; ".join(f"{entry.name or '(the model)'}: {entry.reason}" for entry in plan.report)
        raise ValueError(f"no layer of {type(model).__name__} can be given gates ({reasons or 'no parameters'})")
    return BestResponse(model, plan.modules, plan.tensors, hyperparameters, generator, plan.report, mixing)


def _feed(example: Tensor | tuple[Any, ...] | Feed) -> Feed:
    if isinstance(example, Feed):
        return example
    arguments = example if isinstance(example, tuple) else (example,)
    tensors = [a for a in arguments if isinstance(a, Tensor) and a.dim() > 0]
    if not tensors or len(tensors[0]) < 2:
        raise ValueError("example needs a tensor with at least two rows, so that the batch axis can be found")
    batch = len(tensors[0])

    def feed(model: nn.Module, size: int) -> object:
        cut = (a[:size] if isinstance(a, Tensor) and a.dim() and len(a) == batch else a for a in arguments)
        return model(*cut)

    return Feed(feed, batch)

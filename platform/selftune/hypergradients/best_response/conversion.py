"""Turning an unmodified network into a best-response network."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.utils.parametrize as parametrize
from torch import nn

from selftune.hypergradients.best_response.layers import GATED
from selftune.hypergradients.best_response.report import LayerReport
from selftune.hypergradients.best_response.response import BestResponse
from selftune.networks.inventory import Feed, Inventory, take_inventory
from selftune.networks.network_state import has_hooked_weight
from selftune.shapes import Tensor


def convert(
    model: nn.Module,
    *,
    hyperparameters: int,
    example: Tensor | tuple[Any, ...] | Feed,
    generator: torch.Generator,
    rank: int | Literal["auto"] = "auto",
    output_layer: bool = True,
) -> BestResponse:
    """Gives the Linear, Conv1d and Conv2d layers of ``model`` gates that depend on n hyperparameters, in place.

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

    Returns:
        The response set, with the passes that use it.

    Raises:
        ValueError: if n or rank is out of range, the example is too small, or nothing can be converted.

    >>> model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))
    >>> response = convert(model, hyperparameters=2, example=torch.randn(8, 3), generator=torch.Generator())
    >>> print(response.report)
    layer  type         path          reason
    0      Linear       gated rank 1
    1      BatchNorm1d  plain         no gates for this type; trained as elementary
    3      Linear       gated rank 2
    """
    if hyperparameters < 1:
        raise ValueError(f"hyperparameters must be at least 1, got {hyperparameters}")
    if rank != "auto" and not 1 <= rank <= hyperparameters:
        raise ValueError(f"rank must be 'auto' or in 1..{hyperparameters} (the hyperparameters), got {rank}")
    modules = dict(model.named_modules())
    inventory = _inventory(model, example)
    compiled = tuple(f"{name}." if name else "" for name, m in modules.items() if hasattr(m, "_orig_mod"))
    called = [layer.name for layer in inventory.layers if layer.calls and type(modules[layer.name]) in GATED]

    report: list[LayerReport] = []
    layers: dict[str, nn.Module] = {}
    ranks: dict[str, int] = {}
    for name, module in modules.items():
        if all(parameter is None for parameter in module._parameters.values()) and not _is_parametrized(module):
            continue
        reason = _obstacle(name, module, inventory)
        if name.startswith(compiled) and compiled:
            reason = "inside a compiled module; convert before torch.compile"
        if not reason and not output_layer and name == called[-1]:
            reason = "the output layer, which output_layer=False leaves plain"
        if not reason:
            rows = len(module.weight)
            layers[name] = module
            ranks[name] = min(hyperparameters, -(-hyperparameters // rows)) if rank == "auto" else rank
        report.append(LayerReport(name, type(module).__name__, ranks.get(name), reason))
    if not layers:
        reasons = "; ".join(f"{entry.name or '(the model)'}: {entry.reason}" for entry in report)
        raise ValueError(f"no layer of {type(model).__name__} can be given gates ({reasons or 'no parameters'})")
    layers = {name: layers[name] for name in called if name in layers}
    ranks = {name: ranks[name] for name in layers}
    return BestResponse(model, layers, ranks, hyperparameters, generator, tuple(report))


def _inventory(model: nn.Module, example: Tensor | tuple[Any, ...] | Feed) -> Inventory:
    if isinstance(example, Feed):
        return take_inventory(model, example)
    arguments = example if isinstance(example, tuple) else (example,)
    tensors = [a for a in arguments if isinstance(a, Tensor) and a.dim() > 0]
    if not tensors or len(tensors[0]) < 2:
        raise ValueError("example needs a tensor with at least two rows, so that the batch axis can be found")
    batch = len(tensors[0])

    def feed(model: nn.Module, size: int) -> object:
        cut = (a[:size] if isinstance(a, Tensor) and a.dim() and len(a) == batch else a for a in arguments)
        return model(*cut)

    return take_inventory(model, Feed(feed, batch))


def _obstacle(name: str, module: nn.Module, inventory: Inventory) -> str:
    """Why a module must stay plain; empty if it need not."""
    if _is_parametrized(module):
        return "its weight is computed by torch.nn.utils.parametrize"
    if has_hooked_weight(module):
        return "its weight is computed by a hook of torch.nn.utils"
    if type(module) in GATED.values():
        return "it has gates already"
    if type(module) not in GATED:
        if isinstance(module, tuple(GATED)):
            return "a subclass, whose forward may not be that of its base"
        return "no gates for this type; trained as elementary"
    if not any(parameter.requires_grad for parameter in module.parameters(recurse=False)):
        return "it is not trained"
    if "forward" in module.__dict__:
        return "its forward was replaced"
    tie = _tie(name, inventory)
    if tie:
        return tie
    layer = inventory[name]
    if not layer.calls:
        return "its forward is never called"
    if layer.functional:
        return "its weight is also used without its forward"
    if layer.batch_axis != 0:
        return "the leading axis of its input is not the batch"
    return ""


def _is_parametrized(module: nn.Module) -> bool:
    return parametrize.is_parametrized(module)


def _tie(name: str, inventory: Inventory) -> str:
    """Which of a module's parameters other modules hold too, and under which names; empty if none."""
    prefix = f"{name}." if name else ""
    for group in inventory.tied:
        own = [place for place in group if place.rpartition(".")[0] == name]
        if own and len(own) < len(group):
            others = [place for place in group if place not in own]
            return f"its {own[0].removeprefix(prefix)} is tied to {', '.join(others)}"
    return ""

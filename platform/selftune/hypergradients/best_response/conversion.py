"""Turning an unmodified network into a best-response network."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.utils.parametrize as parametrize
from torch import nn

from selftune.hypergradients.best_response.layers import GATED
from selftune.hypergradients.best_response.probe import Probe, probe
from selftune.hypergradients.best_response.report import LayerReport
from selftune.hypergradients.best_response.response import BestResponse
from selftune.shapes import Tensor


def convert(
    model: nn.Module,
    *,
    hyperparameters: int,
    example: Tensor | tuple[Any, ...],
    generator: torch.Generator,
    rank: int | Literal["auto"] = "auto",
    output_layer: bool = True,
) -> BestResponse:
    """Gives the Linear, Conv1d and Conv2d layers of ``model`` gates that depend on n hyperparameters, in place.

    Until ``linearized`` or ``perturbed`` is called the network runs its original code, bit for bit, with the
    same ``state_dict`` keys. Layers whose own forward is not what uses the weight, or whose input does not have
    the batch as its leading axis, are left plain; ``response.report`` tells which and why.

    Args:
        model: the network, on its device and in its type. Convert before ``torch.compile``.
        hyperparameters: n, the number of columns of h.
        example: a batch of inputs with at least two rows, or the tuple of arguments of ``model``; it is run
            through the network in evaluation mode.
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
    seen = probe(model, [m for m in modules.values() if type(m) in GATED], example)
    ties = _ties(modules)
    compiled = tuple(f"{name}." if name else "" for name, m in modules.items() if hasattr(m, "_orig_mod"))
    called = [m for m in seen.calls if type(m) in GATED]

    report: list[LayerReport] = []
    layers: dict[str, nn.Module] = {}
    ranks: dict[str, int] = {}
    for name, module in modules.items():
        if all(parameter is None for parameter in module._parameters.values()) and not _is_parametrized(module):
            continue
        reason = _obstacle(module, seen, ties)
        if name.startswith(compiled) and compiled:
            reason = "inside a compiled module; convert before torch.compile"
        if not reason and not output_layer and module is called[-1]:
            reason = "the output layer, which output_layer=False leaves plain"
        if not reason:
            rows = len(module.weight)
            layers[name] = module
            ranks[name] = min(hyperparameters, -(-hyperparameters // rows)) if rank == "auto" else rank
        report.append(LayerReport(name, type(module).__name__, ranks.get(name), reason))
    if not layers:
        reasons = "; ".join(f"{entry.name or '(the model)'}: {entry.reason}" for entry in report)
        raise ValueError(f"no layer of {type(model).__name__} can be given gates ({reasons or 'no parameters'})")
    return BestResponse(model, layers, ranks, hyperparameters, generator, tuple(report))


def _obstacle(module: nn.Module, seen: Probe, ties: dict[nn.Module, str]) -> str:
    """Why ``module`` must stay plain; empty if it need not."""
    if _is_parametrized(module):
        return "its weight is computed by torch.nn.utils.parametrize"
    if type(module) in GATED.values():
        return "it has gates already"
    if type(module) not in GATED:
        if isinstance(module, tuple(GATED)):
            return "a subclass, whose forward may not be that of its base"
        return "no gates for this type; trained as elementary"
    if "forward" in module.__dict__:
        return "its forward was replaced"
    if module in ties:
        return ties[module]
    if module not in seen.batch_leads:
        return "its forward is never called"
    if not seen.batch_leads[module]:
        return "the leading axis of its input is not the batch"
    return ""


def _is_parametrized(module: nn.Module) -> bool:
    return parametrize.is_parametrized(module)


def _ties(modules: dict[str, nn.Module]) -> dict[nn.Module, str]:
    """Modules one of whose parameters another module holds too."""
    holders: dict[int, list[tuple[nn.Module, str]]] = {}
    for name, module in modules.items():
        for own, parameter in module._parameters.items():
            if parameter is not None:
                holders.setdefault(id(parameter), []).append((module, f"{name}.{own}" if name else own))
    result: dict[nn.Module, str] = {}
    for places in holders.values():
        for module, place in places:
            others = [other for holder, other in places if holder is not module]
            if others:
                result[module] = f"its {place.rpartition('.')[2]} is tied to {', '.join(others)}"
    return result

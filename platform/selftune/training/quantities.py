"""How the engine computes what regularizers need beside the batch and the outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.func import grad, vmap

from selftune.lower_level.losses import as_losses
from selftune.networks.modes import constant_buffers
from selftune.networks.precision import WideTensors, widened
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor

if TYPE_CHECKING:
    from selftune.training.lower_level import LowerLevel

_SAMPLES = 32  # whose gradients are taken for diagnostics: more makes their operators too large

COPIES = ("reference", "old")
"""Remembered weights: as they were at the start, and at the end of the last stage."""


def providers(lower: LowerLevel, names: Iterable[str]) -> dict[str, Callable[[Step], Any]]:
    """A function of the step for every name that the objective or the engine computes."""
    engine: dict[str, Callable[[LowerLevel, Step], Any]] = {
        "losses": lambda lower, step: as_losses(lower.objective.losses(step)).of_examples(step.size)[0],
        "kernels": _kernels,
        "head": _head,
        "head_weight": lambda lower, step: step.head[0],
        "head_bias": lambda lower, step: step.head[1],
        "domain_gradients": _domain_gradients,
        "example_gradients": _example_gradients,
        "sample_gradients": _sample_gradients,
        "gradients": lambda lower, _: {n: p.grad for n, p in lower.parameters.items() if p.grad is not None},
        "recompute": lambda lower, step: lower.recompute(step),
        "epoch": lambda lower, step: lower.batches.epoch(step.number),
        "epochs": lambda lower, step: lower.batches.epochs(step.number, lower.steps or step.number + 1),
        "stage": lambda lower, step: lower.batches.stage(step.number),
        "progress": lambda lower, step: step.number / (lower.steps or 1),
        "old_classes": _old_classes,
        "initial_parameters": lambda lower, _: lower.copies["reference"],
    }
    for copy in COPIES:
        engine[f"{copy}_parameters"] = partial(_parameters_of, copy)
        for what in ("logits", "features", "layer_features"):
            engine[f"{copy}_{what}"] = partial(_copied, copy, what)
    own = lower.regularizers.quantities
    return {
        name: own[name]
        if name in own
        else partial(engine[name], lower)
        if name in engine
        else _of_objective(lower, name)
        for name in names
        if name in own or name in engine or name in lower.objective.provides
    }


def _of_objective(lower: LowerLevel, name: str) -> Callable[[Step], Any]:
    def compute(step: Step) -> Any:
        given = isinstance(step.batch, Mapping) and name in step.batch
        return widened(step.batch[name] if given else lower.objective.quantity(name, step))

    return compute


def _parameters_of(copy: str, lower: LowerLevel, step: Step) -> dict[str, Tensor]:
    return lower.copies[copy]


def _copied(copy: str, what: str, lower: LowerLevel, step: Step) -> Any:
    """One pass of a copy serves all that is asked of it in a step."""
    key = f"_outputs_of_{copy}"
    if key not in step.__dict__:
        step.__dict__[key] = lower.pass_copy(step, lower.copies[copy], step.inputs)
    return getattr(step.__dict__[key], what)


def _kernels(lower: LowerLevel, step: Step) -> list[Tensor]:
    return [tensor for tensor in step.parameters.values() if tensor.ndim == 4]


def _head(lower: LowerLevel, step: Step) -> tuple[Float[Tensor, "classes dim"], Float[Tensor, "classes"]]:
    name = lower.inventory.last
    assert name is not None
    return lower.weight(step, name), lower.bias(step, name)


def _domain_gradients(lower: LowerLevel, step: Step) -> Float[Tensor, "domains parameters"]:
    names = [name for name, tensor in lower.parameters.items() if tensor.requires_grad]
    own = step.parameters.plain if isinstance(step.parameters, WideTensors) else step.parameters
    tensors = {name: own[name] for name in names}
    tensors = {
        name: tensor if tensor.requires_grad else tensor.detach().requires_grad_()
        for name, tensor in tensors.items()
    }
    if own is lower.parameters:
        losses = step.losses
    else:  # the network that the step runs is no function of these weights
        with constant_buffers(lower.network):
            network = lower.with_tensors(lower.typed(tensors))
            outputs = widened(lower.objective.run(network, step.inputs, step.batch))
        losses = _per_example(lower, outputs, step.targets)
    found, domain = torch.unique(step.domains, return_inverse=True)
    rows = []
    for number in range(len(found)):
        members = (domain == number).to(losses.dtype)
        mean = (losses * members).sum() / members.sum()
        gradients = torch.autograd.grad(mean, list(tensors.values()), create_graph=True, materialize_grads=True)
        rows.append(torch.cat([widened(gradient).reshape(-1) for gradient in gradients]))
    return torch.stack(rows)


def _example_gradients(lower: LowerLevel, step: Step) -> Float[Tensor, "batch parameters"]:
    """In closed form for a linear last layer: the gradient by the logits times what the layer saw."""
    weight, bias = step.head
    logits = torch.nn.functional.linear(step.features, weight, bias)
    if not logits.requires_grad:
        logits.requires_grad_()
    losses = _per_example(lower, logits, step.targets)
    (by_logits,) = torch.autograd.grad(losses.sum(), logits, create_graph=True)
    by_weight = by_logits.unsqueeze(-1) * step.features.unsqueeze(-2)
    return torch.cat([by_weight.flatten(1), by_logits], dim=1)


def _sample_gradients(lower: LowerLevel, step: Step) -> Float[Tensor, "samples parameters"]:
    """Gradients of single examples' losses by all parameters, of the first examples of the batch."""
    tensors = {name: tensor.detach() for name, tensor in lower.parameters.items()}

    def loss(tensors: Mapping[str, Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
        outputs = widened(lower.objective.run(lower.with_tensors(tensors), inputs.unsqueeze(0), step.batch))
        return _per_example(lower, outputs, targets.unsqueeze(0)).sum()

    single = vmap(grad(loss), in_dims=(None, 0, 0))
    gradients = single(tensors, step.inputs[:_SAMPLES], step.targets[:_SAMPLES])
    return torch.cat([widened(gradient).flatten(1) for gradient in gradients.values()], dim=1)


def _per_example(lower: LowerLevel, outputs: Tensor, targets: Tensor) -> Float[Tensor, "batch"]:
    return as_losses(lower.objective.loss(outputs, targets)).of_examples(len(outputs))[0]


def _old_classes(lower: LowerLevel, step: Step) -> Tensor:
    """Found on the host, once per stage."""
    number = lower.batches.stage(step.number)
    if number not in lower.old_classes:
        seen, labels = torch.zeros(step.classes, dtype=torch.bool), lower.objective.splits()["train"]["labels"]
        for stage in lower.batches.stages[:number]:
            seen[labels[stage.index].cpu()] = True
        lower.old_classes = {number: seen.to(step.inputs.device)}
    return lower.old_classes[number]

"""Optimizers of torch by name: which there are, what they take, and how they are built."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import torch

from selftune.errors import SettingError, suggestion
from selftune.networks.gradients import lay_out_state
from selftune.networks.precision import is_half
from selftune.networks.sharded_weights import is_sharded
from selftune.shapes import Tensor

Group = Mapping[str, Any]
"""Parameters under ``params``, and the settings that they have for themselves."""

_UNFIT = {
    "lbfgs": "evaluates the loss several times per step",
    "sparseadam": "takes sparse gradients only",
}
_FIELDS = {"lr": "learning_rate", "weight_decay": "weight_decay", "momentum": "momentum"}
_OURS = ("params", "foreach", "fused", "capturable", "differentiable")  # decided here, or of no use


def optimizer_names() -> list[str]:
    """Names of the optimizers: those of their classes in ``torch.optim``, in lower case.

    >>> {"sgd", "adamw", "rmsprop", "nadam", "adagrad"} <= set(optimizer_names())
    True
    """
    return sorted(name for name in _classes() if name not in _UNFIT)


def check_optimizer(name: str, settings: Mapping[str, Any]) -> None:
    """Refuses names and settings that torch's optimizers do not have.

    Raises:
        SettingError: with the key ``optimizer``, or ``settings`` and the name of the setting.

    >>> check_optimizer("adam", {"eps": 1e-6})
    >>> check_optimizer("adam", {"esp": 1e-6})
    Traceback (most recent call last):
    selftune.errors.SettingError: settings.esp: adam has no such setting; did you mean eps?
    """
    if name in _UNFIT:
        raise SettingError("optimizer", f"{name} {_UNFIT[name]}, which training by mini-batches does not do")
    if name not in _classes():
        raise SettingError("optimizer", f"unknown name {name!r}; {suggestion(name, optimizer_names())}")
    known = [key for key in arguments(name) if key not in _FIELDS and key not in _OURS]
    for key in settings:
        if key in _FIELDS and key in arguments(name):
            raise SettingError(f"settings.{key}", f"is set by {_FIELDS[key]}; leave it out here")
        if key not in known:
            raise SettingError(f"settings.{key}", f"{name} has no such setting; {suggestion(key, known)}")


def check_values(name: str, settings: Mapping[str, Any], keys: Collection[str]) -> None:
    """Refuses settings by torch's names that torch does not take together; ``keys`` are those to blame.

    Raises:
        SettingError: with the key ``settings`` and the name of the setting, where torch's message names it.

    >>> check_values("adam", {"lr": 0.1, "eps": -1.0}, ["eps"])
    Traceback (most recent call last):
    selftune.errors.SettingError: settings.eps: adam does not take it: Invalid epsilon value: -1.0
    """
    try:
        _classes()[name]([torch.zeros(1, 1, requires_grad=True)], **settings)
    except (TypeError, ValueError) as error:
        blamed = [key for key in keys if len(keys) == 1 or key.rstrip("s") in str(error)]
        key = f"settings.{blamed[0]}" if blamed else "settings"
        raise SettingError(key, f"{name} does not take it: {error}") from error


def arguments(name: str) -> list[str]:
    """What the constructor of an optimizer takes beside the parameters.

    >>> "dampening" in arguments("sgd"), "dampening" in arguments("adam")
    (True, False)
    """
    return [key for key in inspect.signature(_classes()[name]).parameters if key != "params"]


def build_optimizer(
    name: str, parameters: Sequence[Tensor] | Sequence[Group], settings: Mapping[str, Any]
) -> torch.optim.Optimizer:
    """An optimizer of parameters or of groups of them, fused into one kernel per step where that is right.

    Args:
        settings: of all parameters, by torch's names.

    Raises:
        SettingError: if it does not take such parameters; Muon takes matrices only.
    """
    tensors = list(tensors_in(parameters))
    if name == "sgd":
        # on the CPU, torch's fused SGD leaves parameters of half precision where they are, up to a remainder
        # of a few elements: pytorch/pytorch issue 191763
        skipped = any(is_half(p) and p.device.type == "cpu" for p in tensors)
        parts = any(is_sharded(p) for p in tensors)  # for which torch has no fused SGD
        settings = {**settings, "fused": not (skipped or parts)}
    elif name in ("adam", "adamw"):
        settings = {**settings, "fused": True}
    try:
        return laid_out(_classes()[name](list(parameters), **settings))
    except ValueError as error:
        raise SettingError("optimizer", f"{name} does not take these parameters: {error}") from error


def laid_out(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The optimizer, which lays out what a file gives back to it as its parameters are."""
    optimizer.register_load_state_dict_post_hook(lay_out_state)
    return optimizer


def settings_in(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """Learning rate and further settings of each group, by torch's names."""
    return [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]


def load_memory(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Gives an optimizer what another one remembered; its learning rate and further settings stay its own.

    Raises:
        ValueError: if the other one had other groups of parameters.

    >>> weight = torch.zeros(1, requires_grad=True)
    >>> optimizer = torch.optim.SGD([weight], lr=0.1)
    >>> load_memory(optimizer, torch.optim.SGD([weight], lr=0.2).state_dict())
    >>> optimizer.param_groups[0]["lr"]
    0.1
    """
    own = settings_in(optimizer)
    optimizer.load_state_dict(dict(state))
    for group, settings in zip(optimizer.param_groups, own, strict=True):
        group.update(settings)


def tensors_in(parameters: Sequence[Tensor] | Sequence[Group]) -> Iterable[Tensor]:
    """The parameters, in order, of groups or as they are."""
    for one in parameters:
        if isinstance(one, Mapping):
            yield from one["params"]
        else:
            yield one


def as_arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as torch takes them: pairs are tuples there, lists in files."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}


def accumulated_momentum(optimizer: torch.optim.Optimizer) -> float:
    """m, where a constant gradient moves weights by learning rate / (1 - m) per step in the long run.

    That of SGD and RMSprop; averages of gradients, as Adam has them, do not add up.

    >>> weight = torch.zeros(1, requires_grad=True)
    >>> accumulated_momentum(torch.optim.SGD([weight], lr=0.1, momentum=0.9))
    0.9
    >>> accumulated_momentum(torch.optim.Adam([weight]))
    0.0
    """
    if not isinstance(optimizer, torch.optim.SGD | torch.optim.RMSprop):
        return 0.0
    group = optimizer.param_groups[0]
    momentum, dampening = float(group["momentum"]), float(group.get("dampening", 0))
    return 1 - (1 - momentum) / (1 - dampening) if dampening else momentum


def _classes() -> dict[str, Any]:
    kinds = {name: cls for name, cls in vars(torch.optim).items() if isinstance(cls, type)}
    base = torch.optim.Optimizer
    return {name.lower(): cls for name, cls in kinds.items() if issubclass(cls, base) and cls is not base}

"""Groups of a network's parameters that an optimizer treats differently: by name, and by what they are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from selftune.errors import SettingError
from selftune.shapes import Tensor

_COMPUTED = re.compile(r"\.parametrizations\.(\w+)\.original\d*$")  # a weight that is computed of others


def parameter_groups(
    network: nn.Module,
    parameters: Iterable[Tensor],
    patterns: Mapping[str, Mapping[str, Any]],
    undecayed: bool = False,
) -> list[dict[str, Any]]:
    """Groups of parameters with the settings that each has for itself, those without any first.

    Args:
        network: whose parameters they are.
        parameters: those that are trained.
        patterns: settings, by torch's names, of the parameters whose name matches; ``*`` stands for anything. The
            first pattern that matches counts. A parametrised weight has the name of the weight.
        undecayed: whether norms and biases get the weight decay 0, unless their pattern says another one.

    Raises:
        SettingError: with the key ``groups`` and the pattern, if it is the first that matches for no parameter.

    >>> network = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    >>> groups = parameter_groups(network, network.parameters(), {}, undecayed=True)
    >>> [(len(group["params"]), group.get("weight_decay")) for group in groups]
    [(1, None), (3, 0.0)]
    """
    names: dict[Tensor, str] = {parameter: name for name, parameter in network.named_parameters()}
    still = norms_and_biases(network) if undecayed else frozenset()
    found: dict[tuple[str, bool], list[Tensor]] = {}
    for parameter in parameters:
        name = _COMPUTED.sub(r".\1", f".{names.get(parameter, '')}").removeprefix(".")
        pattern = next((pattern for pattern in patterns if fnmatchcase(name, pattern)), "")
        found.setdefault((pattern, name in still), []).append(parameter)
    for pattern in patterns:
        if not any(pattern == used for used, _ in found):
            raise SettingError(
                f"groups.{pattern}",
                "is the first pattern that matches for no trained parameter; parameters have names like"
                f" {', '.join(list(names.values())[:3])}",
            )
    groups = []
    for pattern, is_still in sorted(found, key=_plain_first([*patterns])):
        own = {"weight_decay": 0.0} if is_still else {}
        groups.append({"params": found[pattern, is_still], **own, **patterns.get(pattern, {})})
    return groups


def _plain_first(patterns: Sequence[str]) -> Any:
    """Order of groups: those of no pattern first, then by pattern as given; decayed ones before the others."""
    places = {"": -1, **{pattern: place for place, pattern in enumerate(patterns)}}
    return lambda key: (places[key[0]], key[1])


def norms_and_biases(network: nn.Module) -> frozenset[str]:
    """Names of the parameters of norm layers, whatever their shape, and of all biases.

    A norm layer is a module with "Norm" in the name of its class, torch's or another's; a bias a parameter with
    "bias" in its own name, as ``bias``, ``in_proj_bias`` and ``bias_ih_l0`` have it.

    >>> sorted(norms_and_biases(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))))
    ['0.bias', '1.bias', '1.weight']
    """
    found = set()
    for prefix, module in network.named_modules():
        norm = "norm" in type(module).__name__.lower()
        for leaf, _ in module.named_parameters(recurse=False):
            if norm or "bias" in leaf:
                found.add(f"{prefix}.{leaf}" if prefix else leaf)
    return frozenset(found)

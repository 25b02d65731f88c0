"""What of an ``Optimization`` does not go together with regularizers and methods."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import nn

from selftune.errors import SettingError
from selftune.lower_level.optimization import Optimization
from selftune.regularization.regularizer import Regularizer, overrides
from selftune.regularization.reparameterization import Reparameterization

_OWN_STEP: dict[str, Callable[[Optimization], bool]] = {
    "accumulate": lambda chosen: chosen.accumulate > 1,
    "autocast": lambda chosen: chosen.autocast == "float16",
}
"""What asks for one loss per training step, and when it is set."""
_NOT_PLAIN: dict[str, Callable[[Optimization], bool]] = {**_OWN_STEP, "compile": lambda chosen: chosen.compile}
"""What asks for a plain training step."""


def optimization_mistakes(
    optimization: Optimization,
    network: nn.Module,
    regularizers: Iterable[Regularizer],
    steps: int | None,
    device: torch.device,
) -> Iterator[SettingError]:
    """Why networks cannot be trained like this, whatever the method; keys are settings of ``Optimization``.

    Args:
        network: the objective's, with nothing attached.
        steps: training steps of the run; None where nobody knows.
        device: where it trains.
    """
    yield from optimization.mistakes(network, steps, device)
    for regularizer in regularizers:
        name = type(regularizer).name
        own = overrides(regularizer, "replace") or overrides(regularizer, "aggregate")
        for key, is_set in _OWN_STEP.items():
            if own and is_set(optimization):
                yield SettingError(
                    key, f"does not go together with {name}, which makes training steps of its own; leave it out"
                )
        if optimization.compile and acts_on_layers(regularizer):
            yield SettingError(
                "compile",
                f"does not go together with {name}, which acts on layers or looks at them in every step anew;"
                " leave it out",
            )


def acts_on_layers(regularizer: Regularizer) -> bool:
    """Whether something runs within the network that reads the training step, or records what layers give."""
    attached = overrides(regularizer, "attach") and not isinstance(regularizer, Reparameterization)
    looks = any(need.endswith(("features", "gradients")) or need.startswith("head") for need in regularizer.needs)
    return attached or looks


def beside_plain_steps(optimization: Optimization, reason: str) -> Iterator[SettingError]:
    """What asks for a plain training step, which a method does not take; keys are those of a study file."""
    return _set(optimization, _NOT_PLAIN, reason)


def of_the_optimizer(optimization: Optimization, reason: str) -> Iterator[SettingError]:
    """What only an optimizer reads, which a method goes without; keys are those of a study file."""
    return _set(optimization, _OF_THE_OPTIMIZER, reason)


def in_optimization(mistake: SettingError) -> SettingError:
    """The mistake with its key as in a study file."""
    return SettingError(f"objective.optimization.{mistake.key}", mistake.message)


def _set(
    optimization: Optimization, known: Mapping[str, Callable[[Optimization], bool]], reason: str
) -> Iterator[SettingError]:
    for key, is_set in known.items():
        if is_set(optimization):
            yield in_optimization(SettingError(key, reason))


_OF_THE_OPTIMIZER: dict[str, Callable[[Optimization], bool]] = {
    "clip_norm": lambda chosen: chosen.clip_norm is not None,
    "clip_value": lambda chosen: chosen.clip_value is not None,
    "groups": lambda chosen: bool(chosen.groups),
    "settings": lambda chosen: bool(chosen.settings),
    "weight_decay": lambda chosen: bool(chosen.weight_decay),
}

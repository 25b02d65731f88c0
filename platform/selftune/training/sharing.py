"""Whether several processes can train one network together, each running it on a part of every batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from selftune.data.nested import cut, size_of, tensors_in
from selftune.errors import SettingError
from selftune.lower_level.language_modelling import LanguageModelling
from selftune.lower_level.objective import NetworkObjective
from selftune.networks.inventory import undisturbed
from selftune.networks.modes import evaluating
from selftune.regularization.regularizer import Regularizer, overrides

_THROUGH_THE_NETWORK = frozenset({"domain_gradients", "recompute"})
"""Quantities that gradients through the network are made of; every process has those of its own examples."""


def sharing_mistakes(
    objective: NetworkObjective, regularizers: Iterable[Regularizer], workers: int, sharded: bool = False
) -> Iterator[SettingError]:
    """What has to be in one process.

    The outputs of all workers come together before targets, losses and penalties: what compares examples has all
    of them. What remains is what takes gradients of its own, and a network that mixes the examples of a batch.

    Args:
        workers: processes that train a network together.
        sharded: whether each of them holds a part of the weights only.

    Yields:
        SettingError: with the key of the study's section.
    """
    if workers == 1:
        return
    size = objective.optimization.batch_size
    if size < workers:
        yield SettingError("objective.batch_size", f"is {size}, too few examples for {workers} workers")
    for regularizer in regularizers:
        key = f"regularizers.{regularizer.name}"
        if (why := _obstacle(regularizer)) is not None:
            yield SettingError(
                key, f"cannot be used where several workers share every batch: {why}; use one worker"
            )
        elif sharded and (why := _needs_whole_network(regularizer)) is not None:
            yield SettingError(
                key, f"cannot be used where every worker holds a part of the weights (fsdp): {why}; use ddp"
            )
    if sharded:
        yield from _unsharded(objective)
    if not _is_row_by_row(objective):
        yield SettingError(
            "objective",
            "has a network that does not put out a row for each example that depends on this one alone, so that"
            " several workers cannot share a batch; use one worker",
        )


_OF_LOSSES = ("loss", "losses", "validation_loss", "metrics")


def loses_by_row(objective: NetworkObjective) -> bool:
    """Whether what says the losses of an objective is known to look at the rows of outputs one by one.

    Then the outputs of several processes need not come together, which are large where there are many classes.
    """
    kinds = type(objective).mro()
    return all(next(kind for kind in kinds if name in vars(kind)) is LanguageModelling for name in _OF_LOSSES)


def _obstacle(regularizer: Regularizer) -> str | None:
    kind = next(kind for kind in type(regularizer).mro() if "one_process" in vars(kind))
    if kind is not Regularizer:
        return regularizer.one_process
    if overrides(regularizer, "replace"):
        return "it makes the whole training step itself"
    needed = sorted(regularizer.needs & _THROUGH_THE_NETWORK)
    return f"it takes gradients through the whole network ({needed[0]})" if needed else None


def _needs_whole_network(regularizer: Regularizer) -> str | None:
    if regularizer.whole_network is not None:
        return regularizer.whole_network
    if overrides(regularizer, "aggregate"):
        return "it combines gradients by all weights"
    needed = sorted(regularizer.needs & _THROUGH_THE_NETWORK)
    return f"it takes gradients through the whole network ({needed[0]})" if needed else None


_BY_PARTS = ("adadelta", "adagrad", "adam", "adamax", "adamw", "asgd", "nadam", "radam", "rmsprop", "sgd")
"""Optimizers that step each entry by itself."""


def _unsharded(objective: NetworkObjective) -> Iterator[SettingError]:
    """What of training itself has to have whole weights."""
    chosen = objective.optimization
    if chosen.optimizer not in _BY_PARTS:
        name = chosen.optimizer if isinstance(chosen.optimizer, str) else "an optimizer of your own"
        yield SettingError(
            "objective.optimization.optimizer",
            f"{name} is not known to step parts of weights (fsdp) as it steps whole ones; use ddp, or one of"
            f" {', '.join(_BY_PARTS)}",
        )
    if chosen.compile:
        yield SettingError(
            "objective.optimization.compile",
            "does not go with weights of which every worker holds a part (fsdp); use ddp",
        )
    if chosen.autocast == "float16":
        yield SettingError(
            "objective.optimization.autocast",
            "cannot be float16 where every worker holds a part of the weights (fsdp): losses are not scaled there;"
            " use bfloat16, or ddp",
        )
    inventory = objective.inventory()
    if any("" not in running for places in inventory.places.values() for running in places):
        yield SettingError(
            "objective",
            "has a network whose weights are used outside of its forward, where they are not gathered (fsdp);"
            " use ddp",
        )
    types = {parameter.dtype for parameter in objective.structure().parameters()}
    if len(types) > 1:
        yield SettingError(
            "objective",
            f"has weights of several number types ({', '.join(sorted(map(str, types)))}), which fsdp does not"
            " gather together; use ddp",
        )


def _is_row_by_row(objective: NetworkObjective) -> bool:
    """Whether the network in evaluation, run on two parts of some examples, puts out the rows of the whole."""
    batch = objective.example(4, "train")
    if size_of(batch) < 4:
        return True
    network, split = objective.structure(), (batch, cut(batch, 0, 2), cut(batch, 2, 4))
    with torch.no_grad(), undisturbed(), evaluating(network):
        whole, first, second = (objective.run(network, objective.inputs(part), part) for part in split)
    parts = zip(tensors_in(whole), tensors_in(first), tensors_in(second), strict=True)
    return all(_joins(*three) for three in parts)


def _joins(whole: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> bool:
    if not (whole.ndim and len(first) == len(second) == 2 and len(whole) == 4):
        return False
    return torch.allclose(torch.cat([first, second]), whole, rtol=1e-3, atol=1e-5, equal_nan=True)

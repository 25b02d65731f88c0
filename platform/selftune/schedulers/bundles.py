"""Actors in the bundles of the placement group of the trial that starts them."""

from __future__ import annotations

from typing import Any

import ray
from ray.util import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy


def bundles() -> int:
    """How many bundles the trial of this process has; 0 outside of a trial."""
    group = get_current_placement_group() if ray.is_initialized() else None
    return 0 if group is None else len(group.bundle_specs)


def trial_bundles(members: int, workers: int, cpus: float, gpus: float) -> list[dict[str, float]]:
    """The bundles of a trial that trains a team: one for each worker of each member.

    Args:
        members: of the team.
        workers: of each member's trainer; those of one member follow each other.
        cpus, gpus: of each worker.

    >>> trial_bundles(2, 2, cpus=0.5, gpus=0)
    [{'CPU': 0.5}, {'CPU': 0.5}, {'CPU': 0.5}, {'CPU': 0.5}]
    """
    return [{"CPU": cpus, **({"GPU": gpus} if gpus else {})} for _ in range(members * workers)]


def actor_in_bundle(kind: type[Any], index: int, *arguments: Any) -> Any:
    """Starts an actor with all resources of one of the trial's bundles. It ends with the trial's process.

    Args:
        kind: the actor's class.
        index: of the bundle; the trial's own process is in the first, 0.
        arguments: of its constructor.
    """
    group = get_current_placement_group()
    assert group is not None, "a trial of several processes has a placement group"
    bundle = group.bundle_specs[index]
    options: dict[str, Any] = {
        "num_cpus": bundle.get("CPU", 0),
        "num_gpus": bundle.get("GPU", 0),
        "scheduling_strategy": PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index),
    }
    actor: Any = ray.remote(kind)
    return actor.options(**options).remote(*arguments)

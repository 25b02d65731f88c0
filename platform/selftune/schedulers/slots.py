"""How many trials of one size a cluster can run at once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import ray


def slots(
    request: Mapping[str, float], nodes: Iterable[Mapping[str, float]] | None = None, workers: int = 1
) -> int:
    """Trials with these resources that fit on the cluster's nodes; a worker does not span two nodes.

    Args:
        request: resources of a trial, of each of its workers if it has several, such as {"CPU": 1, "GPU": 0.5}.
        nodes: resources of each node; those of the cluster in use if not given.
        workers: of a trial.

    >>> slots({"CPU": 2}, [{"CPU": 3}, {"CPU": 3}])
    2
    >>> slots({"CPU": 1, "GPU": 1}, [{"CPU": 8}])
    0
    >>> slots({"CPU": 2}, [{"CPU": 3}, {"CPU": 5}], workers=2)
    1
    """
    wanted = {name: amount for name, amount in request.items() if amount > 0}
    if not wanted:
        raise ValueError("a trial must ask for some resource, such as one cpu")
    fits = 0
    for node in alive() if nodes is None else nodes:
        # a ten-thousandth is Ray's finest share of a resource
        fits += min(math.floor(node.get(name, 0.0) / amount + 1e-4) for name, amount in wanted.items())
    return fits // workers


def alive() -> list[dict[str, float]]:
    """Resources of the cluster's living nodes."""
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return [node["Resources"] for node in nodes if node["Alive"]]


def shortage(
    request: Mapping[str, float],
    trials: int,
    nodes: Iterable[Mapping[str, float]] | None = None,
    workers: int = 1,
) -> str:
    """One sentence: what is asked for, and what there is.

    >>> shortage({"CPU": 1, "GPU": 1}, 2, [{"CPU": 8}])
    'asked for 2 trainers with 1 cpu and 1 gpu each, the cluster has 8 cpus and 0 gpus'
    >>> shortage({"CPU": 1}, 2, [{"CPU": 3}], workers=2)
    'asked for 2 trainers of 2 workers with 1 cpu each, the cluster has 3 cpus'
    """
    nodes = list(alive() if nodes is None else nodes)
    wanted = {name: amount for name, amount in request.items() if amount > 0}
    asked = " and ".join(_amount(name, amount) for name, amount in wanted.items())
    total = {name: sum(node.get(name, 0.0) for node in nodes) for name in wanted}
    there = " and ".join(_amount(name, amount) for name, amount in total.items())
    many = f"{trials} trainers with {asked} each" if trials > 1 else asked
    if workers > 1:
        many = f"{trials} trainer{'s' if trials > 1 else ''} of {workers} workers with {asked} each"
    spread = f" on {len(nodes)} nodes" if len(nodes) > 1 else ""
    return f"asked for {many}, the cluster has {there}{spread}"


def _amount(resource: str, amount: float) -> str:
    name = resource.lower() if resource in ("CPU", "GPU") else resource
    return f"{amount:g} {name}{'' if amount == 1 else 's'}"

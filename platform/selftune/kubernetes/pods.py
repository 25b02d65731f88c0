"""Every pod that manifests make, whoever makes it: Kubernetes' own controllers or KubeRay."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_OF_KUBERAY = ("RayJob", "RayCluster", "RayCronJob")
Manifest = Mapping[str, Any]


def pod_templates(manifests: Iterable[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """The pod templates of manifests, each with a name to say in a message."""
    for one in manifests:
        name = f"{one['kind']} {one['metadata']['name']}"
        if cluster := ray_cluster(one):
            yield f"{name}, head", cluster["headGroupSpec"]["template"]
            for group in cluster["workerGroupSpecs"]:
                yield f"{name}, {group['groupName']}", group["template"]
        elif "template" in one.get("spec", {}):
            yield name, one["spec"]["template"]


def ray_cluster(one: Manifest) -> Manifest | None:
    """The Ray cluster within a resource of KubeRay's; None for all others."""
    if one["kind"] not in _OF_KUBERAY:
        return None
    spec: Manifest = one["spec"]
    inner: Manifest = spec.get("jobTemplate", spec)
    cluster: Manifest = inner.get("rayClusterSpec", inner)
    return cluster

"""What a study changes in the base: names, labels, the command, the size of the cluster; as JSON patches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from selftune.kubernetes.cluster_size import ClusterSize

Patch = dict[str, Any]
_CLUSTER = "/spec/rayClusterSpec"
HEAD = f"{_CLUSTER}/headGroupSpec/template"
WORKERS = f"{_CLUSTER}/workerGroupSpecs/0"
WORKER = f"{WORKERS}/template"
INSTANCE = "app.kubernetes.io~1instance"
KUEUE = "/metadata/labels/kueue.x-k8s.io~1queue-name"
VOLCANO = "/metadata/labels/volcano.sh~1queue-name"
STUDY = "study"  # what the base calls a study
IMAGES_OF_KUBERAY = """\
images:
  - {kind: RayJob, path: "spec/rayClusterSpec/headGroupSpec/template/spec/containers[]/image"}
  - {kind: RayJob, path: "spec/rayClusterSpec/workerGroupSpecs[]/template/spec/containers[]/image"}
"""


def patch(kind: str, name: str, *changes: tuple[str, Any], rename: bool = False) -> Patch:
    """A patch that puts values in the place of what is there, or adds them to the end of a list."""
    changed = [
        {"op": "add" if path.endswith("/-") else "replace", "path": path, "value": value}
        for path, value in changes
    ]
    made: Patch = {"target": {"kind": kind, "name": name}, "patch": changed}
    return {**made, "options": {"allowNameChange": True}} if rename else made


def added(kind: str, name: str, *additions: tuple[str, Any]) -> Patch:
    """A patch that adds values under keys that are not there."""
    made = patch(kind, name, *additions)
    return {**made, "patch": [{**change, "op": "add"} for change in made["patch"]]}


def naming(name: str) -> Iterator[Patch]:
    """Gives a study's resources, and the labels by which policies find its pods, the study's name."""
    label = ("/metadata/labels/" + INSTANCE, name)
    yield patch("ConfigMap", STUDY, ("/metadata/name", name), label, rename=True)
    account = [("/metadata/name", f"{name}-autoscaler"), label]
    yield patch("ServiceAccount", f"{STUDY}-autoscaler", *account, rename=True)
    yield patch(
        "NetworkPolicy",
        f"{STUDY}-autoscaler",
        *account,
        (f"/spec/podSelector/matchLabels/{INSTANCE}", name),
        rename=True,
    )
    yield patch(
        "RayJob",
        STUDY,
        ("/metadata/name", name),
        label,
        (f"{HEAD}/metadata/labels/{INSTANCE}", name),
        (f"{WORKER}/metadata/labels/{INSTANCE}", name),
        (f"{WORKER}/spec/topologySpreadConstraints/0/labelSelector/matchLabels/{INSTANCE}", name),
        (f"{HEAD}/spec/volumes/0/configMap/name", name),
        (f"{WORKER}/spec/volumes/0/configMap/name", name),
        rename=True,
    )
    selector = f"/spec/podSelector/matchLabels/{INSTANCE}"
    peer = f"podSelector/matchLabels/{INSTANCE}"
    for policy in ("ray", "head"):
        peers = [(f"/spec/ingress/0/from/0/{peer}", name), (f"/spec/egress/0/to/0/{peer}", name)]
        changes = [("/metadata/name", f"{name}-{policy}"), label, (selector, name)]
        yield patch(
            "NetworkPolicy", f"{STUDY}-{policy}", *changes, *(peers if policy == "ray" else []), rename=True
        )
    for budget in ("head", "workers"):
        yield patch(
            "PodDisruptionBudget",
            f"{STUDY}-{budget}",
            ("/metadata/name", f"{name}-{budget}"),
            label,
            (f"/spec/selector/matchLabels/{INSTANCE}", name),
            rename=True,
        )


def sizing(size: ClusterSize, least: int) -> Iterator[Patch]:
    """Makes the workers as many and as large as a study needs.

    Args:
        size: what it needs.
        least: how many an autoscaler may leave.
    """
    resources = f"{WORKER}/spec/containers/0/resources"
    amounts: list[tuple[str, Any]] = []
    for kind in ("requests", "limits"):
        amounts += [
            (f"{resources}/{kind}/cpu", str(size.cpus)),
            (f"{resources}/{kind}/memory", f"{size.memory}Gi"),
        ]
        if size.gpus:
            amounts.append((f"{resources}/{kind}/nvidia.com~1gpu", str(size.gpus)))
    yield patch(
        "RayJob",
        STUDY,
        (f"{WORKERS}/replicas", size.pods),
        (f"{WORKERS}/minReplicas", least),
        (f"{WORKERS}/maxReplicas", size.pods),
        (f"{WORKER}/spec/volumes/3/emptyDir/sizeLimit", f"{size.shared_memory}Gi"),
        *amounts,
    )
    yield patch("PodDisruptionBudget", f"{STUDY}-workers", ("/spec/minAvailable", size.pods - 1))


def operator(namespace: str) -> Iterator[Patch]:
    """Lets KubeRay's operator reach the head from the namespace where it runs."""
    path = "/spec/ingress/0/from/0/namespaceSelector/matchLabels/kubernetes.io~1metadata.name"
    yield patch("NetworkPolicy", f"{STUDY}-head", (path, namespace))


def reach_outside(policy: str, networks: Sequence[str]) -> Patch:
    """Lets the pods of a policy reach addresses outside of the cluster."""
    peers = [{"ipBlock": {"cidr": network}} for network in networks]
    return patch("NetworkPolicy", policy, ("/spec/egress/0/to", peers))


def volume(claim: str) -> Patch:
    """Names the claim of the volume for results, which has the same place in every pod."""
    place = "spec/volumes/4/persistentVolumeClaim/claimName"
    return patch("RayJob", STUDY, (f"{HEAD}/{place}", claim), (f"{WORKER}/{place}", claim))

"""The manifests of a study: the packaged base and an overlay, with the study's file, name, size and addresses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import yaml

from selftune.kubernetes.cluster_size import ClusterSize
from selftune.kubernetes.kustomize import kustomize
from selftune.kubernetes.patches import STUDY, Patch, naming_patches, patch, size_patches
from selftune.studies.mistakes import UserError

OVERLAYS = ("cpu-small", "gpu", "gpu-spot", "production")
PARTS = ("all", "platform", "study")
LARGEST = 1024 * 1024  # bytes of a ConfigMap
_INSTANCE = "app.kubernetes.io/instance"


@dataclass(frozen=True)
class Rendering:
    """What is to be rendered.

    Args:
        text: of the study file.
        name: of the study's resources.
        size: of its Ray cluster.
        overlay: one of ``OVERLAYS``.
        namespace: of everything that has one.
        output: where the results go, an address or a folder of the volume.
        images: references by the image's name in the base.
        operator_namespace: where KubeRay's operator runs.
        part: ``platform`` for what studies share, ``study`` for the rest, ``all`` for both.
    """

    text: str
    name: str
    size: ClusterSize
    overlay: str
    output: str
    namespace: str = "selftune"
    images: Mapping[str, str] = field(default_factory=dict)
    operator_namespace: str = "kuberay-system"
    part: str = "all"


def render(what: Rendering) -> str:
    """The manifests, as YAML documents for ``kubectl apply``.

    Raises:
        UserError: if the study file is too large for a ConfigMap, or there is no kubectl.
    """
    if len(what.text.encode()) > LARGEST:
        raise UserError(f"study: its file is larger than {LARGEST // 1024} KiB, which no ConfigMap holds")
    layers: dict[str, Mapping[str, Any]] = {
        "sized": {
            "resources": [f"../k8s/overlays/{what.overlay}"],
            "patches": [_text(one) for one in _patches(what)],
        },
        "named": {
            "resources": ["../sized"],
            "namespace": what.namespace,
            "configurations": ["images.yaml"],
            "images": [_image(name, reference) for name, reference in what.images.items()],
            "patches": [_text(one) for one in naming_patches(what.name)],
        },
    }
    made = kustomize(layers, {"named/images.yaml": _IMAGES})
    return "---\n".join(_chosen(made.split("\n---\n"), what))


_IMAGES = """\
images:
  - {kind: RayJob, path: "spec/rayClusterSpec/headGroupSpec/template/spec/containers[]/image"}
  - {kind: RayJob, path: "spec/rayClusterSpec/workerGroupSpecs[]/template/spec/containers[]/image"}
"""


def _patches(what: Rendering) -> Iterator[Patch]:
    yield patch("ConfigMap", STUDY, ("/data/study.yaml", what.text))
    command = f"selftune run /etc/selftune/study/study.yaml --output {what.output} --restart --grace 60"
    yield patch("RayJob", STUDY, ("/spec/entrypoint", command))
    yield from size_patches(what.size, least=what.size.pods)
    operator = "/spec/ingress/0/from/0/namespaceSelector/matchLabels/kubernetes.io~1metadata.name"
    yield patch("NetworkPolicy", f"{STUDY}-head", (operator, what.operator_namespace))


def _text(one: Patch) -> Patch:
    return {**one, "patch": yaml.safe_dump(one["patch"], sort_keys=False)}


def _image(name: str, reference: str) -> dict[str, str]:
    rest, _, digest = reference.partition("@")
    head, colon, tag = rest.rpartition(":")
    has_tag = bool(colon) and "/" not in tag
    made = {"name": name, "newName": head if has_tag else rest}
    if digest:
        return {**made, "digest": digest}
    return {**made, "newTag": tag} if has_tag else made


def _chosen(documents: list[str], what: Rendering) -> Iterator[str]:
    for document in documents:
        labels = yaml.safe_load(document)["metadata"].get("labels") or {}
        part = "study" if labels.get(_INSTANCE) == what.name else "platform"
        if what.part in ("all", part):
            yield document.rstrip("\n") + "\n"


def usual_image(size: ClusterSize) -> str:
    """The reference to selftune's own image where none is given."""
    return f"selftune:{version('selftune')}-{'cuda' if size.gpus else 'cpu'}"

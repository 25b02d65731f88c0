"""The manifests of a study: the packaged base and an overlay, with the study's file, name, size and addresses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import yaml

from selftune.kubernetes import patches
from selftune.kubernetes.cluster_size import ClusterSize
from selftune.kubernetes.config_map import FOLDER, config_map_patches
from selftune.kubernetes.kustomize import kustomize
from selftune.kubernetes.patches import Patch
from selftune.kubernetes.production import Production

IMAGES = {
    "selftune": "selftune",
    "server": "selftune-server",
    "postgresql": "postgres",
    "gateway": "nginxinc/nginx-unprivileged",
}
"""Names of images in the base, of those that arguments replace."""
GRACE = 60  # seconds that a driver may take to its end; the hooks of the base give it 75
_INSTANCE = "app.kubernetes.io/instance"


@dataclass(frozen=True)
class Rendering:
    """What is to be rendered.

    Args:
        text: of the study file.
        files: that travel with it, by their places beside it.
        name: of the study's resources.
        size: of its Ray cluster.
        overlay: one of ``overlays.OVERLAYS``.
        output: where the results go, an address or a folder of the volume.
        namespace: of everything that has one.
        images: references, by the names of ``IMAGES``.
        operator_namespace: where KubeRay's operator runs.
        api_server: addresses of the Kubernetes API, for the autoscaler of gpu-spot.
        volume: the claim whose volume is mounted at /results.
        queue: of Kueue.
        gang: a queue of Volcano.
        schedule: when it runs again and again, as cron writes it.
        interactive: whether there is a cluster alone, and no job.
        production: what the overlay production has beside all this.
        part: ``platform`` for what studies share, ``study`` for the rest, ``all`` for both.
    """

    text: str
    name: str
    size: ClusterSize
    overlay: str
    output: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    namespace: str = "selftune"
    images: Mapping[str, str] = field(default_factory=dict)
    operator_namespace: str = "kuberay-system"
    api_server: tuple[str, ...] = ()
    volume: str | None = None
    queue: str | None = None
    gang: str | None = None
    schedule: str | None = None
    interactive: bool = False
    production: Production | None = None
    part: str = "all"


def render(what: Rendering) -> str:
    """The manifests, as YAML documents for ``kubectl apply``.

    Raises:
        UserError: if there is no kubectl, or it fails.
    """
    layers: dict[str, Mapping[str, Any]] = {
        "sized": {
            "resources": [f"../k8s/overlays/{what.overlay}"],
            "components": [f"../k8s/components/{name}" for name in _components(what)],
            "patches": [_text(one) for one in _sized(what)],
        },
        "named": {
            "resources": ["../sized"],
            "namespace": what.namespace,
            "configurations": ["images.yaml"],
            "images": [_image(IMAGES[name], reference) for name, reference in what.images.items()],
            "patches": [_text(one) for one in patches.naming(what.name)],
        },
    }
    if what.interactive or what.schedule:
        layers["made"] = {
            "resources": ["../named"],
            "components": ["../k8s/components/" + ("interactive" if what.interactive else "nightly")],
            "patches": [_text(one) for one in _made(what)],
        }
    made = kustomize(layers, {"named/images.yaml": patches.IMAGES_OF_KUBERAY})
    return "---\n".join(_chosen(made.split("\n---\n"), what))


def _components(what: Rendering) -> Iterator[str]:
    if what.overlay == "production" and what.size.gpus:
        yield "gpu"
    if what.volume:
        yield "shared-volume"
    if what.queue and not what.interactive:
        yield "kueue"
    if what.gang and not what.interactive:
        yield "gang-scheduling"


def _sized(what: Rendering) -> Iterator[Patch]:
    scales = what.overlay == "gpu-spot"
    yield from config_map_patches(what.text, what.files)
    yield patches.patch("RayJob", patches.STUDY, ("/spec/entrypoint", _command(what)))
    yield from patches.sizing(what.size, least=0 if scales else what.size.pods)
    yield from patches.operator(what.operator_namespace)
    if scales:
        yield patches.reach_outside("study-autoscaler", what.api_server)
        account = (f"{patches.HEAD}/spec/serviceAccountName", f"{what.name}-autoscaler")
        yield patches.patch("RayJob", patches.STUDY, account)
    if what.volume:
        yield patches.volume(what.volume)
    if what.queue and not what.interactive:
        yield patches.patch("RayJob", patches.STUDY, (patches.KUEUE, what.queue))
    if what.gang and not what.interactive:
        yield patches.patch("RayJob", patches.STUDY, (patches.VOLCANO, what.gang))
    if what.production:
        yield from what.production.patches()


def _made(what: Rendering) -> Iterator[Patch]:
    kind = "RayCluster" if what.interactive else "RayCronJob"
    label = (f"/metadata/labels/{patches.INSTANCE}", what.name)
    more = [] if what.schedule is None else [("/spec/schedule", what.schedule)]
    yield patches.patch(kind, patches.STUDY, ("/metadata/name", what.name), label, *more, rename=True)
    if what.interactive and what.queue:
        yield patches.added(kind, patches.STUDY, (patches.KUEUE, what.queue), ("/spec/suspend", True))
    if what.interactive and what.gang:
        yield patches.added(kind, patches.STUDY, (patches.VOLCANO, what.gang))


def _command(what: Rendering) -> str:
    """What the job does. A schedule's runs each have a folder of their own, with the name of the RayJob.

    KubeRay calls a job's cluster as the job, with a hyphen and five letters, also when the job tries again.
    """
    folder = what.output + ("/${RAY_CLUSTER_NAME%-*}" if what.schedule else "")
    wait = f"python -m selftune.kubernetes.wait_for_workers {what.size.pods}"
    run = f"selftune run {FOLDER}/study.yaml --output {folder} --restart --grace {GRACE}"
    return f"{wait} && cd {FOLDER} && {run}" if what.files else f"{wait} && {run}"


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


def usual_image(gpus: int = 0) -> str:
    """The reference to selftune's own image where none is given."""
    return f"selftune:{version('selftune')}-{'cuda' if gpus else 'cpu'}"

"""Kustomize, as ``kubectl`` brings it, over the packaged folder ``k8s`` and what a study adds to it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from selftune.studies.mistakes import UserError

PATIENCE = 120.0  # seconds that kubectl may take; it takes one or two


def kustomize(layers: Mapping[str, Mapping[str, Any]], texts: Mapping[str, str]) -> str:
    """The manifests of the last of several kustomizations, which lie beside the folder ``k8s``.

    Args:
        layers: the kustomizations, by the name of their folder, the last one on top.
        texts: further files, by their path, such as ``sized/study.yaml``.

    Raises:
        UserError: if there is no kubectl, or it refuses.
    """
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise UserError(
            "kubectl: is not installed, or not on PATH; install version 1.27 or newer, whose `kubectl kustomize`"
            " makes the manifests (no cluster is needed)"
        )
    with TemporaryDirectory(prefix="selftune-render-") as made:
        root = Path(made)
        with as_file(files("selftune.k8s")) as packaged:
            shutil.copytree(packaged, root / "k8s", ignore=shutil.ignore_patterns("__pycache__", "*.py"))
        for name, content in layers.items():
            text = yaml.safe_dump({"apiVersion": _VERSION, "kind": "Kustomization", **content}, sort_keys=False)
            _write(root / name / "kustomization.yaml", text)
        for name, text in texts.items():
            _write(root / name, text)
        return _run([kubectl, "kustomize", str(root / [*layers][-1])])


_VERSION = "kustomize.config.k8s.io/v1beta1"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _run(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired as error:
        raise UserError(f"kubectl: `kubectl kustomize` did not end within {PATIENCE:g} seconds") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise UserError(f"kubectl: `kubectl kustomize` failed: {last}; version 1.27 or newer is needed")
    return done.stdout

"""Schemas of custom resources, as their definitions have them: a key that they do not know is a mistake."""

from functools import cache
from pathlib import Path

import jsonschema
import yaml

FOLDER = Path(__file__).parents[3] / "shared" / "data"
"""Definitions of KubeRay and of Kueue; beside the repository, where they are."""


def mistakes(manifest):
    """What is wrong with a custom resource."""
    group, _, version = manifest["apiVersion"].partition("/")
    validator = jsonschema.Draft7Validator(_schema(group, version, manifest["kind"]))
    return [f"{'/'.join(map(str, error.path))}: {error.message}" for error in validator.iter_errors(manifest)]


@cache
def _schema(group, version, kind):
    folder = FOLDER / {"ray.io": "kuberay-crds", "kueue.x-k8s.io": "kueue-crds"}[group]
    (file,) = (file for file in folder.iterdir() if file.name.startswith(f"{group}_{kind.lower()}s."))
    definition = yaml.load(file.read_text(), yaml.CSafeLoader)
    (found,) = (one for one in definition["spec"]["versions"] if one["name"] == version)
    schema = _strict(found["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}  # Kubernetes' own
    return schema


def _strict(schema):
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: _strict(value) for key, value in schema.items()}
    if "properties" in schema and isinstance(schema["properties"], dict) and "type" in schema:
        keeps = schema.get("x-kubernetes-preserve-unknown-fields") or schema.get("x-kubernetes-embedded-resource")
        if not keeps:
            strict.setdefault("additionalProperties", False)
    return strict

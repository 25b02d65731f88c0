"""What travels to the pods of a study in its ConfigMap: the study file, small data, packages written here."""

from __future__ import annotations

import base64
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from selftune.kubernetes.patches import HEAD, STUDY, WORKER, Patch, added, patch
from selftune.studies.job_files import STUDY as STUDY_FILE
from selftune.studies.job_files import pack
from selftune.studies.mistakes import UserError

FOLDER = "/etc/selftune/study"
"""Where pods find it all; the same place on head and workers, so that a path which the driver made means both."""
LARGEST = 180 * 1024
"""Bytes of all files together. A ConfigMap holds 1 MiB, but `kubectl apply` keeps a copy of it in an annotation.
Annotations may have 256 KiB, and this has 240 in base64."""


def files_beside(study: Path, text: str) -> dict[str, bytes]:
    """The files that a study names by a path from here, and packages that add what it names, by their places.

    Raises:
        UserError: if they are too large for a ConfigMap, or cannot be read.
    """
    with TemporaryDirectory(prefix="selftune-render-") as folder:
        packed = Path(folder) / "files.zip"
        pack(study, packed)
        with zipfile.ZipFile(packed) as archive:
            found = {name: archive.read(name) for name in archive.namelist() if name != STUDY_FILE}
    sizes = {"the study file": len(text.encode())} | {name: len(content) for name, content in found.items()}
    if sum(sizes.values()) > LARGEST:
        name, size = max(sizes.items(), key=lambda one: one[1])
        raise UserError(
            f"{study}: {_kibibytes(sum(sizes.values()))} would travel in a ConfigMap, of which {name} has"
            f" {_kibibytes(size)}, and {_kibibytes(LARGEST)} may; put it into an image of your own or on the"
            " volume of --volume, and name it by its whole path there, which has to be the same here"
        )
    return found


def config_map_patches(text: str, files: Mapping[str, bytes]) -> Iterator[Patch]:
    """Puts study and files into the ConfigMap, and mounts the files at their places."""
    yield patch("ConfigMap", STUDY, ("/data/study.yaml", text))
    if not files:
        return
    keys = {f"file-{number}": name for number, name in enumerate(sorted(files))}
    encoded = {key: base64.b64encode(files[name]).decode() for key, name in keys.items()}
    yield added("ConfigMap", STUDY, ("/binaryData", encoded))
    items = [{"key": key, "path": name} for key, name in {STUDY_FILE: STUDY_FILE, **keys}.items()]
    for pod in (HEAD, WORKER):
        yield added(
            "RayJob",
            STUDY,
            (f"{pod}/spec/volumes/0/configMap/items", items),
            (f"{pod}/spec/containers/0/env/-", {"name": "PYTHONPATH", "value": FOLDER}),
        )


def _kibibytes(size: int) -> str:
    return f"{size / 1024:.0f} KiB"

"""JSON files that people may read and selftune relies on: each says the checksum of what else it says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from selftune.storage.files import DamagedFile, replacing

CHECKSUM = "checksum"


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a mapping with its checksum.

    Raises:
        OSError: if it cannot be written.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "notes.json"
    >>> write_json(path, {"steps": 3})
    >>> read_json(path)
    {'steps': 3}
    """
    with replacing(path) as temporary:
        text = json.dumps({**content, CHECKSUM: _checksum(content)}, indent=2)
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """The mapping that ``write_json`` wrote.

    Raises:
        FileNotFoundError: if there is no such file.
        DamagedFile: if it changed since, or was written by another version of selftune.
    """
    try:
        content = json.loads(path.read_bytes())
        checksum = content.pop(CHECKSUM)
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        raise DamagedFile(
            f"{path}: is damaged, or was written by another version of selftune; put back a copy of it"
        ) from error
    if checksum != _checksum(content):
        raise DamagedFile(f"{path}: was changed since selftune wrote it; put back a copy of it")
    return dict(content)


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

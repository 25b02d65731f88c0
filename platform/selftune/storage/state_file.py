"""States in a file: safetensors, with everything that is no tensor as JSON in its header, and a checksum.

Reading one runs no code of the file's. Other programs can read its tensors with any reader of safetensors.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from selftune.errors import SettingError
from selftune.shapes import Tensor
from selftune.storage.files import DamagedFile, replacing
from selftune.storage.state_tree import packed, unpacked

FORMATS = {"checkpoint": 2, "record": 2, "trainer": 2}
"""Numbers of the layouts of kinds that have changed theirs; a kind that has not is at 1."""
_OS_ERROR = re.compile(r"\(os error (\d+)\)")


def save_state(path: Path, state: Any, kind: str, given: Mapping[str, Any] | None = None) -> None:
    """Writes a state; the file is the old one or the new one, and on the disk when this returns.

    Args:
        kind: one word for what it is, which a reader has to know.
        given: objects that reader and writer have, by name; see ``packed``.

    Raises:
        TypeError: if the state holds something that no such file holds; says where.
        OSError: if it cannot be written.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "example.safetensors"
    >>> save_state(path, {"step": 3, "weights": [torch.ones(2)]}, "example")
    >>> load_state(path, "example")
    {'step': 3, 'weights': [tensor([1., 1.])]}
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    tree = json.dumps(packed(state, tensors, given), separators=(",", ":"))
    about = {"format": FORMATS.get(kind, 1), "kind": kind, "checksum": _checksum(kind, tree, tensors)}
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, {"selftune": json.dumps(about), "state": tree})
        except SafetensorError as error:  # it says in words what the system said
            if (told := _OS_ERROR.search(str(error))) is None:
                raise
            raise OSError(int(told[1]), os.strerror(int(told[1]))) from error


def load_state(path: Path, kind: str, given: Mapping[str, Any] | None = None) -> Any:
    """The state that ``save_state`` wrote.

    Raises:
        FileNotFoundError: if there is none.
        DamagedFile: if the file changed since, holds something else, or is of another version.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    content = path.read_bytes()
    try:
        tensors = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        about = json.loads(header["__metadata__"]["selftune"])
        tree = header["__metadata__"]["state"]
        there, written, checksum = about["kind"], about["format"], about["checksum"]
    except (SafetensorError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise DamagedFile(f"{path}: is damaged, or was not written by selftune ({_first_line(error)})") from error
    if checksum != _checksum(there, tree, tensors):
        raise DamagedFile(f"{path}: is damaged (its checksum differs)")
    if there != kind:
        raise DamagedFile(f"{path}: holds a {there} where a {kind} belongs")
    if written != (read := FORMATS.get(kind, 1)):
        raise DamagedFile(f"{path}: has format {written}, and this version of selftune reads {read}")
    try:
        return unpacked(json.loads(tree), tensors, given)
    except (LookupError, TypeError, ValueError) as error:
        raise DamagedFile(f"{path}: was written by another version of selftune ({_first_line(error)})") from error


def check_available(key: str) -> None:
    """Refuses a setting that leads to files of states where the package for them is missing.

    Raises:
        SettingError: with this key.
    """
    try:
        import safetensors  # noqa: F401
    except ModuleNotFoundError as error:
        raise SettingError(key, "needs the package safetensors for its files; install it with pip") from error


def _checksum(kind: str, tree: str, tensors: Mapping[str, Tensor]) -> str:
    checksum = hashlib.sha256(json.dumps([kind, tree]).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        checksum.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        checksum.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return checksum.hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]

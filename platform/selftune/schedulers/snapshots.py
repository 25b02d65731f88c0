"""Snapshots of Tune's that a driver which is killed leaves whole.

Tune writes its state into a folder on the driver's machine, and copies that into the run's folder from a thread
beside its loop, which goes on writing meanwhile. A driver that is killed while a file is copied leaves a part of
it: Tune then cannot read its searcher, say, and begins anew without a word.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any


class Snapshot:
    """What a folder holds at this moment, to be put elsewhere: its files are read at once, its folders are not.

    Args:
        folder: where Tune has written its state; the logs of trials are in folders inside it.

    >>> import tempfile
    >>> written, kept = Path(tempfile.mkdtemp()), Path(tempfile.mkdtemp())
    >>> _ = (written / "state.json").write_text("1")
    >>> snapshot = Snapshot(written)
    >>> _ = (written / "state.json").write_text("2")
    >>> snapshot.put(kept)
    >>> (kept / "state.json").read_text()
    '1'
    """

    def __init__(self, folder: Path) -> None:
        self._files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        self._logs = [path for path in folder.iterdir() if path.is_dir()]

    def __getstate__(self) -> dict[str, Any]:
        # Tune's state refers to the copy that was made last: without its content, or each would hold all before it
        return {"_files": {}, "_logs": []}

    def put(self, target: Path) -> None:
        """Puts it into a folder: every file there is the old one or the new one, and all change in an instant.

        Raises:
            OSError: if the folder cannot be written.
        """
        target.mkdir(parents=True, exist_ok=True)
        for logs in self._logs:
            shutil.copytree(logs, target / logs.name, dirs_exist_ok=True)
        temporary = {target / f".{name}.{os.getpid()}.partial": target / name for name in self._files}
        for written, content in zip(temporary, self._files.values(), strict=True):
            written.write_bytes(content)
        for written, path in temporary.items():
            os.replace(written, path)

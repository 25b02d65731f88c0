from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from selftune.storage.files import remove_leftovers, replacing


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_text("old")

    def write_half() -> None:
        with replacing(path) as temporary:
            temporary.write_text("ne")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    program = f"""
import os, pathlib
from selftune.storage.files import replacing
with replacing(pathlib.Path({str(tmp_path / "checkpoints" / "state")!r})) as temporary:
    temporary.write_text("half")
    os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 9
    mine = tmp_path / f".summary.json.{os.getpid()}.partial"
    mine.write_text("half")
    assert len(list(tmp_path.rglob("*.partial"))) == 2
    remove_leftovers(tmp_path)
    assert list(tmp_path.rglob("*.partial")) == [mine]

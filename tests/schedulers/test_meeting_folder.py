"""Folders in which workers meet do not outlive them."""

import os
import signal
import subprocess
import sys

import pytest

from selftune.schedulers.meeting_folder import MeetingFolder

HOLDS = """
import os, signal
from selftune.schedulers.meeting_folder import MeetingFolder
print(MeetingFolder().path, flush=True)
signal.pause()
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def test_a_folder_of_a_killed_process_goes_with_the_next_one(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLDS], stdout=subprocess.PIPE, text=True)
    held = process.stdout.readline().strip()
    first = MeetingFolder()
    assert {str(path) for path in tmp_path.iterdir()} == {held, str(first.path)}  # what is in use stays
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    second = MeetingFolder()
    assert set(tmp_path.iterdir()) == {first.path, second.path}
    first.remove()
    second.remove()
    second.remove()
    assert list(tmp_path.iterdir()) == []

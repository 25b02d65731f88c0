"""What runs on a cluster in place of `selftune run`: the same, again and again."""

import subprocess
import sys
from importlib.metadata import version

import pytest

from selftune.job_entrypoint import command

KILLED = """
import os, signal, sys
from pathlib import Path
log = Path({log!r})
log.write_text(log.read_text() + "began\\n" if log.exists() else "began\\n")
if log.read_text().count("began") < {deaths}:
    os.kill(os.getpid(), signal.{signal})
print(*sys.argv[1:])
sys.exit({status})
"""


@pytest.fixture
def run(tmp_path):
    """Carries a command out whose process is killed some times before it ends."""

    def run(deaths=1, signal="SIGKILL", status=0, restarts=2, arguments=("run", "study.yaml"), version=None):
        (tmp_path / "selftune").mkdir()
        script = KILLED.format(log=str(tmp_path / "log"), deaths=deaths, signal=signal, status=status)
        (tmp_path / "cli.py").write_text(script)
        line = command(restarts, arguments)[3:]
        if version is not None:
            line[1] = version
        called = (
            "import subprocess, sys, selftune.job_entrypoint as one\n"
            "popen = subprocess.Popen\n"
            f"script = {str(tmp_path / 'cli.py')!r}\n"
            "one.subprocess.Popen = lambda given: popen([sys.executable, script, *given[3:]])\n"
            "sys.exit(one.main(sys.argv[1:]))"
        )
        done = subprocess.run([sys.executable, "-c", called, *line], capture_output=True, text=True, timeout=100)
        began = (tmp_path / "log").read_text().count("began") if (tmp_path / "log").exists() else 0
        return done, began

    return run


def test_a_driver_that_is_killed_starts_again(run):
    done, began = run(deaths=3)
    assert (done.returncode, began) == (0, 3)
    assert "the driver was ended by SIGKILL; it starts again, 2 times at most" in done.stderr


def test_not_for_ever(run):
    done, began = run(deaths=100)
    assert (done.returncode, began) == (128 + 9, 3)


@pytest.mark.parametrize("status", [1, 2, 143])
def test_one_that_ends_by_itself_does_not(run, status):
    done, began = run(status=status)
    assert (done.returncode, began) == (status, 1)


def test_one_that_somebody_ends_does_not(run):
    done, began = run(deaths=100, signal="SIGTERM")
    assert (done.returncode, began) == (128 + 15, 1)


def test_another_version_is_a_sentence_and_nothing_runs(run):
    done, began = run(version="0.0.1")
    assert (done.returncode, began) == (2, 0)
    assert done.stderr == (
        f"selftune: the study was sent by version 0.0.1, and the cluster has {version('selftune')};"
        " install the same version on both\n"
    )


def test_a_folder_in_the_home_directory_is_that_of_the_cluster(run, monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    done, _ = run(arguments=["run", "study.yaml", "--output", "~/selftune/tiny"])
    assert done.stdout == "run study.yaml --output /home/somebody/selftune/tiny\n"

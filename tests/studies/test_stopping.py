"""SIGTERM: in this process, on Ray, while Ray starts, and to a process without a parent."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress

import pytest
from full_matrix import first_of

from selftune.studies.stopping import Stop, stoppable
from selftune.tracking.summary import read_summary

EARLY = """
import os, signal, sys
from ray._private.node import Node
def start_raylet(self, *arguments, **settings):  # the control store and others run by now
    os.killpg(0, signal.SIGTERM)
    raise AssertionError("went on")
Node.start_raylet = start_raylet
"""
LATE = """
import os, signal, sys
from selftune.tracking.trajectory import TrajectoryWriter
told = TrajectoryWriter.hyper_step
def hyper_step(self, step):
    told(self, step)
    if step.number == 2:
        os.killpg(0, signal.SIGTERM)
        if "0" in sys.argv:  # without grace: the timer of another thread is there before the next order
            signal.pause()
TrajectoryWriter.hyper_step = hyper_step
"""
RUN = """
from selftune.cli import main
sys.exit(main(["run", "tiny.yaml", "--no-mlflow", "--output", "out", *sys.argv[1:]]))
"""


def test_sigterm_is_an_interrupt_with_a_status_of_its_own():
    before = signal.getsignal(signal.SIGTERM)
    with stoppable() as stop:
        assert stop.status == 130
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        assert stop.status == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_who_answers_ctrl_c_answers_sigterm():
    heard = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        with stoppable() as stop:
            signal.raise_signal(signal.SIGTERM)
            assert (heard, stop.status) == ([signal.SIGINT], 143)
    finally:
        signal.signal(signal.SIGINT, before)


def test_where_ctrl_c_is_ignored_sigterm_is_not():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stoppable(), pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_are_left_alone():
    found = []

    def work():
        with stoppable() as stop:
            found.append(stop)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert isinstance(found[0], Stop)


@pytest.mark.timeout(300)  # a busy machine is no failure
@pytest.mark.parametrize(
    "case",
    first_of(
        [
            (LATE, [], "stopped after 3 hyper-steps", "stopped"),
            (LATE, ["--local", "--grace", "0"], "stopped", "interrupted"),
            (LATE, ["--local"], "stopped after 3 hyper-steps", "stopped"),
            (EARLY, [], "stopped", "interrupted"),
        ],
        always=2,
    ),
)
def test_a_study_that_gets_sigterm_says_how_to_go_on(case, study_file, monkeypatch):
    script, arguments, said, status = case
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with tempfile.TemporaryDirectory(prefix="s-", dir="/tmp") as place:  # short, for the names of sockets
        monkeypatch.setenv("RAY_TMPDIR", place)
        command = [sys.executable, "-c", script + RUN, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=250, start_new_session=True)
        assert os.listdir(place) == []  # the watchdog was there
    assert done.stderr == f"selftune: {said}; go on with `selftune resume out`\n"
    assert done.returncode == 143
    assert read_summary(study_file.parent / "out")["status"] == status


def test_a_study_without_a_parent_hears_sigterm_too(study_file):
    """Started in the background by a shell that is gone, it inherits that Ctrl-C is ignored."""
    endless = study_file.read_text().replace("steps: 60", "steps: 10000000")
    study_file.write_text(endless)
    command = (
        f"{sys.executable} -m selftune.cli run tiny.yaml --local --no-mlflow --output out 2> said > /dev/null"
    )
    pid = int(subprocess.run(["sh", "-c", f"{command} & echo $!"], stdout=subprocess.PIPE, check=True).stdout)
    try:
        wait_for(lambda: (study_file.parent / "out" / "trajectory.arrows").exists())
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: read_summary(study_file.parent / "out")["status"] == "stopped")
        wait_for(lambda: (study_file.parent / "said").read_text() != "")
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    said = (study_file.parent / "said").read_text()
    where = r"after \d+ (hyper-|training )steps?"
    assert re.fullmatch(rf"selftune: stopped {where}; go on with `selftune resume out`\n", said)


def wait_for(condition, seconds=100.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)

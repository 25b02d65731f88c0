"""Sessions in processes of their own: this one may be connected to the cluster of other tests."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import ray
from own_process import python

from selftune.schedulers import ray_internals, watchdog

SESSIONS = """\
import json, os, stat
from ray import _raylet
from selftune.schedulers import ray_internals
from selftune.schedulers.session import private_session

def token_mode():
    return _raylet.get_authentication_mode() == _raylet.AuthenticationMode.TOKEN

sessions = []
for _ in range(2):
    with private_session() as folder:
        path = folder.parent / "token"
        session = {
            "is its own": os.environ["RAY_AUTH_TOKEN_PATH"] == str(path),
            "modes": [oct(stat.S_IMODE(one.stat().st_mode)) for one in (folder.parent, path)],
            "token": path.read_text(),
            "asks": token_mode(),
        }
    sessions.append({**session, "is left": folder.parent.exists()})

theirs = {"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": "theirs", "RAY_AUTH_TOKEN_PATH": "/theirs"}
with ray_internals.authentication(theirs):
    with private_session():
        within = {**{name: os.environ.get(name) for name in theirs}, "asks": token_mode()}
    after = {**{name: os.environ.get(name) for name in theirs}, "asks": token_mode()}

os.environ["RAY_TMPDIR"] = os.path.join(os.getcwd(), "long" * 10)
with private_session() as folder:
    short = len(str(folder))
print(json.dumps({"sessions": sessions, "within": within, "after": after, "short": short}))
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What a process sees in its sessions."""
    return json.loads(python(SESSIONS, cwd=tmp_path_factory.mktemp("sessions")))


def test_a_session_has_a_token_of_its_own_that_only_its_user_can_read(seen):
    for session in seen["sessions"]:
        assert session["is its own"]
        assert session["asks"]
        assert not session["is left"]
        assert session["modes"] == ["0o700", "0o600"]
        assert len(session["token"]) == 64
    first, second = seen["sessions"]
    assert first["token"] != second["token"]


def test_settings_for_other_clusters_are_put_aside_and_come_back(seen):
    assert seen["within"]["RAY_AUTH_MODE"] == "token"
    assert seen["within"]["RAY_AUTH_TOKEN"] is None
    assert seen["within"]["asks"]
    theirs = {"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": "theirs", "RAY_AUTH_TOKEN_PATH": "/theirs"}
    assert seen["after"] == {**theirs, "asks": False}


def test_a_long_temporary_folder_leaves_room_for_the_names_of_sockets(seen):
    assert seen["short"] <= 42


def test_a_process_that_is_connected_keeps_its_token(monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    with (
        pytest.raises(RuntimeError, match="this process is connected to a Ray cluster"),
        ray_internals.authentication({"RAY_AUTH_TOKEN": "another"}),
    ):
        pass
    assert os.environ.get("RAY_AUTH_TOKEN") != "another"


def test_the_watchdog_ends_who_belongs_to_the_folder_when_the_driver_is_gone(tmp_path):
    folder = tmp_path / "session"
    folder.mkdir()
    (folder / "log").touch()
    sleeping = "import sys, time; file = open(sys.argv[1], sys.argv[2]); print('up', flush=True); time.sleep(600)"

    def start(mode, session=True, **environment):
        command = [sys.executable, "-IS", "-c", sleeping, str(folder / "log"), mode]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, start_new_session=session)
        process.stdout.readline()
        return process

    writer, heir = start("a"), start("r", **{watchdog.MARK: str(folder)})
    reader, stranger = start("r"), start("r", OTHER=f"{folder}/token")
    forked = start("a", session=False)  # it has a log of the driver's open
    spared = {"reader": reader, "stranger": stranger, "forked": forked}
    driver = (
        "import os, subprocess, sys\n"
        "dog, folder, session = sys.argv[1:]\n"
        "command = [sys.executable, '-IS', dog, folder, str(os.getpid()), session]\n"
        "dog = subprocess.Popen(command, stdin=subprocess.PIPE)\n"
        "if os.fork():\n"
        "    print('up', flush=True)\n"
        "sys.stdin.read()\n"  # the forked process outlives the driver, and keeps the watchdog's input open
    )
    process = subprocess.Popen(
        [sys.executable, "-IS", "-c", driver, watchdog.__file__, str(folder), str(os.getsid(0))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        process.stdout.readline()
        assert [one.poll() for one in (writer, heir, *spared.values())] == [None] * 5
        process.kill()
        assert writer.wait(timeout=60) == heir.wait(timeout=60) == -signal.SIGKILL
        deadline = time.monotonic() + 60
        while folder.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not folder.exists()
        assert {name: one.poll() for name, one in spared.items()} == dict.fromkeys(spared)
    finally:
        for one in (process, writer, heir, *spared.values()):
            one.kill()
            one.wait()
            one.stdout.close()
        process.stdin.close()


def test_a_session_leaves_alone_what_its_driver_started_and_forked(tmp_path):
    """In a process of its own, which a watchdog that did not spare its driver would kill."""
    script = """\
import os, subprocess, time
from selftune.schedulers.session import private_session
held = []
for _ in range(2):
    with private_session() as folder:
        folder.mkdir()
        held.append(open(folder / "log", "a"))
        started = subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL)
        apart = subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL, start_new_session=True)
        forked = os.fork()
        if not forked:
            os.close(1)
            time.sleep(600)
    try:
        assert not folder.exists()
        assert started.poll() is apart.poll() is None
        assert os.waitpid(forked, os.WNOHANG) == (0, 0)
    finally:
        for pid in (started.pid, apart.pid, forked):
            os.kill(pid, 9)
print("alive")
"""
    assert python(script, cwd=tmp_path) == "alive\n"

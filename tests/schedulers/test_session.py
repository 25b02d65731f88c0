import os
import stat
import subprocess
import sys
import time

import pytest
from ray import _raylet

from selftune.schedulers import ray_internals, watchdog
from selftune.schedulers.session import private_session


def token_mode():
    return _raylet.get_authentication_mode() == _raylet.AuthenticationMode.TOKEN


@pytest.fixture
def plain(monkeypatch):
    """No environment of the developer's."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_TMPDIR"):
        monkeypatch.delenv(name, raising=False)


def test_a_session_has_a_token_of_its_own_that_only_its_user_can_read(plain):
    tokens = set()
    for _ in range(2):
        with private_session() as folder:
            path = folder.parent / "token"
            assert os.environ["RAY_AUTH_TOKEN_PATH"] == str(path)
            assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert len(path.read_text()) == 64
            tokens.add(path.read_text())
            assert token_mode()
        assert not folder.parent.exists()
    assert len(tokens) == 2


def test_settings_for_other_clusters_are_put_aside_and_come_back():
    theirs = {"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": "theirs", "RAY_AUTH_TOKEN_PATH": "/theirs"}
    with ray_internals.authentication(theirs):
        with private_session():
            assert os.environ["RAY_AUTH_MODE"] == "token"
            assert "RAY_AUTH_TOKEN" not in os.environ
            assert token_mode()
        assert {name: os.environ.get(name) for name in theirs} == theirs
        assert not token_mode()


def test_a_long_temporary_folder_leaves_room_for_the_names_of_sockets(plain, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / ("long" * 10)))
    with private_session() as folder:
        assert len(str(folder)) <= 42


def test_the_watchdog_ends_who_belongs_to_the_folder_when_the_driver_is_gone(tmp_path):
    folder = tmp_path / "session"
    folder.mkdir()
    (folder / "log").touch()
    sleeping = "import sys, time; file = open(sys.argv[1], sys.argv[2]); print('up', flush=True); time.sleep(600)"

    def start(mode, **environment):
        command = [sys.executable, "-IS", "-c", sleeping, str(folder / "log"), mode]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
        process.stdout.readline()
        return process

    writer, reader = start("a"), start("r")
    stranger, heir = start("r", OTHER=str(tmp_path)), start("r", RAY_AUTH_TOKEN_PATH=f"{folder}/token")
    driver = (
        "import subprocess, sys\n"
        "dog = subprocess.Popen([sys.executable, '-IS', *sys.argv[1:]], stdin=subprocess.PIPE)\n"
        "print('up', flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-IS", "-c", driver, watchdog.__file__, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        process.stdout.readline()
        assert [one.poll() for one in (writer, heir, reader, stranger)] == [None] * 4
        process.kill()
        assert writer.wait(timeout=60) == heir.wait(timeout=60) == -9
        deadline = time.monotonic() + 60
        while folder.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not folder.exists()
        assert [one.poll() for one in (reader, stranger)] == [None] * 2
    finally:
        for one in (process, writer, reader, stranger, heir):
            one.kill()
            one.wait()
            one.stdout.close()
        process.stdin.close()


def test_a_driver_outlives_its_sessions_whatever_it_still_holds_of_them(plain):
    """In a process of its own, which a watchdog that did not spare its driver would kill."""
    script = (
        "from selftune.schedulers.session import private_session\n"
        "held = []\n"
        "for _ in range(2):\n"
        "    with private_session() as folder:\n"
        "        folder.mkdir()\n"
        "        held.append(open(folder / 'log', 'a'))\n"
        "    assert not folder.exists()\n"
        "print('alive')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr

import os
import signal
import subprocess
import sys

import pytest

from selftune.errors import Stopped
from selftune.studies import driver_record
from selftune.studies.driver import REQUEST, DriverSettings, held
from selftune.studies.driver_record import DRIVER, SILENCE, lives, read_driver
from selftune.studies.mistakes import UserError

DIES = """
import os, signal, sys
from pathlib import Path
from selftune.studies.driver import held
with held(Path(sys.argv[1])):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_driver_lives_and_says_how_it_ended(tmp_path):
    with held(tmp_path):
        record = read_driver(tmp_path)
        assert (record.process, lives(record, tmp_path)) == (os.getpid(), True)
    record = read_driver(tmp_path)
    assert (record.ended, lives(record, tmp_path)) == ("finished", False)


@pytest.mark.parametrize(
    ("error", "how"), [(Stopped(), "stopped"), (KeyboardInterrupt(), "interrupted"), (ArithmeticError(), "failed")]
)
def test_a_driver_that_breaks_off_says_so(error, how, tmp_path):
    def breaks_off():
        with held(tmp_path):
            raise error

    with pytest.raises(type(error)):
        breaks_off()
    assert read_driver(tmp_path).ended == how


def test_a_killed_driver_does_not_live_and_leaves_the_folder_free(tmp_path):
    assert subprocess.run([sys.executable, "-c", DIES, str(tmp_path)]).returncode == -signal.SIGKILL
    record = read_driver(tmp_path)
    assert (record.ended, lives(record, tmp_path)) == ("", False)
    with held(tmp_path):
        assert lives(read_driver(tmp_path), tmp_path)


def test_two_drivers_never_hold_one_folder(tmp_path):
    with held(tmp_path), pytest.raises(UserError, match="another process is running"), held(tmp_path):
        pytest.fail("held twice")


def test_on_another_machine_a_driver_lives_as_long_as_it_gives_signs(tmp_path, monkeypatch):
    with held(tmp_path):
        record = read_driver(tmp_path)
        monkeypatch.setattr(driver_record, "namespace", lambda: "elsewhere")
        assert lives(record, tmp_path)
        path = tmp_path / DRIVER
        long_ago = path.stat().st_mtime - 2 * SILENCE
        os.utime(path, (long_ago, long_ago))
        assert not lives(record, tmp_path)


def test_a_request_asks_the_driver_and_is_gone_after_it(tmp_path):
    with held(tmp_path) as driver:
        assert driver.asked() is False
    (tmp_path / REQUEST).touch()  # for a driver that is gone: the next one does not hear it
    with held(tmp_path) as driver:
        assert driver.asked() is False
    with held(tmp_path) as driver:
        (tmp_path / REQUEST).touch()
        assert driver.asked() is True
        assert driver.status == 0
    assert not (tmp_path / REQUEST).exists()


def test_what_stops_the_whole_stops_the_part(tmp_path):
    part = tmp_path / "part"
    part.mkdir()
    with held(tmp_path) as whole, held(part, within=whole) as driver:
        (tmp_path / REQUEST).touch()
        assert driver.asked() is True


def test_sigterm_asks_to_stop_with_its_own_status(tmp_path):
    def stops(driver):
        with driver.finishing():
            signal.raise_signal(signal.SIGTERM)
            assert driver.asked() is True
            raise Stopped("after 3 hyper-steps")

    before = signal.getsignal(signal.SIGTERM)
    with held(tmp_path) as driver, pytest.raises(Stopped) as stopped:
        stops(driver)
    assert stopped.value.status == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_sigterm_is_what_it_is_elsewhere(tmp_path):
    heard = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with held(tmp_path) as driver, driver.finishing():
            signal.raise_signal(signal.SIGTERM)
            assert heard == []
            signal.raise_signal(signal.SIGTERM)
            assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_after_the_grace_period_sigterm_is_what_it_is_elsewhere(tmp_path):
    heard = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with held(tmp_path, DriverSettings(grace=0.0)) as driver, driver.finishing():
            signal.raise_signal(signal.SIGTERM)
            while not heard:  # the timer's signal wakes it
                signal.sigtimedwait([], 5.0)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]

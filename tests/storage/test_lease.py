import dataclasses

import pytest

from selftune.errors import SettingError
from selftune.storage import lease as module
from selftune.storage.lease import SILENCE, Lease, LeaseLost, ask_to_stop, claims
from selftune.storage.remote_folder import RemoteFolder


@pytest.fixture
def folder(store):
    return RemoteFolder("flaky://bucket/run")


@pytest.fixture
def elsewhere(monkeypatch):
    """Owners count as processes of other machines, of which only the store tells."""
    monkeypatch.setattr(module, "namespace", lambda: "")


def later(monkeypatch, seconds):
    now = module.time.time
    monkeypatch.setattr(module.time, "time", lambda: now() + seconds)


def never(seconds):
    raise AssertionError("waits")


def test_of_two_processes_one_gets_the_right(folder):
    first = Lease(folder)
    first.acquire()
    with pytest.raises(SettingError, match=r"flaky://bucket/run: another process runs it: process .* on "):
        Lease(folder, never).acquire()
    assert first.renew() is False
    first.release()
    Lease(folder, never).acquire()


def test_who_comes_at_the_same_time_waits_for_the_other(folder):
    first, waits = Lease(folder), []
    folder.write(first._claim.file, module.json.dumps(dataclasses.asdict(first._claim)).encode())

    def wait(seconds):
        waits.append(seconds)
        first.release()  # it had seen the second one, and will come again

    Lease(folder, wait).acquire()
    assert len(waits) == 1


def test_who_is_silent_for_long_is_taken_over_and_learns_it(folder, elsewhere, monkeypatch):
    first, second = Lease(folder), Lease(folder, never)
    first.acquire()
    later(monkeypatch, SILENCE + 1)
    second.acquire()
    with pytest.raises(LeaseLost, match="another process went on with it"):
        first.renew()
    first._write(first._claim)  # it had looked before it was taken over
    assert second.renew() is False
    with pytest.raises(LeaseLost):
        first.renew()
    second.release()
    Lease(folder, never).acquire()


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when somebody waits for them."""
    now, monotonic = module.time.time, module.time.monotonic
    passed = []
    monkeypatch.setattr(module.time, "time", lambda: now() + sum(passed))
    monkeypatch.setattr(module.time, "monotonic", lambda: monotonic() + sum(passed))
    return passed


def test_who_starts_again_elsewhere_waits_for_an_owner_that_is_silent(folder, elsewhere, clock, caplog):
    Lease(folder).acquire()  # and its machine is gone
    again = Lease(folder, clock.append)
    again.outlive()
    again.acquire()
    assert SILENCE - 1 <= sum(clock) <= SILENCE + 2
    assert "waiting whether it lives" in caplog.text


def test_who_starts_again_elsewhere_does_not_wait_for_an_owner_that_lives(folder, elsewhere, clock):
    first = Lease(folder)
    first.acquire()

    def wait(seconds):
        clock.append(seconds)
        if sum(clock) >= 5:
            first.renew()

    again = Lease(folder, wait)
    again.outlive()
    assert sum(clock) <= 6
    with pytest.raises(SettingError, match="another process runs it"):
        again.acquire()


def test_who_starts_again_waits_for_nobody_where_nobody_was_or_on_the_same_machine(folder):
    Lease(folder, never).outlive()
    Lease(folder).acquire()
    Lease(folder, never).outlive()


def test_a_process_of_this_machine_that_is_gone_is_taken_over_at_once(folder):
    gone = Lease(folder)
    gone._claim = dataclasses.replace(gone._claim, process=2**22 + 1)  # larger than any
    gone.acquire()
    Lease(folder, never).acquire()
    assert len(claims(folder)) == 1


def test_the_right_is_looked_after_before_writing_once_it_is_old(folder, elsewhere, monkeypatch):
    first = Lease(folder)
    first.acquire()
    later(monkeypatch, SILENCE + 1)
    Lease(folder, never).acquire()
    first.check()  # renewed a moment ago
    first._renewed -= SILENCE
    with pytest.raises(LeaseLost):
        first.check()


def test_an_owner_hears_that_it_is_to_stop(folder, monkeypatch):
    monkeypatch.setattr(module, "RENEWAL", 0.01)
    lease, heard = Lease(folder), module.threading.Event()
    lease.acquire()
    with lease.kept(heard.set, lambda error: None):
        ask_to_stop(folder)
        assert heard.wait(60)
    assert not module.is_asked(folder)


def test_an_owner_hears_that_another_one_took_over(folder, elsewhere, monkeypatch):
    monkeypatch.setattr(module, "RENEWAL", 0.01)
    lease, heard = Lease(folder), module.threading.Event()
    lease.acquire()
    folder.delete(lease._claim.file)
    with lease.kept(lambda: None, lambda error: heard.set()):
        assert heard.wait(60)


def test_a_store_that_is_away_for_a_while_costs_no_right(folder, store, monkeypatch):
    monkeypatch.setattr(module, "RENEWAL", 0.01)
    lease, lost = Lease(folder), []
    lease.acquire()
    with lease.kept(lambda: None, lost.append):
        store.is_away = True
        with pytest.raises(OSError, match="network is down"):
            lease.renew()
        store.is_away = False
        assert lease.renew() is False
    assert not lost

import time

import pytest

from selftune.errors import SettingError
from selftune.storage import lease
from selftune.storage.lease import Lease, claims
from selftune.storage.remote_folder import RemoteFolder
from selftune.storage.working_copy import UploadFailed, place_of, working_copy


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def remote(store):
    return RemoteFolder("flaky://bucket/run")


def copy(remote, seconds=60.0, every=0.01):
    return working_copy(remote, lambda folder: (folder / "stop.request").touch(), lambda error: seconds, every)


def write(remote, name, text, seconds=60.0, and_then=lambda folder: None):
    with copy(remote, seconds) as folder:
        (folder / name).write_text(text)
        and_then(folder)


def test_what_is_written_is_in_the_store_and_on_a_fresh_machine(remote, monkeypatch, cache):
    with copy(remote) as folder:
        assert folder.name == "run"
        (folder / "study.yaml").write_text("a")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache / "another"))
    with copy(remote) as folder:
        assert (folder / "study.yaml").read_text() == "a"
        (folder / "summary.json").write_text("b")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache / "cache"))
    with copy(remote) as folder:  # the copy of the first machine is older by now
        assert (folder / "summary.json").read_text() == "b"


def test_a_copy_that_is_newer_than_the_store_is_gone_on_with(remote, store):
    def goes_away(folder):
        store.is_away = True

    message = r"network is down; the end of the run is in .* `selftune resume flaky:"
    with pytest.raises(UploadFailed, match=message):
        write(remote, "study.yaml", "a", 0.1, goes_away)
    store.is_away = False
    assert "study.yaml" not in remote.files()
    for name in claims(remote):  # its process has ended
        remote.delete(name)
    with copy(remote) as folder:
        assert (folder / "study.yaml").read_text() == "a"
    assert remote.read("study.yaml") == b"a"


def test_an_owner_that_did_not_get_as_far_as_the_store_keeps_the_copy_of_the_one_before(
    remote, store, monkeypatch
):
    with copy(remote) as folder:
        (folder / "study.yaml").write_text("a")
    (folder / "later").write_text("of an end that was not brought over")
    writes = remote.write

    def fails(name, content):
        if name.endswith("last"):
            raise OSError("flaky://bucket/run: the network is down")
        writes(name, content)

    monkeypatch.setattr(remote, "write", fails)
    with pytest.raises(SettingError, match="network is down"), copy(remote):
        raise AssertionError("begins")
    monkeypatch.setattr(remote, "write", writes)
    with copy(remote) as folder:
        assert (folder / "later").is_file()


def test_an_error_of_the_run_comes_out_once_the_store_has_what_it_left(remote):
    def stops(folder):
        raise KeyboardInterrupt("stopped")

    with pytest.raises(KeyboardInterrupt, match="stopped"):
        write(remote, "summary.json", "a", and_then=stops)
    assert remote.read("summary.json") == b"a"


def test_nothing_is_left_where_nothing_began(remote):
    with pytest.raises(RuntimeError, match="refused"), copy(remote):
        raise RuntimeError("refused")
    assert remote.files() == {}


def test_a_store_that_is_away_or_a_folder_that_is_taken_is_one_sentence(remote, store):
    with copy(remote), pytest.raises(SettingError, match="another process runs it"), copy(remote):
        raise AssertionError("begins")
    store.is_away = True
    with pytest.raises(SettingError, match="network is down"), copy(remote):
        raise AssertionError("begins")


def test_who_was_taken_over_while_the_store_was_away_is_asked_to_stop(remote, store, monkeypatch):
    monkeypatch.setattr(lease, "RENEWAL", 0.01)
    monkeypatch.setattr(lease, "namespace", lambda: "")

    def is_taken_over(folder):
        for name in [*store.store]:
            if ".lease/" in name and name.endswith(".json"):
                del store.store[name]
        store.is_away = False
        deadline = time.monotonic() + 60
        while not (folder / "stop.request").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def run():
        with copy(remote) as folder:
            store.is_away = True
            (folder / "summary.json").write_text("of the old one")
            is_taken_over(folder)

    with pytest.raises(
        UploadFailed, match=r"another process went on with it.*what this one wrote meanwhile is in"
    ):
        run()
    assert "summary.json" not in remote.files()


def test_addresses_have_places_of_their_own_and_secrets_are_in_none(store):
    places = [
        place_of(RemoteFolder(f"flaky://{user}bucket/{name}")) for user in ("", "me:s3cret@") for name in "ab"
    ]
    assert len({*places}) == 4
    assert not [place for place in places if "s3cret" in str(place)]


def test_the_right_is_given_back(remote):
    with copy(remote):
        pass
    Lease(remote).acquire()

import os
import time

import pytest

from selftune.storage.lag import behind, note_whole
from selftune.storage.lease import LeaseLost
from selftune.storage.mirror import Mirror, fetch
from selftune.storage.remote_folder import RemoteFolder


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


@pytest.fixture
def remote(store):
    return RemoteFolder("flaky://bucket/run")


def contents(remote):
    return {name: remote.read(name).decode() for name in remote.files()}


def write(folder, **contents):
    for name, text in contents.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(exist_ok=True)
        new = path.with_name(f".{path.name}.new.partial")
        new.write_text(text)
        os.replace(new, path)


def until(holds, seconds=60):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_changes_is_brought_over_and_nothing_else(folder, remote, store):
    mirror = Mirror(folder, remote)
    write(folder, study_yaml="a", summary_json="b")
    mirror.bring()
    assert contents(remote) == {"study.yaml": "a", "summary.json": "b"}
    store.writes.clear()
    write(folder, summary_json="c")
    mirror.bring()
    mirror.bring()
    assert store.writes == ["summary.json"]
    (folder / "summary.json").unlink()
    mirror.bring()
    assert contents(remote) == {"study.yaml": "a"}


def test_what_others_rely_on_is_there_first_and_leaves_last(folder, remote, store):
    mirror = Mirror(folder, remote)
    names = {"started_json": "", "study_yaml": "", "rows_parquet": "", "rows_arrows": "", "summary_json": ""}
    write(folder, **names, network__one="")
    mirror.bring()
    assert store.writes == [
        "started.json",
        "study.yaml",
        "network/one",
        "rows.parquet",
        "rows.arrows",
        "summary.json",
    ]
    seen = []
    (folder / "network" / "one").unlink()
    write(folder, summary_json="names another")
    delete = remote.delete_folder
    remote.delete_folder = lambda name: (seen.append((name, remote.read("summary.json"))), delete(name))
    mirror.bring()
    assert seen == [("network", b"names another")]
    assert "network/one" not in remote.files()


def test_a_pass_that_a_store_breaks_off_leaves_what_a_kill_might_and_the_next_ends_it(folder, remote, store):
    """Whatever write is the first to fail, the table's two files and the record fit together."""
    write(folder, rows_parquet="1", rows_arrows="after 1", summary_json="1")
    Mirror(folder, remote).bring()
    for broken in range(3):
        mirror = Mirror(folder, remote, known=["rows.parquet", "rows.arrows", "summary.json"])
        now = str(broken + 2)
        write(folder, rows_parquet=now, rows_arrows=f"after {now}", summary_json=now)
        left = broken

        def check():
            nonlocal left
            store.is_away = left == 0
            left -= 1

        mirror._check = check
        with pytest.raises(OSError, match="network is down"):
            mirror.bring()
        store.is_away = False
        there = contents(remote)
        assert there["summary.json"] <= there["rows.arrows"].removeprefix("after ") <= there["rows.parquet"]
        mirror._check = lambda: None
        mirror.bring()
        assert contents(remote) == {"rows.parquet": now, "rows.arrows": f"after {now}", "summary.json": now}


def test_a_store_that_is_slow_or_away_holds_nobody_up(folder, remote, store, caplog):
    mirror = Mirror(folder, remote, every=0.01)
    store.held.clear()
    write(folder, summary_json="1")
    mirror.start()
    for number in range(2, 10):
        write(folder, summary_json=str(number))
    store.is_away = True
    store.held.set()
    until(lambda: mirror.error is not None)
    assert "network is down; the run goes on, and what it writes is kept in" in caplog.text
    before = behind(folder)
    until(lambda: behind(folder) > before)
    store.is_away = False
    assert mirror.finish(60)
    assert behind(folder) is None, "it has all of it"
    assert contents(remote) == {"summary.json": "9"}
    assert "answers again" in caplog.text
    assert mirror.error is None


def test_the_end_waits_no_longer_than_it_is_told_and_nothing_is_written_later(folder, remote, store):
    mirror = Mirror(folder, remote, every=0.01)
    store.held.clear()
    write(folder, summary_json="1", study_yaml="1")
    mirror.start()
    assert not mirror.finish(0.1)
    store.held.set()
    assert mirror._ended.wait(60)
    assert "summary.json" not in remote.files()


def test_who_has_lost_the_right_writes_nothing(folder, remote):
    def check():
        raise LeaseLost("another process went on with it")

    mirror = Mirror(folder, remote, check, every=0.01)
    write(folder, summary_json="1")
    mirror.start()
    assert not mirror.finish(60)
    assert str(mirror.lost) == "another process went on with it"
    assert remote.files() == {}


def test_a_folder_that_is_fetched_is_as_the_store_has_it(folder, remote, tmp_path):
    write(folder, study_yaml="a", logs__driver_log="b")
    Mirror(folder, remote).bring()
    remote.write(".lease/last", b"token")
    there = tmp_path / "there"
    there.mkdir()
    (there / "stale").write_text("")
    assert sorted(fetch(remote, there)) == ["logs/driver.log", "study.yaml"]
    found = {str(path.relative_to(there)) for path in there.rglob("*") if path.is_file()}
    assert found == {"logs/driver.log", "study.yaml"}


def test_a_store_that_answers_is_not_behind(folder, remote):
    note_whole(folder, time.time() - 3600)  # of a driver before
    mirror = Mirror(folder, remote, every=0.01)
    write(folder, summary_json="1")
    mirror.start()
    until(lambda: behind(folder) < 60 and "summary.json" in remote.files())
    first = (folder.parent / ".store").read_text()
    until(lambda: (folder.parent / ".store").read_text() != first)
    assert mirror.finish(60)
    assert behind(folder) is None

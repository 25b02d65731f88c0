import os

import pytest

from selftune.storage import capture as module
from selftune.storage.capture import Restless, capture, signature


@pytest.fixture
def folders(tmp_path):
    folder, into = tmp_path / "run", tmp_path / "into"
    folder.mkdir()
    into.mkdir()
    return folder, into


def test_what_belongs_to_a_run_is_captured_and_what_relies_on_others_comes_first(folders):
    folder, into = folders
    for name in (
        "study.yaml",
        "summary.json",
        "rows.arrows",
        "rows.parquet",
        "checkpoints/a.safetensors",
        ".lock",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    found = capture(folder, into, {})
    assert [one.name for one in sorted(found.changed, key=lambda one: (one.kind, one.name))] == [
        "checkpoints/a.safetensors",
        "summary.json",
        "rows.arrows",
        "rows.parquet",
        "study.yaml",
    ]
    assert all(one.path.read_text() == one.name for one in found.changed)
    assert found.names == {one.name for one in found.changed}


def test_what_is_known_is_named_and_not_kept(folders):
    folder, into = folders
    (folder / "a").write_text("a")
    (folder / "b").write_text("b")
    found = capture(folder, into, {"a": signature(folder / "a")})
    assert found.names == {"a", "b"}
    assert [one.name for one in found.changed] == ["b"]


def test_a_file_that_is_replaced_or_longer_later_stays_as_it_was(folders):
    folder, into = folders
    (folder / "checkpoint").write_text("old")
    (folder / "rows.arrows").write_text("one")
    found = {one.name: one for one in capture(folder, into, {}).changed}
    (folder / "new").write_text("new")
    os.replace(folder / "new", folder / "checkpoint")
    with (folder / "rows.arrows").open("a") as rows:
        rows.write("two")
    assert found["checkpoint"].path.read_text() == "old"
    rows = found["rows.arrows"]
    assert rows.path.read_bytes()[: rows.size] == b"one"


def replaced(path, text):
    new = path.with_name(".new.partial")
    new.write_text(text)
    os.replace(new, path)


def test_a_record_that_was_replaced_meanwhile_is_captured_anew_with_what_it_names(folders, monkeypatch):
    folder, into = folders
    (folder / "checkpoints").mkdir()
    replaced(folder / "checkpoints" / "a.safetensors", "names 1")
    (folder / "1").write_text("1")
    kept = module._kept

    def and_then(*arguments):
        found = kept(*arguments)
        if (folder / "1").exists():  # the run goes on, once
            (folder / "2").write_text("2")
            replaced(folder / "checkpoints" / "a.safetensors", "names 2")
            (folder / "1").unlink()
        return found

    monkeypatch.setattr(module, "_kept", and_then)
    found = {one.name: one.path.read_text() for one in capture(folder, into, {}).changed}
    assert found == {"checkpoints/a.safetensors": "names 2", "2": "2"}


def test_a_folder_that_never_rests_is_left_for_the_next_time(folders, monkeypatch):
    folder, into = folders
    kept = module._kept

    def and_then(*arguments):
        found = kept(*arguments)
        replaced(folder / "summary.json", "again")
        return found

    replaced(folder / "summary.json", "first")
    monkeypatch.setattr(module, "_kept", and_then)
    with pytest.raises(Restless):
        capture(folder, into, {})
    assert not [path for path in into.rglob("*") if path.is_file()]


def test_a_disk_without_links_gets_copies(folders, monkeypatch):
    folder, into = folders
    (folder / "a").write_text("a")

    def refuses(*arguments):
        raise PermissionError

    monkeypatch.setattr(os, "link", refuses)
    [one] = capture(folder, into, {}).changed
    assert one.path.read_text() == "a"
    assert one.signature == signature(folder / "a")

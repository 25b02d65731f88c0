import fcntl

import pytest

from selftune.studies.folder import LOCK, STUDY_FILE, held, is_local, new_folder, open_folder
from selftune.studies.mistakes import UserError
from selftune.studies.study import parse_study
from selftune.tracking.summary import write_summary


@pytest.fixture
def study(study_text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return parse_study(study_text)


def test_default_folders_count_up(study):
    folders = [new_folder(study, None, local=True) for _ in range(3)]
    assert [str(folder) for folder in folders] == ["runs/tiny-1", "runs/tiny-2", "runs/tiny-3"]
    assert (folders[0] / STUDY_FILE).read_text() == study.text
    assert is_local(folders[0])
    assert not is_local(new_folder(study, None, local=False))


def test_a_given_folder_may_be_absent_or_empty(study, tmp_path):
    new_folder(study, tmp_path / "a" / "b", local=True)
    (tmp_path / "c").mkdir()
    folder = new_folder(study, tmp_path / "c", local=True)
    opened, summary = open_folder(folder)
    assert opened.space == study.space
    assert summary == {}


@pytest.mark.parametrize(
    ("status", "fragment"),
    [
        (None, "unfinished; continue it with `selftune resume"),
        ("finished", "finished; see it with `selftune report"),
    ],
)
def test_a_folder_that_holds_the_study(study, tmp_path, status, fragment):
    folder = new_folder(study, tmp_path / "out", local=True)
    if status:
        write_summary(folder, {"status": status})
    with pytest.raises(UserError, match=fragment):
        new_folder(study, folder, local=True)


def test_a_folder_that_holds_something_else(study, study_text, tmp_path):
    folder = new_folder(study, tmp_path / "out", local=True)
    other = parse_study(study_text.replace("seed: 0", "seed: 1"))
    with pytest.raises(UserError, match="holds another study; choose another folder"):
        new_folder(other, folder, local=True)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "todo.txt").write_text("write")
    with pytest.raises(UserError, match="is not empty and holds no study"):
        new_folder(study, tmp_path / "notes", local=True)
    with pytest.raises(UserError, match="is a file"):
        new_folder(study, tmp_path / "notes" / "todo.txt", local=True)
    with pytest.raises(UserError, match="cannot be written: not a directory"):
        new_folder(study, tmp_path / "notes" / "todo.txt" / "below", local=True)
    assert [path.name for path in (tmp_path / "notes").iterdir()] == ["todo.txt"]


@pytest.mark.parametrize(("name", "fragment"), [("empty", "holds no study"), ("absent", "is not a folder")])
def test_opening_what_is_no_study(tmp_path, name, fragment):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=fragment):
        open_folder(tmp_path / name)


def test_one_process_at_a_time(tmp_path):
    with held(tmp_path), pytest.raises(UserError, match="another process is running"), held(tmp_path):
        pass
    with (tmp_path / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

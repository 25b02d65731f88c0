import fcntl

import pytest

from selftune.studies.driver import LOCK, held
from selftune.studies.folder import STUDY_FILE, is_local, new_folder, open_folder
from selftune.studies.mistakes import UserError
from selftune.studies.study_file import parse_study
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


# What may change between a start and a resume ---------------------------------------------------------


def edited(folder, before, after):
    file = folder / STUDY_FILE
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))


@pytest.mark.parametrize(
    ("before", "after", "key"),
    [
        ("seed: 0", "seed: 1", "seed: was 0 when the study was started, now it is 1"),
        ("seed: 0\n", "", "seed: was 0 when the study was started, now it is nothing"),
        ("hidden: [16]", "hidden: [17]", "objective.hidden.0: was 16"),
        ("rate: {start: 0.1}", "rate: {start: 0.2}", "regularizers.dropout.rate.start: was 0.1"),
        ("warmup_steps: 10", "warmup_steps: 11", "method.warmup_steps: was 10"),
        ("number: 1,", "number: 2,", "trainers.number: was 1"),
        ("steps: 60", "steps: 59", "budget.steps: was 60"),
        ("steps: 60", "seconds: 60", "budget.seconds: was nothing"),
    ],
)
def test_an_edited_study_is_refused_with_its_key(study, tmp_path, before, after, key):
    folder = new_folder(study, tmp_path / "out", local=True)
    edited(folder, before, after)
    with pytest.raises(UserError, match=rf"study\.yaml: {key}"):
        open_folder(folder)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("steps: 60", "steps: 80"),
        ("cpus: 1", "cpus: 2"),
        ("cpus: 1", "cpus: 1, hang_after: 60"),
        ("seed: 0", "# a remark\nseed: 0"),
        ("1e-4", "0.0001"),
    ],
)
def test_what_may_change_in_a_study(study, tmp_path, before, after):
    folder = new_folder(study, tmp_path / "out", local=True)
    edited(folder, before, after)
    assert open_folder(folder)[0].text == (folder / STUDY_FILE).read_text()


def test_no_budget_grows_once_tuning_has_ended_and_no_trial_of_ray_changes_its_cpus(study, tmp_path):
    folder = new_folder(study, tmp_path / "out", local=False)
    edited(folder, "cpus: 1", "cpus: 2")
    with pytest.raises(UserError, match=r"trainers\.cpus: was 1"):
        open_folder(folder)
    edited(folder, "cpus: 2", "cpus: 1")
    edited(folder, "steps: 60", "steps: 80")
    write_summary(folder, {"status": "interrupted", "tuned": {"validation_loss": 1.0}})
    with pytest.raises(UserError, match=r"budget\.steps: was 60"):
        open_folder(folder)


@pytest.mark.parametrize("local", [True, False])
def test_a_study_goes_on_where_it_was_started(study, tmp_path, local):
    folder = new_folder(study, tmp_path / "out", local=local)
    (folder / "checkpoints").mkdir()
    assert is_local(folder) is local
    (folder / "checkpoints").rmdir()
    assert is_local(folder) is local
    (folder / "started.json").unlink()
    with pytest.raises(UserError, match=r"started\.json: is missing"):
        is_local(folder)

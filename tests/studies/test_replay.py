import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from selftune.errors import SettingError
from selftune.schedule import Schedule
from selftune.storage.checked_json import read_json
from selftune.studies.folder import new_folder
from selftune.studies.horizon import END, SCHEDULE
from selftune.studies.mistakes import UserError
from selftune.studies.replay import START, replay, same_network
from selftune.studies.run import run
from selftune.studies.segments import segments
from selftune.studies.study_file import parse_study
from selftune.tracking.trajectory import read_trajectory


@pytest.fixture(scope="module")
def folder(tmp_path_factory, study_text):
    study = parse_study(study_text)
    folder = new_folder(study, tmp_path_factory.mktemp("replay") / "out", local=True)
    run(study, folder, quiet(), local=True, mlflow=False)
    return folder


def quiet():
    return Console(file=io.StringIO())


def test_the_schedule_starts_where_the_study_started(folder):
    schedule = segments(Schedule.load(folder))
    assert [segment.training_step for segment in schedule] == list(range(15, 61, 5))
    torch.testing.assert_close(schedule[0].values, torch.tensor([0.1, 1e-4, 1e-4]))
    assert all(segment.values.dtype == torch.float32 for segment in schedule)


def test_the_saved_schedule_is_the_trajectory(folder):
    trajectory, schedule = read_trajectory(folder), Schedule.load(folder)
    for step, row in ((0, 0), (14, 0), (15, 1), (59, -1), (60, -1)):
        assert list(schedule.at(step).values()) == trajectory.values[row].tolist()


def test_ten_lines_without_selftune_follow_it(folder, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "schedules.md").read_text()
    snippet = next(text for text in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "bisect" in text)
    monkeypatch.chdir(folder)
    found = {}
    exec(snippet, found)
    assert all(found["at"](step) == Schedule.load(folder).at(step) for step in range(70))


def test_the_schedule_gives_the_tuned_network_bit_for_bit(folder):
    results, *_ = replay(folder, quiet())
    assert same_network(folder)
    summary = json.loads((folder / "summary.json").read_text())
    assert results[SCHEDULE] == summary["tuned"]
    assert results[START] == summary["fixed"]
    assert results[END] not in (results[SCHEDULE], results[START])
    assert read_json(folder / "replay.json") == {
        "seeds": 1,
        "results": results,
        "spread": {row: {} for row in results},
    }


def test_the_last_values_held(folder):
    results, spreads, _ = replay(folder, quiet(), final=True, seeds=2)
    assert list(results) == [END]
    assert set(spreads[END]) == set(results[END])
    assert all(spread > 0 for spread in spreads[END].values())
    once, *_ = replay(folder, quiet(), final=True)
    assert results[END] != once[END]
    assert isinstance(torch.load(folder / "network_final.pt", weights_only=False), torch.nn.Module)


def test_rows_of_an_earlier_replay_stay(folder):
    both, *_ = replay(folder, quiet())
    again, *_ = replay(folder, quiet(), final=True)
    assert json.loads((folder / "replay.json").read_text())["results"] == both | again
    assert set(both) > {SCHEDULE, END}


def test_what_cannot_be_replayed(study_text, tmp_path):
    with pytest.raises(UserError, match="is not a folder"):
        replay(tmp_path / "absent", quiet())
    empty = new_folder(parse_study(study_text), tmp_path / "empty", local=True)
    with pytest.raises(UserError, match="nothing has been tuned yet; continue it with `selftune resume"):
        replay(empty, quiet())


def test_another_schedule_is_followed_over_its_own_steps_and_nothing_is_kept(folder, tmp_path):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    Schedule.load(folder).stretched(20).save(tmp_path / "short.json")
    results, *_ = replay(folder, quiet(), schedule=tmp_path / "short.json")
    assert list(results) == [SCHEDULE, END, START]
    assert len({measures["test_loss"] for measures in results.values()}) == 3
    same, *_ = replay(folder, quiet(), schedule=folder)
    assert same[SCHEDULE] == json.loads((folder / "summary.json").read_text())["tuned"]
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_schedule_of_other_hyperparameters_is_refused_before_anything_trains(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("selftune.studies.replay_training.run_in_process", None)
    other = tmp_path / "other.json"
    Schedule(("mixup.alpha",), np.array([10]), np.ones((1, 1)), ((0.0, np.inf),)).save(other)
    with pytest.raises(SettingError, match=r"other\.json: is one of other hyperparameters: .* moves mixup"):
        replay(folder, quiet(), schedule=other)

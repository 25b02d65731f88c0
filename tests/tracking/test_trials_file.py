"""What of a search's trials is in its folder, after kills, resumes and damage."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic_trials import SPACE, records, settings, tell

from selftune.search import TrialRecord
from selftune.storage.files import DamagedFile
from selftune.tracking.trials_file import TRIALS_FILE, TrialsWriter, read_trials

HEARD = records(8)


def writer(folder: Path) -> TrialsWriter:
    return TrialsWriter(folder, SPACE, settings())


def standing(heard: list[TrialRecord]) -> dict[int, TrialRecord]:
    return {record.number: record for record in heard}


def test_everything_that_was_heard_is_read(tmp_path: Path) -> None:
    tell(writer(tmp_path), HEARD)
    trials = read_trials(tmp_path)
    assert list(trials.records) == HEARD
    assert trials.space == SPACE
    assert trials.settings == settings()


def test_lines_are_plain_json(tmp_path: Path) -> None:
    tell(writer(tmp_path), HEARD)
    first = json.loads((tmp_path / TRIALS_FILE).read_text().splitlines()[0])
    assert first["number"] == 0
    assert first["values"] == HEARD[0].values


def test_values_that_samplers_draw_and_measures_that_are_no_numbers(tmp_path: Path) -> None:
    drawn = TrialRecord(0, {"a": np.float32(0.5), "b": np.int64(3), "c": np.bool_(True)})
    diverged = replace(drawn, measures={"validation_loss": math.nan, "validation_error": math.inf})
    tell(writer(tmp_path), [drawn, diverged])
    first, second = read_trials(tmp_path).records
    assert first.values == {"a": 0.5, "b": 3, "c": True}
    assert math.isnan(second.measures["validation_loss"])
    assert second.measures["validation_error"] == math.inf


def test_a_kill_loses_nothing_and_a_torn_line_is_cut(tmp_path: Path) -> None:
    one = writer(tmp_path)
    one.resumed({})
    for record in HEARD[:20]:
        one.heard(record)
    with (tmp_path / TRIALS_FILE).open("ab") as file:
        file.write(b'{"number": 3, "val')
    assert list(read_trials(tmp_path).records) == HEARD[:20]
    again = writer(tmp_path)
    again.resumed(standing(HEARD[:20]))
    again.heard(HEARD[20])
    assert list(read_trials(tmp_path).records) == HEARD[:21]


@pytest.mark.parametrize("at", [1, 9, 30])
def test_what_a_resumed_search_does_not_have_behind_it_is_void(tmp_path: Path, at: int) -> None:
    tell(writer(tmp_path), HEARD)
    again = writer(tmp_path)
    again.resumed(standing(HEARD[:at]))
    assert list(read_trials(tmp_path).records) == HEARD[:at]


def test_a_search_may_stand_otherwise_than_any_line_says(tmp_path: Path) -> None:
    """A trial that was running when the state was kept waits for its place now."""
    tell(writer(tmp_path), HEARD)
    stood = standing(HEARD[:20])
    stood[0] = replace(stood[0], status="paused")
    writer(tmp_path).resumed(stood)
    trials = read_trials(tmp_path)
    assert trials.last == stood
    assert trials.curves[0].training_step[-1] == stood[0].training_step


def test_a_new_search_starts_anew(tmp_path: Path) -> None:
    tell(writer(tmp_path), HEARD)
    writer(tmp_path).resumed({})
    assert read_trials(tmp_path).records == ()


@pytest.mark.parametrize("name", [TRIALS_FILE, "search.json"])
def test_damage_is_noticed(tmp_path: Path, name: str) -> None:
    tell(writer(tmp_path), HEARD)
    path = tmp_path / name
    text = path.read_text()
    path.write_text(text.replace("0.", "1.", 1))
    with pytest.raises(DamagedFile, match=name):
        read_trials(tmp_path)


def test_lines_that_are_gone_are_noticed(tmp_path: Path) -> None:
    tell(writer(tmp_path), HEARD)
    (tmp_path / TRIALS_FILE).unlink()
    with pytest.raises(DamagedFile, match=r"lacks trial 0"):
        writer(tmp_path).resumed(standing(HEARD))


def test_a_folder_without_a_search(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_trials(tmp_path)

"""``selftune schedule``: one schedule of several."""

import numpy as np
import pytest

from selftune import Schedule
from selftune.cli import main


@pytest.fixture
def sources(tmp_path):
    made = []
    for number, value in enumerate((0.01, 0.1, 1.0)):
        values = np.array([[value], [2 * value]])
        schedule = Schedule(("weight_decay.strength",), np.array([10, 20]), values, ((0.0, np.inf),))
        made.append(tmp_path / f"run-{number}" / "schedule.json")
        made[-1].parent.mkdir()
        schedule.save(made[-1])
    return made


def test_folders_and_files_are_stretched_averaged_and_smoothed(sources, tmp_path, capsys):
    out = tmp_path / "long.json"
    arguments = [
        "schedule",
        *map(str, [sources[0].parent, *sources[1:]]),
        "--stretch",
        "200",
        "--output",
        str(out),
    ]
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert told == f"{out}: the mean of 3 schedules of 1 hyperparameter over 200 training steps\n"
    made = Schedule.load(out)
    assert made.ends.tolist() == [100, 200]
    np.testing.assert_allclose(made.values, [[0.1], [0.2]])
    assert main([*arguments, "--smooth", "100"]) == 0
    smooth = Schedule.load(out)
    expected = Schedule.mean([Schedule.load(source).stretched(200) for source in sources]).smoothed(100)
    np.testing.assert_array_equal(smooth.values, expected.values)


def test_what_does_not_fit_is_one_sentence_and_writes_nothing(sources, tmp_path, capsys):
    other = tmp_path / "other.json"
    Schedule(("mixup.alpha",), np.array([10, 20]), np.ones((2, 1)), ((0.0, np.inf),)).save(other)
    longer = tmp_path / "longer.json"
    Schedule.load(sources[0]).stretched(30).save(longer)
    for second, sentence in (
        (other, f"{other}: compared with {sources[0]}, is one of other hyperparameters: it lacks weight_decay"),
        (longer, "schedules: differ in bounds or length; stretch them to one number of steps first"),
        (tmp_path / "none.json", "is not there; give a schedule.json, or a folder that holds one"),
    ):
        assert main(["schedule", str(sources[0]), str(second), "--output", str(tmp_path / "out.json")]) == 2
        (said,) = capsys.readouterr().err.splitlines()
        assert sentence in said
        assert not (tmp_path / "out.json").exists()


def test_a_place_that_cannot_be_written_is_named(sources, tmp_path, capsys):
    out = tmp_path / "nowhere" / "out.json"
    assert main(["schedule", str(sources[0]), "--output", str(out)]) == 2
    assert f"{out}: cannot be written" in capsys.readouterr().err

import json
import math

import numpy as np
import pytest

from selftune.errors import SettingError
from selftune.schedule import Schedule

BOUNDS = ((0.0, 1.0), (0.0, math.inf), (-math.inf, math.inf))


def schedule(ends=(10, 30, 40), seed=0):
    draw = np.random.default_rng(seed)
    free = draw.normal(size=(len(ends), 3))
    values = np.stack([1 / (1 + np.exp(-free[:, 0])), np.exp(free[:, 1]), free[:, 2]], axis=1)
    return Schedule(("a", "b[x]", "c"), np.array(ends), values, BOUNDS)


def test_at_gives_the_row_in_force():
    one = schedule()
    for step, row in ((0, 0), (9, 0), (10, 1), (29, 1), (30, 2), (39, 2), (1000, 2)):
        assert list(one.at(step).values()) == one.values[row].tolist()
    with pytest.raises(SettingError, match="step: must be at least 0"):
        one.at(-1)


def test_stretching_keeps_the_course_and_drops_what_vanishes():
    one = schedule()
    longer = one.stretched(400)
    assert longer.ends.tolist() == [100, 300, 400]
    assert all(longer.at(10 * step) == one.at(step) for step in range(40))
    assert schedule((1, 30, 40)).stretched(4).ends.tolist() == [3, 4]


def test_smoothing_is_the_mean_over_a_window_where_values_are_tuned():
    one = schedule((10, 20, 30, 40, 50))
    smooth = one.smoothed(30)
    free = np.log(one.values[:, 1])
    assert np.log(smooth.values[2, 1]) == pytest.approx(free[1:4].mean())
    assert np.log(smooth.values[1, 1]) == pytest.approx(free[0:3].mean())
    assert smooth.values[0] == pytest.approx(one.values[0])  # only its own segment is around its middle
    logits = np.log(one.values[:, 0] / (1 - one.values[:, 0]))
    assert smooth.values[2, 0] == pytest.approx(1 / (1 + math.exp(-logits[1:4].mean())))
    assert smooth.values[2, 2] == pytest.approx(one.values[1:4, 2].mean())


def test_the_mean_of_seeds_takes_every_segment_of_each():
    first, second = schedule(), schedule((20, 40), seed=1)
    mean = Schedule.mean([first, second])
    assert mean.ends.tolist() == [10, 20, 30, 40]
    for step in range(40):
        pair = first.at(step)["b[x]"], second.at(step)["b[x]"]
        assert mean.at(step)["b[x]"] == pytest.approx(math.sqrt(pair[0] * pair[1]))


def test_values_on_a_bound_stay_finite():
    edge = Schedule(("a",), np.array([1, 2]), np.array([[0.0], [1.0]]), ((0.0, 1.0),))
    assert np.isfinite(edge.smoothed(2).values).all()
    assert np.isfinite(Schedule.mean([edge, edge.held(0).stretched(2)]).values).all()


def test_held_is_constant():
    one = schedule()
    assert one.held().at(0) == one.at(39)
    assert one.held(0).at(39) == one.at(0)
    assert one.held().steps == one.steps


def test_a_saved_schedule_is_the_same_to_the_last_bit(tmp_path):
    one = schedule()
    one.save(tmp_path / "schedule.json")
    for path in (tmp_path, tmp_path / "schedule.json"):
        again = Schedule.load(path)
        assert (again.names, again.bounds) == (one.names, one.bounds)
        assert np.array_equal(again.values, one.values)
        assert np.array_equal(again.ends, one.ends)


GOOD = {"format": "selftune schedule 1", "names": ["a"], "bounds": [[0, 1]], "ends": [3], "values": [[0.5]]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "2"}, "no schedule of this version"),
        ({"ends": [0]}, "must be training steps"),
        ({"ends": [3, 3], "values": [[0.5], [0.5]]}, "that ascend"),
        ({"values": [[1.5]]}, "within the bounds"),
        ({"values": [[0.5, 0.5]]}, "a column per name"),
        ({"values": ["x"]}, "damaged"),
        ({"names": None}, "damaged"),
        ({"bounds": [[0]]}, "damaged"),
    ],
)
def test_damaged_files_are_refused(tmp_path, changes, message):
    file = tmp_path / "schedule.json"
    file.write_text(json.dumps(GOOD))
    assert Schedule.load(file).at(0) == {"a": 0.5}
    file.write_text(json.dumps(GOOD | changes))
    with pytest.raises(SettingError, match=message) as refusal:
        Schedule.load(file)
    assert str(file) in refusal.value.key


def test_missing_and_unreadable_files_are_refused(tmp_path):
    with pytest.raises(SettingError, match="is not there"):
        Schedule.load(tmp_path)
    (tmp_path / "schedule.json").write_text("{")
    with pytest.raises(SettingError, match="cannot be read"):
        Schedule.load(tmp_path)


def test_other_hyperparameters_are_refused_by_name():
    with pytest.raises(SettingError, match="lacks d and moves c"):
        schedule().check_names(["a", "b[x]", "d"])
    with pytest.raises(SettingError, match="another order"):
        schedule().check_names(["b[x]", "a", "c"])
    with pytest.raises(SettingError, match="stretch them"):
        Schedule.mean([schedule(), schedule((20,))])

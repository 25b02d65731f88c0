from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.entities import Metric
from mlflow.utils.validation import _validate_metric

from selftune.tracking.points import Elapsed, flattened, keys_of, trainer_rows, trajectory_rows
from selftune.tracking.trajectory import read_reports, read_trajectory


@given(st.lists(st.text(max_size=300), unique=True, max_size=20))
def test_any_names_become_distinct_keys_that_the_tracker_takes(names: list[str]) -> None:
    keys = keys_of([f"value/{name}" for name in names])
    assert len(set(keys)) == len(names)
    for key in keys:
        _validate_metric(key, 1.0, 0, 0)
        assert Metric(key, 1.0, 0, 0)


def test_few_hyperparameters_have_metrics_of_their_own(tmp_path: Path, fabricate: Any) -> None:
    fabricate.fill(tmp_path, range(3))
    trajectory = read_trajectory(tmp_path)
    rows = list(trajectory_rows(trajectory, after=0))
    assert [row.number for row in rows] == [1, 2]
    points = {point.key: point for point in rows[0].points}
    assert len(points) == 3 + 3 * 6
    assert points["value/dropout.rate/hidden"].value == trajectory.values[1, 1]
    assert points["hypergradient_norm"].value == np.linalg.norm(trajectory.hypergradients[1])
    assert {(point.step, point.seconds) for point in rows[0].points} == {(20, 0.5)}


def test_many_hyperparameters_are_summed_up_by_group(tmp_path: Path, fabricate: Any) -> None:
    names = [f"decay.strength[{i}]" for i in range(60)] + ["dropout.rate"]
    fabricate.fill(tmp_path, range(2), names)
    trajectory = read_trajectory(tmp_path)
    points = {point.key: point.value for point in next(trajectory_rows(trajectory, after=-1)).points}
    assert len(points) == 3 + 3 * 2 * 3
    assert points["value/decay.strength/max"] == trajectory.values[0, :60].max()
    assert points["scale/decay.strength/mean"] == pytest.approx(trajectory.scales[0, :60].mean())


def test_many_groups_are_summed_up_together(tmp_path: Path, fabricate: Any) -> None:
    fabricate.fill(tmp_path, range(1), [f"r{i}.strength" for i in range(60)])
    (row,) = trajectory_rows(read_trajectory(tmp_path), after=-1)
    assert "value/all/min" in {point.key for point in row.points}
    assert len(row.points) == 12


def test_a_trainers_points_are_placed_at_its_own_time(tmp_path: Path, fabricate: Any) -> None:
    fabricate.fill(tmp_path, range(4), trainers=1)
    rows = list(trainer_rows(read_reports(tmp_path), Elapsed(), after=1))
    assert [row.number for row in rows] == [2, 3]
    assert rows[-1].points[0].seconds == 1.0  # the sum over all four orders
    assert {point.key for point in rows[-1].points} - {point.key for point in rows[0].points} == {
        "validation_accuracy"
    }


def test_empty_settings_are_kept() -> None:
    assert flattened({"a": {}, "b": [], "c": None}) == {"a": "{}", "b": "[]", "c": "None"}

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from selftune.methods.reports import Diverged, TrainingFinished
from selftune.storage.files import DamagedFile
from selftune.tracking.trajectory import TrajectoryWriter, read_reports, read_trajectory


@pytest.mark.parametrize("ended", [True, False])
def test_the_trajectory_is_what_the_listener_was_told(tmp_path: Path, fabricate: Any, ended: bool) -> None:
    writer = fabricate.fill(tmp_path, range(5))
    if ended:
        writer.ended()
    trajectory = read_trajectory(tmp_path)
    told = [fabricate.hyper_step(number, fabricate.names) for number in range(5)]
    assert trajectory.names == fabricate.names
    assert trajectory.hyper_step.tolist() == list(range(5))
    assert trajectory.training_step.tolist() == [step.training_step for step in told]
    assert trajectory.seconds.tolist() == [step.seconds for step in told]
    assert trajectory.training_loss.tolist() == [step.training_loss for step in told]
    assert trajectory.validation_loss.tolist() == [step.validation_loss for step in told]
    for mine, name in [("values", "hyperparameters"), ("scales", "scale"), ("hypergradients", "hypergradient")]:
        expected = torch.stack([getattr(step, name) for step in told]).double().numpy()
        assert np.array_equal(getattr(trajectory, mine), expected)  # to the last bit
    assert f"value/{fabricate.names[0]}" in trajectory.table.column_names
    assert len(trajectory) == 5


def test_a_resumed_study_goes_on_in_the_same_files(tmp_path: Path, fabricate: Any) -> None:
    fabricate.fill(tmp_path / "resumed", range(7))  # killed
    fabricate.fill(tmp_path / "resumed", range(4, 10)).ended()  # from the checkpoint after hyper-step 4
    fabricate.fill(tmp_path / "whole", range(10)).ended()
    resumed, whole = read_trajectory(tmp_path / "resumed"), read_trajectory(tmp_path / "whole")
    assert resumed.table.equals(whole.table)
    assert read_reports(tmp_path / "resumed").equals(read_reports(tmp_path / "whole"))


def test_reports_have_a_column_per_metric(tmp_path: Path, fabricate: Any) -> None:
    writer = fabricate.fill(tmp_path, range(1), trainers=2)
    writer.reported(0, TrainingFinished(number=1, training_step=20, measures={"test_loss": 0.5}))
    writer.reported(1, Diverged(number=1, training_step=12, message="loss is NaN at step 12"))
    reports = read_reports(tmp_path).to_pylist()
    assert [(r["trainer"], r["order"], r["kind"]) for r in reports] == [
        (0, 0, "cycle"),
        (0, 1, "finish"),
        (1, 0, "cycle"),
        (1, 1, "diverged"),
    ]
    assert reports[1]["test_loss"] == 0.5
    assert reports[1]["training_step"] == 20
    assert reports[1]["training_loss"] is None
    assert reports[3]["message"] == "loss is NaN at step 12"


def test_a_lost_trainer_is_recorded_in_place_of_its_next_report(tmp_path: Path, fabricate: Any) -> None:
    writer = fabricate.fill(tmp_path, range(2), trainers=2)
    writer.lost(1, "its node is gone")
    last = read_reports(tmp_path).to_pylist()[-1]
    assert (last["trainer"], last["order"], last["kind"], last["message"]) == (1, 2, "lost", "its node is gone")


def test_a_study_that_tunes_nothing_has_a_trajectory(tmp_path: Path, fabricate: Any) -> None:
    fabricate.fill(tmp_path, range(3), names=()).ended()
    trajectory = read_trajectory(tmp_path)
    assert trajectory.values.shape == (3, 0)
    assert trajectory.names == ()


def test_started_before_the_first_hyper_step(tmp_path: Path, fabricate: Any) -> None:
    TrajectoryWriter(tmp_path).started(fabricate.space_of(fabricate.names), 1)
    trajectory = read_trajectory(tmp_path)
    assert trajectory.names == fabricate.names
    assert trajectory.values.shape == (0, 6)


def test_another_space_in_the_same_folder_is_refused(tmp_path: Path, fabricate: Any) -> None:
    fabricate.fill(tmp_path, range(1)).ended()
    with pytest.raises(ValueError, match="another study"):
        TrajectoryWriter(tmp_path).started(fabricate.space_of(("dropout.rate",)), 1)


@pytest.mark.parametrize("read", [read_trajectory, read_reports])
def test_a_folder_without_a_study_is_named(tmp_path: Path, read: Any) -> None:
    with pytest.raises(FileNotFoundError, match="holds no study"):
        read(tmp_path)
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        read(tmp_path / "absent")


def test_rows_that_a_resumed_study_does_not_repeat_are_dropped(tmp_path: Path, fabricate: Any) -> None:
    fabricate.fill(tmp_path / "resumed", range(9))  # killed; a budget in seconds ends the next run earlier
    writer = TrajectoryWriter(tmp_path / "resumed")
    writer.resumed({0: 4, 1: 4}, 4)
    writer.started(fabricate.space_of(fabricate.names), 2)
    for trainer in range(2):
        writer.reported(trainer, fabricate.cycle(4))
    writer.hyper_step(fabricate.hyper_step(4, fabricate.names))
    writer.ended()
    fabricate.fill(tmp_path / "whole", range(5)).ended()
    resumed, whole = read_trajectory(tmp_path / "resumed"), read_trajectory(tmp_path / "whole")
    assert resumed.table.equals(whole.table)
    assert read_reports(tmp_path / "resumed").equals(read_reports(tmp_path / "whole"))


def test_rows_of_a_trainer_that_was_lost_before_the_checkpoint_stay(tmp_path: Path, fabricate: Any) -> None:
    writer = fabricate.fill(tmp_path, range(2))
    writer.lost(1, "its node is gone")
    writer.reported(0, fabricate.cycle(2))
    writer = TrajectoryWriter(tmp_path)
    writer.resumed({0: 2}, 2)
    writer.started(fabricate.space_of(fabricate.names), 1)
    writer.lost(0, "gone, too")
    rows = [(r["trainer"], r["order"], r["kind"]) for r in read_reports(tmp_path).to_pylist()]
    assert rows == [
        (0, 0, "cycle"),
        (0, 1, "cycle"),
        (0, 2, "lost"),
        (1, 0, "cycle"),
        (1, 1, "cycle"),
        (1, 2, "lost"),
    ]


@pytest.mark.parametrize("name", ["trajectory", "trainers"])
@pytest.mark.parametrize("what", ["gone", "short"])
def test_a_study_whose_rows_before_the_checkpoint_are_gone_is_refused(
    tmp_path: Path, fabricate: Any, name: str, what: str
) -> None:
    fabricate.fill(tmp_path, range(3 if what == "short" else 6)).ended()
    if what == "gone":
        (tmp_path / f"{name}.parquet").unlink()
    writer = TrajectoryWriter(tmp_path)
    writer.resumed({0: 5, 1: 5}, 5)
    with pytest.raises(DamagedFile, match=r"lacks .* which the study has behind it"):
        writer.started(fabricate.space_of(fabricate.names), 2)

"""The certificate of a step on its way from the method to tables, metric points and the report."""

from dataclasses import replace

import numpy as np
import pytest

from selftune.tracking.points import trajectory_rows
from selftune.tracking.report import write_report
from selftune.tracking.trajectory import TrajectoryWriter, read_trajectory

NAMES = ("ridge.strength",)


def certificate(number):
    return {
        "error_asked": 0.1 / (number + 1),
        "error_reached": 0.0,
        "hypergradient_norm": 1.0,
        "hypergradient_bound": np.nan if number == 0 else 0.5,
        "upper_bound": 2.5,
        "step": 0.25,
        "work": 10.0 * (number + 1),
        "certified": 1.0,
    }


@pytest.fixture
def fill(fabricate, tmp_path):
    """A writer, still open, that was told some steps with a certificate."""

    def fill(numbers, plain=()):
        writer = TrajectoryWriter(tmp_path)
        writer.started(fabricate.space_of(NAMES), 1)
        for number in plain:
            writer.hyper_step(fabricate.hyper_step(number, NAMES))
        for number in numbers:
            step = fabricate.hyper_step(number, NAMES)
            writer.reported(0, fabricate.cycle(number))
            writer.hyper_step(replace(step, certificate=certificate(number)))
        return writer

    return fill


def test_entries_are_columns_of_their_own(fill, tmp_path):
    writer = fill(range(3))
    while_running = read_trajectory(tmp_path)
    writer.ended()
    trajectory = read_trajectory(tmp_path)
    assert "certificate/error_asked" in trajectory.table.column_names
    assert trajectory.certificate["work"].tolist() == [10.0, 20.0, 30.0]
    assert while_running.certificate["work"].tolist() == [10.0, 20.0, 30.0]
    assert trajectory.names == NAMES


def test_a_method_without_a_certificate_has_no_such_columns(fill, tmp_path):
    fill((), plain=range(2)).ended()
    assert not [name for name in read_trajectory(tmp_path).table.column_names if "certificate" in name]
    assert read_trajectory(tmp_path).certificate == {}


def test_a_folder_from_before_certificates_goes_on(fill, tmp_path):
    fill((), plain=range(2)).ended()
    fill(range(2, 4)).ended()
    work = read_trajectory(tmp_path).certificate["work"]
    assert np.isnan(work[:2]).all()
    assert work[2:].tolist() == [30.0, 40.0]


def test_the_certificate_is_sent_in_place_of_scales(fill, tmp_path):
    fill(range(2)).ended()
    keys = {point.key for row in trajectory_rows(read_trajectory(tmp_path), -1) for point in row.points}
    assert {"certificate/hypergradient_bound", "certificate/step", "value/ridge.strength"} <= keys
    assert not [key for key in keys if key.startswith("scale")]


def test_the_report_draws_it(fill, tmp_path):
    fill(range(5))
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "Certificate" in page
    assert "Every step is certified" in page
    assert "Perturbation" not in page
    plots = {path.stem for path in (tmp_path / "plots").iterdir()}
    assert {"upper-level-loss", "accuracy", "hypergradient-bound", "step-size", "work"} <= plots
    assert "upper step" in (tmp_path / "plots" / "accuracy.svg").read_text()


def test_the_report_says_when_bounds_are_estimates(fabricate, tmp_path):
    writer = TrajectoryWriter(tmp_path)
    writer.started(fabricate.space_of(NAMES), 1)
    step = fabricate.hyper_step(0, NAMES)
    writer.hyper_step(replace(step, certificate=certificate(0) | {"certified": 0.0}))
    assert "heuristic" in write_report(tmp_path).read_text(encoding="utf-8")

"""Simulated trainers and drivers that die: the comparison sees the same trajectory, and would see another one."""

import pytest
from chaos import same, simulated_run

from selftune.schedulers import run_record, slots
from selftune.tracking.trajectory import read_trajectory


@pytest.fixture
def trajectory(tmp_path, monkeypatch):
    """The trajectory of a simulated study of which so many processes die, and how many drivers did."""
    monkeypatch.setattr(slots, "alive", lambda: [{"CPU": 1e6}])
    monkeypatch.setattr(run_record, "_SHARE", 1.0)
    monkeypatch.setattr("chaos.LIFETIME", 60.0)

    def made(kills, seed=0):
        folder = tmp_path / f"{kills}-{seed}"
        folder.mkdir()
        _, drivers = simulated_run(folder, kills, 60, seed)
        return read_trajectory(folder), drivers

    return made


def test_kills_change_nothing(trajectory):
    (whole, _), (killed, drivers) = trajectory(0), trajectory(8)
    assert drivers
    assert same(whole, killed)


def test_another_trajectory_is_told_from_it(trajectory):
    (one, _), (other, _) = trajectory(0), trajectory(0, seed=1)
    assert not same(one, other)
    assert not same(one, other, 3)

"""A folder of ``tune`` belongs to one call; another one is told so instead of getting its result."""

import sys

import pytest
import torch
from selftune.objectives.tasks.ridge import Ridge
from torch import nn

from selftune import Classification, Optimization, SettingError, Tune, tune
from selftune.studies.call import CALL, call_of, claim

DECAY = {"weight_decay": {"strength": Tune(1e-3)}}


def objective(width=8, shift=0.0, **optimization):
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(96, 6, generator=generator) + shift, torch.randint(3, (96,), generator=generator)
    splits = [(x[i : i + 32], y[i : i + 32]) for i in (0, 32, 64)]
    network = lambda: nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 3))  # noqa: E731
    return Classification(network, *splits, Optimization(**{"batch_size": 16, **optimization}))


def call(folder, made=None, regularizers=DECAY, **changes):
    arguments = {"steps": 20, "warmup_steps": 10, "seed": 0} | changes
    return tune(made or objective(), regularizers, output=folder, **arguments)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("runs") / "tuned"
    call(place)
    return place


def content(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"made": objective(width=9)}, "objective"),
        ({"made": objective(shift=1e-3)}, "objective"),
        ({"made": objective(learning_rate=0.02)}, "objective"),
        ({"regularizers": {"weight_decay": {"strength": Tune(1e-2)}}}, "regularizers"),
        ({"regularizers": DECAY | {"label_smoothing": {}}}, "regularizers"),
        ({"seed": 1}, "seed"),
        ({"trainers": 2}, "trainers"),
        ({"steps": 30}, "budget"),
        ({"learning_rate": 0.1}, "settings"),
        ({"method": "implicit"}, "method and another settings"),
    ],
)
def test_another_call_is_refused_and_changes_nothing(folder, changes, what):
    before = content(folder)
    with pytest.raises(SettingError, match=f"output: .*tuned was made by a call with another {what}; give"):
        call(folder, **changes)
    assert content(folder) == before


def test_the_same_call_made_anew_gets_its_result(folder):
    again = call(folder, regularizers={"weight_decay": {"strength": Tune(1e-3)}})
    assert [step.number for step in again.trajectory] == [0, 1]
    assert again.hyperparameters == tune(objective(), DECAY, steps=20, warmup_steps=10).hyperparameters


def test_folders_without_a_call(tmp_path):
    (tmp_path / "notes.txt").write_text("of the user")
    call(tmp_path)
    assert (tmp_path / CALL).exists()
    (tmp_path / CALL).unlink()
    with pytest.raises(SettingError, match="holds a run, but not what it was called with"):
        call(tmp_path)
    (tmp_path / CALL).write_text("{")
    with pytest.raises(SettingError, match="is damaged"):
        call(tmp_path)
    with pytest.raises(SettingError, match="is no folder"):
        call(tmp_path / "notes.txt")


def test_nothing_is_written_for_a_call_that_is_refused(tmp_path):
    with pytest.raises(SettingError):
        call(tmp_path / "out", warmup_steps=20)
    assert list(tmp_path.iterdir()) == []


def test_smooth_problems_are_told_apart_by_what_they_compute():
    first, same, other = (call_of(Ridge(split_seed=seed))["objective"] for seed in (0, 0, 1))
    assert first == same != other


def test_without_the_package_for_checkpoints_a_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(SettingError, match="output: needs the package safetensors"):
        claim(tmp_path / "out", {"seed": "0"})
    assert not (tmp_path / "out").exists()

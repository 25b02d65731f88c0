"""Fabricated study folders, and MLflow databases that cost a copy instead of a migration."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from selftune.hyperparameters import Hyperparameter, Positive, Space, Unit
from selftune.methods import HyperStep, Report
from selftune.methods.reports import Trained
from selftune.storage.state_file import save_state
from selftune.tracking.summary import write_summary
from selftune.tracking.trajectory import TrajectoryWriter

STUDY = """\
name: digits
seed: 3
objective:
  name: digits
  batch_size: 64
regularizers:
  dropout:
    rate: {tune: {start: 0.1}}
  weight_decay: {strength: {tune: {start: {a: 0.001, b: 0.001}}}}
budget:
  training_steps: 400
"""
NAMES = (
    "dropout.rate[input]",
    "dropout.rate[hidden]",
    "weight_decay.strength[layers.0]",
    "weight_decay.strength[layers.1]",
    "gaussian_input_noise.sigma",
    "label_smoothing.epsilon",
)


def space_of(names: Sequence[str]) -> Space:
    """A space with exactly these columns: rates are in the unit interval, the rest is positive."""
    return Space(
        [Hyperparameter(name, Unit() if "rate" in name else Positive(), 0.1, tuned=True) for name in names]
    )


def hyper_step(number: int, names: Sequence[str]) -> HyperStep:
    """A plausible hyper-step that depends on its number alone."""
    noise = np.random.default_rng(number)
    progress = 1 - np.exp(-number / 15)
    phases = np.linspace(-1, 1, len(names)) if len(names) > 1 else np.zeros(len(names))
    rates = 0.1 + 0.25 * progress * (1 + phases) / 2
    strengths = 1e-3 * np.exp(4 * progress * phases)
    values = [rate if "rate" in name else s for name, rate, s in zip(names, rates, strengths, strict=True)]
    values = np.array(values) * (1 + 0.02 * noise.standard_normal(len(names)))
    return HyperStep(
        number=number,
        training_step=10 * (number + 1),
        seconds=0.25 * (number + 1),
        training_loss=float(0.12 + 2.1 * np.exp(-number / 8) + 0.02 * noise.standard_normal()),
        validation_loss=float(0.19 + 2.0 * np.exp(-number / 7) + 0.008 * noise.standard_normal()),
        hyperparameters=torch.tensor(values, dtype=torch.float32),
        scale=torch.full((len(names),), 0.5 * float(np.exp(-number / 40)) + 0.05),
        hypergradient=torch.tensor(
            -phases * np.exp(-number / 20) + 0.1 * noise.standard_normal(len(names)), dtype=torch.float32
        ),
    )


def cycle(number: int) -> Report:
    """The report of a trainer's order; every fourth has an accuracy."""
    measures = {"validation_loss": 2.1 / (number + 1)}
    if number % 4 == 3:
        measures["validation_accuracy"] = 1 - 1 / (number + 2)
    return Trained(
        number=number,
        training_step=10 * (number + 1),
        training_loss=2.0 / (number + 1),
        measures=measures,
        seconds=0.25,
    )


def fill(folder: Path, steps: range, names: Sequence[str] = NAMES, trainers: int = 2) -> TrajectoryWriter:
    """Writes hyper-steps and reports; the writer is returned open, as in a running or killed study."""
    writer = TrajectoryWriter(folder)
    writer.started(space_of(names), trainers)
    for number in steps:
        for trainer in range(trainers):
            writer.reported(trainer, cycle(number))
        writer.hyper_step(hyper_step(number, names))
    return writer


def finish(folder: Path, writer: TrajectoryWriter, names: Sequence[str] = NAMES, steps: int = 40) -> None:
    """Everything that the end of a study leaves in its folder, the report excepted."""
    writer.ended()
    (folder / "study.yaml").write_text(STUDY)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    save_state(folder / "network.safetensors", network.state_dict(), "network")
    first, last = hyper_step(0, names).hyperparameters, hyper_step(steps - 1, names).hyperparameters
    write_summary(
        folder,
        {
            "status": "finished",
            "training_steps": 10 * steps,
            "seconds": 0.25 * steps,
            "hyperparameters": [
                {"name": name, "start": float(a), "end": float(b)}
                for name, a, b in zip(names, first, last, strict=True)
            ],
            "tuned": {"validation_loss": 0.192, "test_loss": 0.171, "test_accuracy": 0.958},
            "fixed": {"validation_loss": 0.241, "test_loss": 0.236, "test_accuracy": 0.939},
        },
    )


class Fabricate:
    """What tests call to fabricate studies."""

    names = NAMES
    settings = STUDY
    space_of = staticmethod(space_of)
    hyper_step = staticmethod(hyper_step)
    cycle = staticmethod(cycle)
    fill = staticmethod(fill)
    finish = staticmethod(finish)


@pytest.fixture
def fabricate() -> Fabricate:
    return Fabricate()


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """The folder of a finished study: 40 hyper-steps, 2 trainers, 6 hyperparameters."""
    folder = tmp_path / "digits"
    finish(folder, fill(folder, range(40)))
    return folder


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from selftune.tracking.server import Server

    folder = tmp_path_factory.mktemp("mlflow")
    Server(f"sqlite:///{folder / 'mlflow.db'}").client.get_experiment_by_name("selftune")
    return folder / "mlflow.db"


@pytest.fixture
def tracking(migrated_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a ready ``mlflow.db`` in the working folder; the user's environment is not seen."""
    work = tmp_path / "work"
    work.mkdir()
    shutil.copy(migrated_database, work / "mlflow.db")
    monkeypatch.chdir(work)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    return f"sqlite:///{work / 'mlflow.db'}"

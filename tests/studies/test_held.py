"""``method: {name: held}`` in studies, calls and loops: with and without anything that could be tuned."""

import io

import pytest
import torch
from rich.console import Console
from selftune.objectives.tasks.digits import Digits
from torch import nn

from selftune import OnlineTuner, SettingError, Tune, tune
from selftune.studies.folder import load_network, new_folder
from selftune.studies.results import print_summary
from selftune.studies.run import run
from selftune.studies.study_file import parse_study
from selftune.tracking.trajectory import read_trajectory

STUDY = """
study: held
objective: {task: digits, hidden: [8]}
regularizers: REGULARIZERS
method: {name: held, train_steps: 10}
budget: {steps: 40}
"""


def start(regularizers, tmp_path):
    console = Console(file=io.StringIO(), width=200)
    study = parse_study(STUDY.replace("REGULARIZERS", regularizers))
    folder = new_folder(study, tmp_path / "out", local=True)
    return folder, run(study, folder, console, local=True, mlflow=False), console


@pytest.mark.parametrize(
    ("regularizers", "names"),
    [("{dropout: {rate: {start: 0.2}}}", ["dropout.rate"]), ("{dropout: {rate: 0.2}}", []), ("{}", [])],
)
def test_a_study_trains_once_and_leaves_what_every_study_leaves(regularizers, names, tmp_path):
    folder, summary, console = start(regularizers, tmp_path)
    assert [h["name"] for h in summary["hyperparameters"]] == names
    assert all(h["start"] == h["end"] for h in summary["hyperparameters"])
    assert read_trajectory(folder).training_step.tolist() == [10, 20, 30, 40]
    assert summary["fixed"] == {}
    assert {"validation_loss", "test_loss"} <= set(summary["tuned"])
    assert summary["best"]["training_step"] in (10, 20, 30, 40)
    assert isinstance(load_network(folder), nn.Module)
    assert not (folder / "comparison").exists()  # it would be the same network again
    page = (folder / "report.html").read_text()
    assert "network&#39;s test loss" in page or "network's test loss" in page
    assert "tuned network" not in page
    print_summary(console, summary, folder, mlflow=False)
    printed = console.file.getvalue()
    assert "start values held" in printed
    assert "tuned values" not in printed


def test_what_has_no_effect_is_not_refused_because_nothing_moves():
    frozen = {"weight_decay": {"parts": "layer", "strength": Tune(0.1)}}
    result = tune(Digits(hidden=(8,)), frozen, steps=10, method="held", train_steps=5)
    assert len(result.trajectory) == 2


def test_a_loop_of_ones_own_looks_at_its_validation_loss():
    torch.manual_seed(0)
    x, y = torch.randn(64, 4), torch.randint(3, (64,))
    model = nn.Linear(4, 3)
    tuner = OnlineTuner(
        model,
        torch.optim.SGD(model.parameters(), lr=0.1),
        {"weight_decay": {"strength": 0.01}},
        loss=lambda outputs, batch: nn.functional.cross_entropy(outputs, batch[1], reduction="none"),
        validation=[(x + 0.1, y)],
        forward=lambda model, batch: model(batch[0]),
        method="held",
        train_steps=3,
        steps=9,
    )
    while not tuner.done:
        tuner.loss((x, y)).backward()
        tuner.step()
    losses = [step.validation_loss for step in tuner.trajectory]
    assert len(losses) == 3
    assert losses == sorted(losses, reverse=True)


def test_a_method_that_moves_still_needs_something_to_move():
    with pytest.raises(SettingError, match="nothing is tuned"):
        tune(Digits(hidden=(8,)), {"dropout": {"rate": 0.2}}, steps=300)

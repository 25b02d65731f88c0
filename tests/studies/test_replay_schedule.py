import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from selftune import Classification, Interval, Optimization, Schedule, SettingError, Tune, replay, tune
from selftune.cli import main

REGULARIZERS = {"weight_decay": {"strength": Tune(1e-3)}, "dropout": {"rate": Tune(0.2)}}
NAMES = ("dropout.rate", "weight_decay.strength")
BOUNDS = ((0.0, 0.95), (0.0, np.inf))


def objective():
    generator = torch.Generator().manual_seed(0)
    inputs, labels = torch.randn(96, 6, generator=generator), torch.randint(3, (96,), generator=generator)
    splits = [(inputs[i : i + 32], labels[i : i + 32]) for i in (0, 32, 64)]
    network = lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))  # noqa: E731
    return Classification(network, *splits, Optimization(batch_size=16))


def found(rates=(0.1, 0.3), names=NAMES, bounds=BOUNDS):
    values = np.array([[rate, 1e-3] for rate in rates])
    return Schedule(names, 10 * np.arange(1, len(rates) + 1), values, bounds)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("runs") / "tuned"
    tune(objective(), REGULARIZERS, steps=30, warmup_steps=10, seed=3, output=place)
    return place


def test_the_schedule_of_a_folder_gives_the_tuned_network_again(folder):
    tuned = tune(objective(), REGULARIZERS, steps=30, warmup_steps=10, seed=3)
    again = replay(objective(), REGULARIZERS, folder, seed=3)
    for name, tensor in tuned.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], tensor)
    assert again.metrics == tuned.metrics
    assert list(again.trajectory) == []
    other = replay(objective(), REGULARIZERS, folder, seed=4)
    assert other.metrics != tuned.metrics


def test_steps_cut_a_schedule_or_hold_its_last_values():
    short = replay(objective(), REGULARIZERS, found(), steps=12)
    assert short.schedule.ends.tolist() == [10, 12]
    assert short.hyperparameters["dropout.rate"] == 0.3
    assert replay(objective(), REGULARIZERS, found(), steps=10).hyperparameters["dropout.rate"] == 0.1
    long = replay(objective(), REGULARIZERS, found(), steps=35)
    assert long.schedule.ends.tolist() == [10, 35]


def test_measures_are_means_over_trainers():
    one, two = (replay(objective(), REGULARIZERS, found(), trainers=number) for number in (1, 2))
    assert two.networks == 2
    assert "mean of 2 networks ± standard deviation" in repr(two)
    assert set(two.spread) == set(two.metrics)
    assert one.spread == {}
    assert one.metrics["test_loss"] != two.metrics["test_loss"]


def test_what_a_method_could_not_differentiate_is_replayed_all_the_same():
    alone = Schedule(NAMES[:1], np.array([10]), np.array([[0.3]]), BOUNDS[:1])
    assert replay(objective(), {"dropout": {"rate": Tune(0.2)}}, alone).hyperparameters == {"dropout.rate": 0.3}


@pytest.mark.parametrize(
    ("schedule", "sentence"),
    [
        (
            found(names=("dropout.rate", "mixup.alpha")),
            "schedule: is one of other hyperparameters: it lacks weight_decay.strength and moves mixup.alpha",
        ),
        (
            found(rates=(0.1, 0.96), bounds=((0.0, 1.0), (0.0, np.inf))),
            r"schedule: gives dropout.rate the value 0.96",
        ),
        ("nowhere.json", "nowhere.json: is not there"),
    ],
)
def test_a_schedule_that_does_not_fit_is_refused_before_anything_is_built(schedule, sentence, monkeypatch):
    monkeypatch.setattr("selftune.studies.replay_schedule.run_in_process", None)
    with pytest.raises(SettingError, match=sentence):
        replay(objective(), REGULARIZERS, schedule)


def test_a_domain_that_was_narrowed_is_heeded():
    narrow = {**REGULARIZERS, "dropout": {"rate": Tune(0.2, Interval(0, 0.25))}}
    with pytest.raises(SettingError, match=r"the value 0.3, which is not in \[0, 0.25\]"):
        replay(objective(), narrow, found())


def test_wrong_numbers_are_refused():
    with pytest.raises(SettingError, match="steps: must be at least 1"):
        replay(objective(), REGULARIZERS, found(), steps=0)
    with pytest.raises(SettingError, match="trainers"):
        replay(objective(), REGULARIZERS, found(), trainers=0)


def test_the_command_line_compares_folders_of_calls(folder, tmp_path, capsys):
    other = tmp_path / "other"
    result = tune(objective(), REGULARIZERS, steps=40, warmup_steps=10, output=other)
    assert main(["compare", str(folder), str(other)]) == 0
    told = capsys.readouterr().out
    assert f"{result.metrics['validation_loss']:.4g}" in told
    assert f"{result.metrics['test_accuracy']:.4f}" in told


@pytest.mark.parametrize("command", ["replay", "resume"])
def test_the_command_line_says_how_a_call_is_replayed(folder, command, capsys):
    assert main([command, str(folder)]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert f"selftune.replay(objective, regularizers, '{folder}')" in sentence
    assert "repeat that call to go on" in sentence


def test_a_report_of_a_call_is_written(folder, capsys):
    assert main(["report", str(folder)]) == 0
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "2 hyperparameters tuned in 4 hyper-steps over 30 training steps" in page


def test_the_page_replays_at_full_scale():
    page = (Path(__file__).parents[2] / "docs" / "schedules.md").read_text()
    snippet = next(text for text in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "full = " in text)
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(192, 6, generator=generator), torch.randint(3, (192,), generator=generator)
    given = {
        "make_network": lambda width: nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 3)),
        "x": x[:128],
        "y": y[:128],
        "validation": (x[128:160], y[128:160]),
        "test": (x[160:], y[160:]),
    }
    exec(snippet, given)
    assert given["result"].schedule.steps == 400
    assert given["result"].network[0].out_features == 64
    assert given["result"].hyperparameters == pytest.approx(given["found"].schedule.at(99))

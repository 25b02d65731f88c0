"""Stochastic bilevel methods in study files and in ``tune``: what they take, and what they refuse in words."""

import json

import pytest
import torch

from selftune import SmoothProblem, Tune, tune
from selftune.cli import main
from selftune.errors import SettingError
from selftune.studies.study_file import parse_study
from selftune.tracking.trajectory import read_trajectory

STUDY = """\
study: drawn
objective: {task: logistic_regression, train_examples: 60, validation_examples: 60}
method: {name: stochastic_bilevel, algorithm: saba, batch_size: 20, iterations: 20, checkpoint_every: 2}
budget: {steps: 4}
"""


def data(seed, examples):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(examples, 3, generator=generator, dtype=torch.float64)
    return inputs, inputs.sum(dim=1) + torch.randn(examples, generator=generator, dtype=torch.float64)


def lower(parameters, values, split):
    inputs, targets = split
    penalty = values["strength"] * parameters["weight"].square().sum()
    return (inputs @ parameters["weight"] - targets).square().mean() + penalty


def summed(parameters, values, split):
    inputs, targets = split
    penalty = values["strength"] * parameters["weight"].square().sum()
    return (inputs @ parameters["weight"] - targets).square().sum() + penalty


def upper(parameters, values, split):
    inputs, targets = split
    return (inputs @ parameters["weight"] - targets).square().mean()


def problem(lower=lower, finite_sum=True, train=None):
    return SmoothProblem(
        lower,
        upper,
        {"weight": torch.zeros(3, dtype=torch.float64)},
        {"strength": Tune(1.0)},
        train=train or data(0, 12),
        validation=data(1, 20),
        finite_sum=finite_sum,
    )


def solved(strength):
    """The upper level at the lower level's minimiser."""
    inputs, targets = data(0, 12)
    system = inputs.T @ inputs / len(inputs) + strength * torch.eye(3, dtype=torch.float64)
    weight = torch.linalg.solve(system, inputs.T @ targets / len(inputs))
    return float(upper({"weight": weight}, {}, data(1, 20)))


def tuned(objective, **settings):
    return tune(
        objective,
        method="stochastic_bilevel",
        progress=False,
        **{"steps": 8, "batch_size": 5, "iterations": 30, "outer_rate": 0.5} | settings,
    )


@pytest.mark.parametrize("algorithm", ["saba", "soba", "amigo", "stocbio"])
def test_a_problem_of_ones_own_is_tuned(algorithm):
    result = tuned(problem(), algorithm=algorithm)
    assert result.metrics["validation_loss"] < solved(1.0)
    assert result.metrics["validation_loss"] == pytest.approx(solved(result.hyperparameters["strength"]), rel=1e-5)
    assert result.stopped == "budget"
    assert not result.certified
    assert "ended because its budget was spent" in repr(result)


def test_the_seed_counts():
    one, same, other = (tuned(problem(), seed=seed).hyperparameters for seed in (1, 1, 2))
    assert one == same != other
    with pytest.raises(SettingError, match="has no effect on a method that draws nothing at random"):
        tune(problem(), method="implicit", steps=2, seed=1)


def test_a_call_goes_on_where_it_stopped(tmp_path):
    whole = tuned(problem(), checkpoint_every=2)
    tuned(problem(), checkpoint_every=2, output=tmp_path)
    again = tuned(problem(), checkpoint_every=2, output=tmp_path)
    assert again.hyperparameters == whole.hyperparameters
    with pytest.raises(SettingError, match="seed"):
        tuned(problem(), checkpoint_every=2, output=tmp_path, seed=3)


@pytest.mark.parametrize(
    ("objective", "reason"),
    [
        (lambda: problem(finite_sum=False), "gives no losses of single examples; give SmoothProblem"),
        (lambda: problem(lower=summed), "lower level is .* on all examples, but .* as the mean over batches"),
    ],
)
def test_what_is_no_mean_over_examples_is_refused(objective, reason):
    with pytest.raises(SettingError, match=reason):
        tuned(objective())


def test_data_without_examples_are_refused():
    with pytest.raises(SettingError, match="train: must hold a tensor with the examples along its first axis"):
        problem(train="nothing")


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ("quadratic_bilevel", "gives no losses of single examples"),
        ("sparse_regression", "has a term that is not smooth"),
    ],
)
def test_studies_of_other_tasks_are_refused(task, reason):
    text = STUDY.replace("task: logistic_regression, train_examples: 60, validation_examples: 60", f"task: {task}")
    with pytest.raises(ValueError, match=reason):
        parse_study(text)


def test_the_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "drawn.yaml").write_text(STUDY)
    assert main(["check", "drawn.yaml"]) == 0
    assert "lower level, seen in batches:\n  650 parameters" in capsys.readouterr().out
    assert main(["run", "drawn.yaml", "--local", "--no-mlflow", "--output", "out"]) == 0
    printed = capsys.readouterr().out
    assert "after 4 upper steps" in printed
    assert "because its budget was spent" in printed
    assert main(["report", "out"]) == 0
    trajectory, summary = (
        read_trajectory(tmp_path / "out"),
        json.loads((tmp_path / "out/summary.json").read_text()),
    )
    assert len(trajectory) == 4
    assert summary["tuned"]["validation_loss"] < trajectory.validation_loss[0]
    assert main(["run", "drawn.yaml", "--local", "--no-mlflow", "--output", "other", "--seed", "1"]) == 0
    other = read_trajectory(tmp_path / "other")
    assert other.values[1:].tolist() != trajectory.values[1:].tolist()
    capsys.readouterr()
    assert main(["show", "stochastic_bilevel"]) == 0
    assert "algorithm = 'amigo'" in capsys.readouterr().out

"""Whatever the road, what must fit together is checked once: trainers of a checked study do not look again."""

import io
from collections import Counter

import pytest
import torch
from rich.console import Console
from selftune.objectives.tasks.ridge import Ridge
from torch import nn

from selftune import Budget, Classification, Optimization, SelfTuning, SelfTuningSettings, Tune, replay, tune
from selftune.cli import main
from selftune.studies.folder import new_folder, open_folder
from selftune.studies.run import run
from selftune.studies.study_file import parse_study
from selftune.training import TrainerFactory, checks, lower_level, smooth_checks, trainer
from selftune.training.runner import run_in_process

SMOOTH = "study: s\nobjective: {task: ridge}\nmethod: {name: inexact_line_search}\nbudget: {steps: 2}\n"
CHECKS = {
    "optimization_mistakes": (checks, lower_level),
    "pathless": (checks, trainer),
    "check_derivatives": (smooth_checks,),
}


@pytest.fixture
def looked(monkeypatch):
    """How often each check ran."""
    count = Counter()

    def counting(name, check):
        def counted(*arguments, **settings):
            count[name] += 1
            return check(*arguments, **settings)

        return counted

    for name, modules in CHECKS.items():
        counted = counting(name, getattr(modules[0], name))
        for module in modules:
            monkeypatch.setattr(module, name, counted)
    return count


ONCE = {"optimization_mistakes": 1, "pathless": 1}


def classification():
    generator = torch.Generator().manual_seed(0)
    splits = [(torch.randn(64, 4, generator=generator), torch.arange(64) % 3) for _ in range(3)]
    return Classification(lambda: nn.Linear(4, 3), *splits, Optimization(batch_size=8))


REGULARIZERS = {"weight_decay": {"strength": Tune(1e-3)}}


def test_a_study_is_checked_once_when_it_is_read_and_not_when_it_runs(study_text, tmp_path, looked):
    study = parse_study(study_text)
    assert looked == ONCE
    folder = new_folder(study, tmp_path / "out", local=True)
    run(study, folder, Console(file=io.StringIO()), local=True, mlflow=False)
    assert looked == ONCE
    open_folder(folder)
    assert looked == {name: 2 for name in ONCE}


def test_commands(study_text, tmp_path, monkeypatch, looked, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(study_text)
    for command in (
        ["check", "tiny.yaml"],
        ["run", "tiny.yaml", "--local", "--no-mlflow"],
        ["resume", "runs/tiny-1", "--no-mlflow"],
        ["replay", "runs/tiny-1"],
    ):
        looked.clear()
        assert main(command) == 0
        assert looked == ONCE, command


@pytest.mark.parametrize("method", ["self_tuning", "implicit", "penalty", "inexact_line_search", "held"])
def test_a_call(method, looked):
    more = {"train_steps": 4} if method in ("inexact_line_search", "held") else {}
    more |= {} if method == "held" else {"warmup_steps": 4}
    tune(classification(), REGULARIZERS, steps=12, trainers=2, method=method, **more)
    effects = {} if method == "held" else {"pathless": 1}  # where nothing moves, nothing has to have an effect
    assert looked == {"optimization_mistakes": 1} | effects


def test_a_replay_of_a_schedule(looked):
    found = tune(classification(), REGULARIZERS, steps=12, warmup_steps=4)
    looked.clear()
    replay(classification(), REGULARIZERS, found.schedule)
    assert looked == ONCE


def test_trainers_of_ones_own_check_what_their_factory_brings(looked):
    settings = SelfTuningSettings(warmup_steps=4)
    factory = TrainerFactory(classification(), REGULARIZERS)
    run_in_process(SelfTuning(Budget(steps=12), settings), {0: factory(0)})
    assert looked == ONCE


def test_a_smooth_problem(tmp_path, looked):
    study = parse_study(SMOOTH)
    folder = new_folder(study, tmp_path / "out", local=True)
    run(study, folder, Console(file=io.StringIO()), local=True, mlflow=False)
    assert looked == {"check_derivatives": 1}
    looked.clear()
    tune(Ridge(), method="implicit", steps=2)
    assert looked == {"check_derivatives": 1}

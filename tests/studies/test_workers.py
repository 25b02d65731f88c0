"""Trainers of several workers in study files: which settings go together, and what is refused."""

import re

import pytest

from selftune.cli import main
from selftune.studies.mistakes import Mistakes
from selftune.studies.study_file import parse_study
from selftune.sweeps.sweep_file import parse_sweep
from selftune.sweeps.trial_planner import TrialPlanner

SMOOTH = """
study: ridge
objective: {task: ridge}
method: {name: inexact_line_search}
trainers: {number: 1, workers: 2}
budget: {steps: 3}
metric: validation_loss
"""
SWEEP = "sweep:\n  over: {objective.learning_rate: {log_uniform: [0.001, 0.1]}}\n  trials: 2\n"


def with_trainers(text, trainers):
    assert "trainers: {number: 1" in text
    return re.sub(r"trainers: \{.*\}", f"trainers: {{{trainers}}}", text)


def test_workers_have_resources_of_their_own(study_text):
    plain = parse_study(with_trainers(study_text, "number: 2")).trainers
    assert (plain.workers, plain.gpus_each, plain.device) == (1, 0, "cpu")
    several = parse_study(with_trainers(study_text, "number: 2, workers: 4, gpus_per_worker: 1")).trainers
    assert (several.workers, several.gpus_each, several.device) == (4, 1, "cuda")
    one = parse_study(with_trainers(study_text, "number: 2, gpus_per_worker: 0.5")).trainers
    assert (one.gpus_each, one.device) == (0.5, "cuda")


@pytest.mark.parametrize(
    ("trainers", "message"),
    [
        ("workers: 0", "trainers.workers: must be at least 1, got 0"),
        ("workers: 2, gpus: 1", "trainers.gpus: is for trainers of one worker; give gpus_per_worker instead"),
        ("gpus: 1, gpus_per_worker: 1", "trainers.gpus_per_worker: says the same as gpus; give one of them"),
        ("workers: 2, gpus_per_worker: 0.5", "trainers.gpus_per_worker: must be 0 or 1 with several workers"),
        ("workers: 2, strategy: fsdp", "trainers.strategy: fsdp is for replay: tuning needs all weights in each"),
        ("workers: 2, strategy: zero", "trainers.strategy: must be ddp, got 'zero'"),
        ("workers: 1000", "objective.batch_size: is 64, too few examples for 1000 workers"),
    ],
)
def test_what_does_not_go_together_is_refused(study_text, trainers, message):
    with pytest.raises(Mistakes, match=re.escape(message)):
        parse_study(with_trainers(study_text, trainers))


def test_regularizers_with_gradients_of_their_own_are_refused(study_text):
    text = with_trainers(study_text, "workers: 2").replace(
        "regularizers:\n", "regularizers:\n  quantization_noise: {}\n"
    )
    with pytest.raises(
        Mistakes, match=r"regularizers\.quantization_noise: cannot be used where several workers share"
    ):
        parse_study(text)


def test_smooth_problems_are_refused():
    with pytest.raises(Mistakes, match=r"trainers\.workers: must be 1 for a smooth problem"):
        parse_study(SMOOTH)


def test_every_trial_of_a_sweep_has_them(study_text):
    swept = parse_sweep(with_trainers(study_text, "number: 3, workers: 2") + SWEEP)
    plan = TrialPlanner(swept.content)({"objective.learning_rate": 0.01})
    assert (plan.members, plan.workers) == (3, 2)


def test_a_sweep_of_what_several_workers_cannot_share_is_refused(study_text):
    with pytest.raises(Mistakes, match=r"objective\.batch_size: is 64, too few examples for 1000 workers"):
        parse_sweep(with_trainers(study_text, "workers: 1000") + SWEEP)


def test_nothing_is_run_in_one_process(study_text, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text(with_trainers(study_text, "workers: 2"))
    assert main(["run", "study.yaml", "--local"]) == 2
    assert "trainers.workers: are processes on Ray; leave out --local" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]

"""A training loop of one's own as trials of Ray Tune."""

import pytest
import torch
from own_loops import SETTINGS, Loop, loop
from ray import tune

from selftune.methods import Budget, SelfTuning, SelfTuningSettings
from selftune.schedulers import SelfTuningScheduler, loop_trainable
from selftune.training.loop_trainer import LoopTrainer
from selftune.training.runner import run_in_process


@pytest.mark.usefixtures("cluster")
def test_trials_of_a_loop_give_the_numbers_of_the_same_loops_in_one_process(tmp_path):
    scheduler = SelfTuningScheduler(steps=20, team_size=2, **SETTINGS)
    results = tune.Tuner(
        loop_trainable(loop),
        param_space={"width": 8},
        tune_config=scheduler.tune_config(),
        run_config=scheduler.run_config(storage_path=str(tmp_path), name="loops"),
    ).fit()
    assert not results.errors
    method = SelfTuning(Budget(steps=20), SelfTuningSettings(**SETTINGS), 2)
    reports = run_in_process(method, {member: LoopTrainer(Loop(member), member) for member in range(2)})
    assert torch.equal(scheduler.teams[0].method.hyperparameters, method.hyperparameters)
    found = sorted(result.metrics["validation_loss"] for result in results)
    assert found == sorted(report.metrics["validation_loss"] for report in reports.values())

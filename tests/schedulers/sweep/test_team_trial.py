"""Trials of whole teams on a cluster: the same numbers as in one process, although a member is killed."""

import pytest
import team_fakes
import torch
from sweep_fakes import Heard
from team_fakes import RATE, Plans, Team

from selftune.hyperparameters.distribution import Uniform
from selftune.schedulers.sweep import best_network, run_trials_on_ray, sweep_trial
from selftune.search import SearchSettings, SearchSpace, Swept
from selftune.training.team_run import TeamRun

SETTINGS = SearchSettings(metric="validation_loss", mode="min", report_every=20, trials=2)


def here(rate):
    """The last reports of the team in one process."""
    run = TeamRun(team_fakes.method(), {member: Team(rate)(member) for member in range(2)})
    run.join()
    while not run.done:
        run.round()
    return run.last


def test_a_team_is_one_trial_with_the_numbers_of_one_process_although_a_member_is_killed(tmp_path, cluster):
    heard, marker = Heard(), tmp_path / "killed"
    run_trials_on_ray(
        sweep_trial(Plans(marker), SETTINGS),
        check=lambda values: None,
        space=SearchSpace((Swept(RATE, Uniform(0.05, 0.2)),)),
        settings=SETTINGS,
        members=2,
        cpus=0.5,
        gpus=0,
        trial_steps=team_fakes.STEPS,
        folder=tmp_path / "sweep",
        listener=heard,
        address=cluster,
    )
    assert marker.exists()
    for number, trial in heard.last.items():  # the second one in the processes of the first
        assert (trial.status, trial.training_step, trial.best_step) == ("finished", 60, 60)
        finish = here(trial.values[RATE])[0]
        assert trial.measures["validation_loss"] == finish.measures["validation_loss"]
        found = best_network(tmp_path / "sweep", number)
        assert all(torch.equal(found[name], tensor) for name, tensor in finish.network.items())
        assert trial.spent >= 2 * 60
    assert sorted(heard.last) == [0, 1]
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        best_network(tmp_path / "sweep", 7)

"""Trials of whole teams on a cluster: the same numbers as in one process, although a member is killed."""

from dataclasses import replace

import pytest
import team_fakes
import torch
from sweep_fakes import Heard
from team_fakes import RATE, Plans, Team

from selftune.hyperparameters.distribution import Uniform
from selftune.schedulers.sweep import best_network, run_trials_on_ray, sweep_trial
from selftune.search import SearchSettings, SearchSpace, Swept
from selftune.training.team_run import TeamRun

pytestmark = pytest.mark.timeout(300)  # processes with torch start one after the other on a busy machine

SETTINGS = SearchSettings(metric="validation_loss", mode="min", report_every=20, trials=2)


def here(rate, members=2):
    """The last reports of the team in one process."""
    run = TeamRun(team_fakes.method(members), {member: Team(rate)(member) for member in range(members)})
    run.join()
    while not run.done:
        run.round()
    return run.last


def search(folder, cluster, settings, marker=None, members=2, workers=1):
    """Runs a search over teams; returns who heard of it."""
    heard = Heard()
    run_trials_on_ray(
        sweep_trial(Plans(marker, members, workers), settings),
        check=lambda values: None,
        space=SearchSpace((Swept(RATE, Uniform(0.05, 0.2)),)),
        settings=settings,
        members=members,
        workers=workers,
        cpus=0.5,
        gpus=0,
        trial_steps=team_fakes.STEPS,
        folder=folder,
        listener=heard,
        address=cluster,
    )
    return heard


def check_as_here(folder, trial):
    """A trial has the numbers of the same team in one process."""
    assert (trial.status, trial.training_step, trial.best_step) == ("finished", 60, 60)
    finish = here(trial.values[RATE])[0]
    assert trial.measures["validation_loss"] == finish.measures["validation_loss"]
    found = best_network(folder, trial.number)
    assert all(torch.equal(found[name], tensor) for name, tensor in finish.network.items())


def test_a_team_is_one_trial_with_the_numbers_of_one_process(tmp_path, cluster):
    heard = search(tmp_path, cluster, SETTINGS)
    assert sorted(heard.last) == [0, 1]
    for trial in heard.last.values():  # the second one in the processes of the first
        check_as_here(tmp_path, trial)
        assert trial.spent == 2 * 60
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        best_network(tmp_path, 7)


@pytest.mark.full
def test_a_trial_whose_member_is_killed_goes_on_from_its_checkpoint_to_the_same_numbers(tmp_path, cluster):
    marker = tmp_path / "killed"
    heard = search(tmp_path / "sweep", cluster, replace(SETTINGS, trials=1), marker)
    assert marker.exists()
    check_as_here(tmp_path / "sweep", heard.last[0])
    assert heard.last[0].spent >= 2 * 60  # what was done again counts twice


@pytest.mark.full
@pytest.mark.parametrize("members", [1, 2])
def test_members_of_two_workers_do_what_one_worker_does(members, tmp_path, cluster):
    """The second trial takes the place of the first, with new workers beside each member's process."""
    settings = replace(SETTINGS, concurrent=1)
    heard = search(tmp_path, cluster, settings, members=members, workers=2)
    assert sorted(heard.last) == [0, 1]
    for trial in heard.last.values():
        assert (trial.status, trial.training_step, trial.spent) == ("finished", 60, members * 60)
        finish = here(trial.values[RATE], members)[0]
        assert trial.measures["validation_loss"] == pytest.approx(finish.measures["validation_loss"], rel=1e-4)
        found = best_network(tmp_path, trial.number)
        for name, tensor in finish.network.items():
            torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-4)


@pytest.mark.full
def test_a_trial_whose_second_member_is_killed_goes_on_with_new_workers(tmp_path, cluster):
    marker = tmp_path / "killed"
    heard = search(tmp_path / "sweep", cluster, replace(SETTINGS, trials=1), marker, workers=2)
    assert marker.exists()
    trial = heard.last[0]
    assert (trial.status, trial.training_step) == ("finished", 60)
    finish = here(trial.values[RATE])[0]
    assert trial.measures["validation_loss"] == pytest.approx(finish.measures["validation_loss"], rel=1e-4)

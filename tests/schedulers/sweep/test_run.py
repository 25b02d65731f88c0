from ray import tune
from sweep_fakes import Curve, Heard

from selftune.hyperparameters.distribution import Uniform
from selftune.schedulers.sweep.run import run_trials_on_ray
from selftune.search import SearchSettings, SearchSpace, Swept
from selftune.search.trial_schedulers import AshaSettings

SPACE = SearchSpace((Swept("x", Uniform(0, 1)),))


def search(folder, cluster, curve=None, members=1, check=lambda values: None, heard=None, said=None, **settings):
    heard = heard or Heard()
    run_trials_on_ray(
        tune.with_parameters(Curve, **(curve or {})),
        check=check,
        space=SPACE,
        settings=SearchSettings(metric="validation_loss", mode="min", report_every=10, **settings),
        members=members,
        cpus=1,
        gpus=0,
        trial_steps=100,
        folder=folder,
        listener=heard,
        address=cluster,
        say=(said if said is not None else []).append,
    )
    return heard


def test_every_trial_is_trained_to_its_end_and_heard_of(tmp_path, cluster):
    heard = search(tmp_path, cluster, trials=3)
    assert heard.states == [{}]
    assert heard.ends == 1
    for number, trial in heard.last.items():
        assert (trial.status, trial.training_step, trial.spent) == ("finished", 100, 100)
        assert trial.best == trial.measures["validation_loss"]
        assert [t.training_step for t in heard.trials if t.number == number] == [*range(0, 110, 10), 100]
    assert sorted(heard.last) == [0, 1, 2]


def test_asha_stops_hopeless_trials(tmp_path, cluster):
    heard = search(tmp_path, cluster, trials=6, concurrent=2, scheduler=AshaSettings(10, reduction_factor=2))
    status = [trial.status for trial in heard.last.values()]
    assert {"finished", "stopped"} == set(status)
    assert max(heard.last.values(), key=lambda t: t.training_step).status == "finished"

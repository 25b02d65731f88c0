import json

import pytest
from sweep_fakes import search

from selftune.search.trial_schedulers import AshaSettings


def test_every_trial_is_trained_to_its_end_and_heard_of(tmp_path, cluster):
    heard = search(tmp_path, cluster, trials=3)
    assert heard.states == [{}]
    assert heard.ends == 1
    for number, trial in heard.last.items():
        assert (trial.status, trial.training_step, trial.spent) == ("finished", 100, 100)
        assert trial.best == trial.measures["validation_loss"]
        assert [t.training_step for t in heard.trials if t.number == number] == [*range(0, 110, 10), 100]
    assert sorted(heard.last) == [0, 1, 2]
    for number in heard.last:
        folder = tmp_path / "ray" / "run-0" / f"trial-{number}"
        saved = [json.loads(path.read_text()) for path in folder.glob("checkpoint_*/state.json")]
        assert {state["trial"] for state in saved} == {str(folder)}, "a trial knows where its checkpoints are"


def test_asha_stops_hopeless_trials(tmp_path, cluster):
    heard = search(tmp_path, cluster, trials=6, concurrent=2, scheduler=AshaSettings(10, reduction_factor=2))
    status = [trial.status for trial in heard.last.values()]
    assert {"finished", "stopped"} == set(status)
    assert max(heard.last.values(), key=lambda t: t.training_step).status == "finished"


@pytest.mark.full
def test_a_trial_that_hangs_is_replaced_and_loses_nothing(tmp_path, cluster):
    marker = tmp_path / "hung"
    heard = search(tmp_path / "sweep", cluster, {"blocks": marker}, trials=1, hang_after=2.0)
    assert heard.hangs == [(0, "hangs: report 3 since its start takes longer than 2 seconds")]
    assert heard.departures == heard.hangs
    trial = heard.last[0]
    assert (trial.status, trial.training_step, trial.spent) == ("finished", 100, 100)
    assert sorted({t.training_step for t in heard.trials}) == list(range(0, 110, 10))

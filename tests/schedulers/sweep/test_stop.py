"""A sweep that somebody asks to stop, and that goes on later."""

import pytest
from full_matrix import first_of
from sweep_fakes import SETTINGS, Heard, search

from selftune.errors import Stopped


@pytest.mark.parametrize("scheduler", first_of(["asha", "pbt", "hyperband"]))
def test_a_stopped_sweep_goes_on_with_every_trial_where_it_was(scheduler, tmp_path, cluster):
    before = Heard()
    with pytest.raises(Stopped, match=r"after \d trials?"):
        search(
            tmp_path,
            cluster,
            heard=before,
            stop=lambda: len(before.trials) >= 12,
            **SETTINGS[scheduler],
        )
    assert before.ends == 1
    after = search(tmp_path, cluster, resume=True, **SETTINGS[scheduler])
    stood = {number: (trial.training_step, trial.spent) for number, trial in before.last.items()}
    assert {number: (t.training_step, t.spent) for number, t in after.states[0].items()} == stood
    assert max(step for step, _ in stood.values()) > 0
    last = {**before.last, **after.last}
    assert all(trial.status in ("finished", "stopped") for trial in last.values())
    if scheduler != "pbt":  # whose trials copy each other
        assert all(trial.spent == trial.training_step for trial in last.values())  # no step was done twice

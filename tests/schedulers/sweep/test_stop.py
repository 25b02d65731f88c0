"""A sweep that somebody asks to stop, by the file that ``selftune stop`` leaves, and that goes on later."""

import pytest
from full_matrix import first_of
from sweep_fakes import SETTINGS, Heard, search

from selftune.errors import Stopped
from selftune.studies import driver as drivers
from selftune.studies.driver import REQUEST, held
from selftune.studies.driver_record import read_driver


class Asks(Heard):
    """Asks the driver of a folder to stop once it has heard so much."""

    def __init__(self, folder, after):
        super().__init__()
        self.folder, self.after = folder, after

    def heard(self, trial):
        super().heard(trial)
        if len(self.trials) == self.after:
            (self.folder / REQUEST).touch()


@pytest.mark.full
@pytest.mark.parametrize("scheduler", first_of(["asha", "pbt", "hyperband"]))
def test_a_stopped_sweep_goes_on_with_every_trial_where_it_was(scheduler, tmp_path, cluster, monkeypatch):
    monkeypatch.setattr(drivers, "_LOOK", 0.0)  # these trials take no second
    before = Asks(tmp_path, after=12)
    with (
        pytest.raises(Stopped, match=r"after \d trials?") as stopped,
        held(tmp_path) as driver,
        driver.finishing(),
    ):
        search(tmp_path, cluster, heard=before, stop=driver.asked, **SETTINGS[scheduler])
    assert before.ends == 1
    assert (stopped.value.status, read_driver(tmp_path).ended) == (0, "stopped")
    assert not (tmp_path / REQUEST).exists()
    after = search(tmp_path, cluster, resume=True, **SETTINGS[scheduler])
    stood = {number: (trial.training_step, trial.spent) for number, trial in before.last.items()}
    assert {number: (t.training_step, t.spent) for number, t in after.states[0].items()} == stood
    assert max(step for step, _ in stood.values()) > 0
    last = {**before.last, **after.last}
    assert all(trial.status in ("finished", "stopped") for trial in last.values())
    if scheduler != "pbt":  # whose trials copy each other
        assert all(trial.spent == trial.training_step for trial in last.values())  # no step was done twice

"""A sweep in a process of its own, which kills itself: FOLDER RAY_ADDRESS SCHEDULER STEPS.

It does so as soon as a resume would find a trial of so many training steps: the record is older than what a
listener hears. Started again, it goes on.
"""

import sys
from pathlib import Path

import sweep_fakes
from ray import cloudpickle

from selftune.schedulers.sweep.sweep_record import KIND
from selftune.storage.kept_state import KeptState

cloudpickle.register_pickle_by_value(sweep_fakes)
folder, address, scheduler, steps = sys.argv[1:]


def is_saved():
    state = KeptState(Path(folder) / "ray", KIND, KIND).load()
    trials = {} if state is None else state["records"]["trials"]
    return any(trial.training_step >= int(steps) for trial in trials.values())


heard = sweep_fakes.Heard(is_saved)
sweep_fakes.search(folder, address, heard=heard, resume=True, **sweep_fakes.SETTINGS[scheduler])

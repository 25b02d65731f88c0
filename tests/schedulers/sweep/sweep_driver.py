"""A sweep in a process of its own, which kills itself: FOLDER RAY_ADDRESS SCHEDULER STEPS.

It does so as soon as a resume would find a trial of so many training steps. Tune copies its snapshots into the
folder from a thread beside its loop, so what is there is older than what a listener hears.
"""

import pickle
import sys
from pathlib import Path

import sweep_fakes
from ray import cloudpickle

cloudpickle.register_pickle_by_value(sweep_fakes)
folder, address, scheduler, steps = sys.argv[1:]


def is_saved():
    for path in Path(folder).glob("ray/callback-states-*.pkl"):
        try:
            states = cloudpickle.loads(path.read_bytes())
        except (EOFError, pickle.UnpicklingError):  # it is being copied
            continue
        trials = [
            trial for state in filter(None, states.values()) for trial in state["records"]["trials"].values()
        ]
        return any(trial.training_step >= int(steps) for trial in trials)
    return False


sweep_fakes.search(folder, address, heard=sweep_fakes.Heard(is_saved), **sweep_fakes.SETTINGS[scheduler])

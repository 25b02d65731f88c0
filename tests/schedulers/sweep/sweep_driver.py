"""A sweep in a process of its own, which kills itself: FOLDER RAY_ADDRESS SCHEDULER RECORDS."""

import sys

import sweep_fakes
from ray import cloudpickle

cloudpickle.register_pickle_by_value(sweep_fakes)
folder, address, scheduler, records = sys.argv[1:]
sweep_fakes.search(
    folder,
    address,
    heard=sweep_fakes.Heard(dies_after=int(records)),
    curve={"seconds": 0.05},
    **sweep_fakes.SETTINGS[scheduler],
)

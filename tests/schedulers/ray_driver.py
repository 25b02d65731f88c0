"""A driver in a process of its own, to be killed: FOLDER RAY_ADDRESS. Prints a line per hyper-step."""

import sys
from pathlib import Path

import ray_fakes
from ray import cloudpickle

from selftune.listener import Listener
from selftune.schedulers import run_on_ray


class Printer(Listener):
    def hyper_step(self, step):
        print(step.number, flush=True)


cloudpickle.register_pickle_by_value(ray_fakes)
run_on_ray(
    ray_fakes.ToyMethod(2),
    ray_fakes.Toys(seconds=0.02),
    members=2,
    cpus=1,
    gpus=0,
    folder=Path(sys.argv[1]),
    listener=Printer(),
    address=sys.argv[2],
    space=ray_fakes.SPACE,
)

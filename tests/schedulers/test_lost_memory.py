"""A machine whose memory runs full: Ray's memory monitor ends workers, which start again and change nothing."""

import json
from pathlib import Path

import pytest
from own_process import python
from ray_fakes import ToyMethod

FILLS_THE_MEMORY = """
import json, os, sys, threading
from dataclasses import dataclass
from pathlib import Path

import psutil

sys.path.insert(0, sys.argv[2])
memory = psutil.virtual_memory()
margin = 1.5 * 2**30  # beyond what is in use now, and what a cluster and two workers take
os.environ["RAY_memory_usage_threshold"] = str(1 - (memory.available - 2 * 2**30 - margin) / memory.total)
os.environ["RAY_memory_monitor_refresh_ms"] = "100"
import ray_fakes
from ray import cloudpickle
from selftune.schedulers import run_on_ray

class Hog(ray_fakes.ToyTrainer):
    def execute(self, order):
        marker = Path(sys.argv[1]).parent / "full"
        if self.member == 1 and order.number == 6 and not marker.exists():
            marker.touch()
            hoard = []
            for _ in range(200):  # until it is ended
                hoard.append(bytearray(os.urandom(1) * (64 * 2**20)))
            threading.Event().wait(120)
        return super().execute(order)

@dataclass(frozen=True)
class Hogs(ray_fakes.Toys):
    def __call__(self, member):
        return Hog(member, marker=self.marker)

cloudpickle.register_pickle_by_value(ray_fakes)
recorder = ray_fakes.Recorder()
reports = run_on_ray(
    ray_fakes.ToyMethod(2), Hogs(), members=2, cpus=0.5, gpus=0, folder=Path(sys.argv[1]),
    listener=recorder, space=ray_fakes.SPACE,
)
weights = {member: report.tensors["network.weights"].tolist() for member, report in reports.items()}
print(json.dumps([recorder.of("hyper_step"), weights, recorder.departures]))
"""


@pytest.mark.full
@pytest.mark.timeout(400)
def test_workers_that_the_memory_monitor_ends_change_nothing(tmp_path, undisturbed):
    output = python(FILLS_THE_MEMORY, tmp_path / "run", Path(__file__).parent, cwd=tmp_path, seconds=350)
    steps, weights, departures = json.loads(output.splitlines()[-1])
    expected, expected_weights = undisturbed(ToyMethod(2))
    assert steps == json.loads(json.dumps(expected.of("hyper_step")))
    assert weights == {str(member): values for member, values in expected_weights.items()}
    assert departures
    assert all("the memory of its machine is full" in reason for _, reason in departures)

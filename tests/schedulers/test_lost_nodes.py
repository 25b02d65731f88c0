"""A cluster of two nodes, one of which dies for good while another one comes; in a process of its own."""

import json
from pathlib import Path

import pytest
from own_process import python
from ray_fakes import ToyMethod

LOSES_A_NODE = """
import json, sys, tempfile
from pathlib import Path

sys.path.insert(0, sys.argv[2])
import ray_fakes
from ray import cloudpickle
from ray.cluster_utils import Cluster
from selftune.schedulers import run_on_ray
from selftune.schedulers.session import private_session

class Loses(ray_fakes.Recorder):
    def hyper_step(self, step):
        super().hyper_step(step)
        if step.number == 8:
            cluster.remove_node(nodes.pop(), allow_graceful=False)  # killed, and its workers with it
            nodes.append(cluster.add_node(**node))

cloudpickle.register_pickle_by_value(ray_fakes)
recorder = Loses()
(Path(tempfile.gettempdir()) / "ray").mkdir(exist_ok=True)  # where Cluster leaves its address
with private_session() as folder:
    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "temp_dir": str(folder)}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    nodes = [cluster.add_node(**node)]
    reports = run_on_ray(
        ray_fakes.ToyMethod(2), ray_fakes.Toys(), members=2, cpus=1, gpus=0, folder=Path(sys.argv[1]),
        listener=recorder, space=ray_fakes.SPACE, address=cluster.address,
    )
    cluster.shutdown()
weights = {member: report.tensors["network.weights"].tolist() for member, report in reports.items()}
print(json.dumps([recorder.of("hyper_step"), weights, recorder.departures]))
"""


@pytest.mark.full
@pytest.mark.timeout(900)  # four processes of Ray per node, on a busy machine
def test_a_node_that_dies_changes_nothing(tmp_path, undisturbed):
    output = python(LOSES_A_NODE, tmp_path / "run", Path(__file__).parent, cwd=tmp_path, seconds=850)
    steps, weights, departures = json.loads(output.splitlines()[-1])
    expected, expected_weights = undisturbed(ToyMethod(2))
    assert steps == json.loads(json.dumps(expected.of("hyper_step")))
    assert weights == {str(member): values for member, values in expected_weights.items()}
    assert len(departures) == 1

"""A trainer whose two workers are on two nodes, of which one may die for good while another one comes."""

import json
from pathlib import Path

import pytest
import torch
from gang_study import alone
from own_process import python
from rounding import rounding

ON_NODES = """
import json, sys, tempfile
from pathlib import Path

folder, tests, dies = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
sys.path[:0] = [str(tests), str(tests.parent)]
import gang_fakes, gang_study
import ray
from ray import cloudpickle
from ray.cluster_utils import Cluster
from selftune.schedulers import run_on_ray
from selftune.schedulers.session import private_session

class Loses(gang_study.Kept):
    def hyper_step(self, step):
        super().hyper_step(step)
        if dies != "nobody" and len(self.steps) == 4:
            lost = json.loads((folder / f"worker-{dies}.json").read_text())["node"]
            node = next(node for node in nodes if node.node_id == lost)
            cluster.remove_node(node, allow_graceful=False)  # killed, and its workers with it
            cluster.add_node(**settings)

cloudpickle.register_pickle_by_value(gang_fakes)
kept, study = Loses(), gang_study.STUDY
folder.mkdir()
(Path(tempfile.gettempdir()) / "ray").mkdir(exist_ok=True)  # where Cluster leaves its address
with private_session() as session:
    settings = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "temp_dir": str(session)}
    cluster = Cluster(initialize_head=True, head_node_args={**settings, "num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(**settings) for _ in range(2)]
    report = run_on_ray(
        study.strategy.method, gang_fakes.NotedWorkers(study.strategy.trainers(), folder), members=1, workers=2,
        cpus=1, gpus=0, folder=folder / "run", listener=kept, space=study.space, address=cluster.address,
    )[0]
    cluster.shutdown()
network = {name: tensor.tolist() for name, tensor in report.network.items()}
print(json.dumps([kept.values.tolist(), report.metrics["test_loss"], network, kept.departures]))
"""


@pytest.mark.full
@pytest.mark.timeout(600)  # four processes of Ray per node, on a busy machine
@pytest.mark.parametrize("dies", ["nobody", 1, 0])
def test_two_workers_on_two_nodes_are_one_with_the_whole_batch(dies, tmp_path):
    """Also if the node of one of them dies: then the trial goes on from its last checkpoint, on another node."""
    output = python(ON_NODES, tmp_path / "run", Path(__file__).parent, dies, cwd=tmp_path, seconds=550)
    values, test_loss, network, departures = json.loads(output.splitlines()[-1])
    print(departures)
    first, second = (json.loads((tmp_path / "run" / f"worker-{rank}.json").read_text()) for rank in range(2))
    assert first["node"] != second["node"]
    assert {address.removeprefix("::ffff:") for address in first["listens"] + second["listens"]} == {"127.0.0.1"}
    expected, one = alone()
    tolerance = rounding(expected.values.abs().max(), 1_000, torch.float32)
    torch.testing.assert_close(torch.tensor(values), expected.values, rtol=0, atol=tolerance)
    assert test_loss == pytest.approx(one.metrics["test_loss"], rel=1e-4)
    for name, tensor in one.network.items():
        torch.testing.assert_close(torch.tensor(network[name]), tensor, rtol=0, atol=1e-4)
    assert len(departures) == (dies != "nobody")

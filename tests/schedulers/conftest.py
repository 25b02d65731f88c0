import sys
from pathlib import Path

import pytest
import ray
from ray import cloudpickle
from ray.tune.execution import class_cache

from selftune.schedulers import ray_internals, slots, trial_groups
from selftune.schedulers.session import private_session

sys.path.insert(0, str(Path(__file__).parent))

import network_fakes
import own_loops
import ray_fakes
import smooth_fakes

from selftune.training import run_in_process

for module in (network_fakes, own_loops, ray_fakes, smooth_fakes):
    cloudpickle.register_pickle_by_value(module)  # workers do not see this folder


@pytest.fixture(autouse=True)
def own_interrupts():
    """A user's ``Tuner.fit`` leaves a handler of Ctrl-C behind, which would answer in the tests that follow."""
    with ray_internals.own_interrupts():
        yield


@pytest.fixture
def undisturbed():
    """Events and final weights of a run in this process, without Ray."""

    def undisturbed(method=None, toys=None):
        method = method or ray_fakes.ToyMethod()
        toys = toys or ray_fakes.Toys()
        recorder = ray_fakes.Recorder()
        trainers = {member: toys(member) for member in range(method.team_size)}
        run_in_process(method(), trainers, recorder)
        return recorder, {member: trainer.weights.tolist() for member, trainer in trainers.items()}

    return undisturbed


@pytest.fixture
def node(monkeypatch):
    """A cluster of one node with these resources, for tests without Ray."""

    def node(**resources):
        monkeypatch.setattr(slots, "alive", lambda: [resources])

    node(CPU=2)
    return node


@pytest.fixture
def local_trainables(monkeypatch, tmp_path):
    """Trainables that neither ask Ray for its address nor write outside of the test's folder.

    Their parameters, such as lists of a test, stay in this process even while another test's cluster is running.
    """
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "127.0.0.1")
    monkeypatch.setenv("RAY_RESULTS_DIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(trial_groups, "_LOOK_EVERY", 0.0)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """One small cluster for all tests that need Ray; its address."""
    patch = pytest.MonkeyPatch()
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    patch.setenv("OMP_NUM_THREADS", "1")
    # without an environment of their own, trials can use workers that are there already
    patch.setattr(class_cache, "DEFAULT_ENV_VARS", {})
    patch.setattr(class_cache, "ENV_VARS_TO_PROPAGATE", set())
    with private_session() as folder:
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=100 * 2**20,
            log_to_driver=False,
            logging_level="ERROR",
            _temp_dir=str(folder),
        )
        yield ray.get_runtime_context().gcs_address
        ray.shutdown()
    patch.undo()

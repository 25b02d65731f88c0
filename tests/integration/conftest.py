"""What the tests of this folder share: a cluster of two nodes, and how to call selftune for it."""

import os
import subprocess
import sys

import pytest
from services.ray_cluster import ray_cluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    with ray_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def selftune(cluster, tmp_path):
    """Runs ``selftune ARGUMENTS`` in a folder of the test's, as a user of the cluster."""

    def run(*arguments, status=0, seconds=500, **variables):
        found = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        done = subprocess.run(
            [sys.executable, "-m", "selftune.cli", *map(str, arguments)],
            cwd=tmp_path,
            env={**found, "RAY_API_SERVER_ADDRESS": cluster.dashboard, **cluster.variables, **variables},
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        assert done.returncode == status, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run

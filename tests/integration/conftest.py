"""What the tests of this folder share: a cluster of two nodes, and the servers that its studies use.

All of it listens on the loopback interface. Passwords and tokens are made for each run and are in environments and
closed files alone.
"""

import os
import secrets
import subprocess
import sys
from dataclasses import dataclass

import boto3
import pytest
from services.chromium import chromium
from services.mlflow_server import mlflow_server
from services.object_store import object_store
from services.postgresql import Database, postgresql
from services.ray_cluster import RayCluster, ray_cluster

BUCKET = "selftune"


@dataclass(frozen=True)
class Servers:
    """What runs beside the cluster.

    Args:
        database: MLflow's.
        store: variables of the object store, as AWS' tools take them.
        mlflow: address of the tracking server.
    """

    database: Database
    store: dict[str, str]
    mlflow: str


@pytest.fixture(scope="session")
def servers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("servers")
    with postgresql(secrets.token_hex(16)) as database, object_store(folder) as address:
        store = {
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": "selftune",
            "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16),
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        names = ("aws_access_key_id", "aws_secret_access_key", "region_name")
        given = dict(zip(names, [*store.values()][1:], strict=True))
        boto3.client("s3", endpoint_url=address, **given).create_bucket(Bucket=BUCKET)
        with mlflow_server(folder, database, store) as mlflow:
            yield Servers(database, store, mlflow)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory, servers):
    variables = {**servers.store, "MLFLOW_TRACKING_URI": servers.mlflow}
    home = tmp_path_factory.mktemp("home")
    with ray_cluster(tmp_path_factory.mktemp("cluster"), 1, {**variables, "HOME": str(home)}) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def user(cluster, servers):
    """Runs ``selftune ARGUMENTS`` in a folder, as a user of the cluster does."""
    return User(cluster, servers)


@pytest.fixture
def selftune(user, tmp_path):
    """The same in a folder of the test's."""

    def run(*arguments, **settings):
        return user.run(tmp_path, *arguments, **settings)

    return run


class User:
    def __init__(self, cluster: RayCluster, servers: Servers) -> None:
        known = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
        self._environment = {
            **known,
            "RAY_API_SERVER_ADDRESS": cluster.dashboard,
            "RAY_worker_niceness": "0",
            **cluster.variables,
            **servers.store,
        }

    def run(self, folder, *arguments, status=0, seconds=500, **variables):
        done = subprocess.run(
            [sys.executable, "-m", "selftune.cli", *map(str, arguments)],
            cwd=folder,
            env={**self._environment, "XDG_CACHE_HOME": str(folder / "cache"), **variables},
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        assert done.returncode == status, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

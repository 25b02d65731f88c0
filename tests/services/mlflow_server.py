"""An MLflow server, for tests: runs in a database, artifacts in an object store, which it serves itself."""

import contextlib
import os
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import boto3
from services.postgresql import Database
from services.processes import free_port, running, wait_for

BUCKET = "mlflow"


@contextlib.contextmanager
def mlflow_server(folder: Path, database: Database, store: dict[str, str]) -> Iterator[str]:
    """A server, and its bucket: its address, as ``MLFLOW_TRACKING_URI`` takes it.

    Args:
        folder: for its log.
        store: the variables that say where the object store is, and who may write there.

    Raises:
        RuntimeError: It did not start; its log is in the message.
    """
    boto3.client(
        "s3",
        endpoint_url=store["AWS_ENDPOINT_URL"],
        aws_access_key_id=store["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=store["AWS_SECRET_ACCESS_KEY"],
        region_name=store["AWS_DEFAULT_REGION"],
    ).create_bucket(Bucket=BUCKET)
    port = free_port()
    address, log = f"http://127.0.0.1:{port}", folder / "mlflow.log"
    backend = f"postgresql+psycopg://{database.user}@127.0.0.1:{database.port}/{database.name}"
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    command += ["--backend-store-uri", backend, "--artifacts-destination", f"s3://{BUCKET}", "--serve-artifacts"]
    kept_back = {"PGPASSWORD": database.password, **store}  # the command line is everybody's to read
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with running(command, log, {**os.environ, "PATH": path, **kept_back}) as process:
        wait_for(process, lambda: urllib.request.urlopen(f"{address}/health", timeout=2), log)
        yield address

"""An object store that speaks S3, for tests: moto's server, which keeps all in memory and asks for no secret."""

import contextlib
import os
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from services.processes import free_port, running, wait_for


@contextlib.contextmanager
def object_store(folder: Path) -> Iterator[str]:
    """A store without buckets: its address, as ``AWS_ENDPOINT_URL`` takes it.

    Raises:
        RuntimeError: It did not start; its log is in the message.
    """
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    log = folder / "object-store.log"
    command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
    with running(command, log, os.environ) as process:
        wait_for(process, lambda: urllib.request.urlopen(f"{address}/moto-api/", timeout=2), log)
        yield address

"""A Ray cluster of two nodes with a token, all of it on the loopback interface; a process of its own holds it.

The nodes share the address 127.0.0.1, to which Ray then binds every listener; with any other address, it would
listen on all interfaces. Run as a script this module is that process: it takes ``add`` and ``kill`` from its
standard input, a line each, and says ``ready`` after each of them.
"""

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from ray._private.utils import psutil  # the one that Ray brings
from services.processes import free_port

OF_RAY = "RAY_"


class RayCluster:
    """A cluster that runs.

    Attributes:
        dashboard: address of its dashboard and its jobs.
        gcs: address of its control store, as ``RAY_ADDRESS`` takes it.
        token: the file with the token.
        session: the folder with its logs.
        pid: of the process that holds it; all others of the cluster are below it.
    """

    def __init__(self, folder, cpus=2, variables=None):
        self._files = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # paths of sockets have 107 characters
        self.token = folder / "token"
        self.token.touch(mode=0o600)
        self.token.write_text(secrets.token_hex(32))
        self.variables = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token)}
        environment = {name: value for name, value in os.environ.items() if not name.startswith(OF_RAY)}
        environment |= {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # jobs begin with `python`
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # a node at 127.0.0.1 is not given another address
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
            "RAY_TMPDIR": str(self._files),
            "PYTHONPATH": str(Path(__file__).parents[1]),
            **self.variables,
            **(variables or {}),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "services.ray_cluster", str(self._files), str(free_port()), str(cpus)],
            env=environment,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=open(folder / "cluster.log", "ab"),  # noqa: SIM115
            text=True,
        )
        self.pid = self._process.pid
        try:
            about = json.loads(self._answer())
        except AssertionError:
            self.end()
            raise
        self.gcs, self.dashboard, self.session = about["gcs"], about["dashboard"], Path(about["session"])

    def kill_node(self):
        """Kills the second node, and what runs there."""
        self._ask("kill")

    def add_node(self):
        """Adds a second node."""
        self._ask("add")

    def end(self):
        """Ends all of it; what does not end by itself is killed."""
        processes = self.processes()
        self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
        self._process.stdout.close()
        shutil.rmtree(self._files, ignore_errors=True)

    def processes(self):
        """All that the cluster consists of, the process that holds it first."""
        holder = psutil.Process(self.pid)
        return [holder, *holder.children(recursive=True)]

    def log(self, job):
        """What a job has printed."""
        request = urllib.request.Request(
            f"{self.dashboard}/api/jobs/{job}/logs", headers={"authorization": f"Bearer {self.token.read_text()}"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["logs"]

    def _ask(self, what):
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        assert self._answer() == "ready\n"

    def _answer(self):
        line = self._process.stdout.readline()
        assert line, f"the cluster ended: {(self.token.parent / 'cluster.log').read_text()[-3000:]}"
        return line


@contextmanager
def ray_cluster(folder, cpus=2, variables=None):
    """A cluster while the context lasts; ``cpus`` on each node, ``variables`` in its environment."""
    folder.mkdir(parents=True, exist_ok=True)
    cluster = RayCluster(folder, cpus, variables)
    try:
        yield cluster
    finally:
        cluster.end()


def _hold(folder, port, cpus):
    from ray.cluster_utils import Cluster

    answers, sys.stdout = sys.stdout, sys.stderr
    # Nodes share no files. The head's are where Cluster leaves its address: elsewhere, a job that looks for its
    # cluster would look at all of this machine.
    places = (str(Path(folder) / (str(number) if number else "ray")) for number in count())
    (Path(folder) / "ray").mkdir()
    node = {
        "num_cpus": int(cpus),
        "object_store_memory": 100 * 2**20,
        "dashboard_agent_listen_port": 0,  # the default one is the same for all nodes
    }
    dashboard = {"include_dashboard": True, "dashboard_host": "127.0.0.1", "dashboard_port": int(port)}
    cluster = Cluster(initialize_head=True, head_node_args={**node, **dashboard, "temp_dir": next(places)})
    second = cluster.add_node(**node, temp_dir=next(places))
    about = {
        "gcs": cluster.address,
        "dashboard": f"http://127.0.0.1:{port}",
        "session": cluster.head_node.get_session_dir_path(),
    }
    print(json.dumps(about), file=answers, flush=True)
    for line in sys.stdin:
        if line == "kill\n":
            cluster.remove_node(second, allow_graceful=False)
        elif line == "add\n":
            second = cluster.add_node(**node, temp_dir=next(places))
        print("ready", file=answers, flush=True)
    with suppress(KeyboardInterrupt):
        cluster.shutdown()


if __name__ == "__main__":
    _hold(*sys.argv[1:])

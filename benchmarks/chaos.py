"""A day's faults in minutes: processes of a cluster are killed at random, and the study comes out the same.

    python benchmarks/chaos.py [--kills 60] [--simulated 1000] [--seed 0]

Real processes: a cluster of three nodes on this machine trains two networks whose hyperparameters `self_tuning`
moves. At random moments one of these is ended by SIGKILL: a trainer, a whole node (another one comes), the
driver, the cluster's head (another cluster comes). What a job on a cluster does is done here: `selftune run
STUDY --restart` is started again whenever it has ended without being done. Study follows study until there were
enough kills.

Simulated: the real scheduler, team, method, record and trajectory with trainers on a virtual clock
(``simulated_cluster.py``); trainers and drivers die.

Each study's trajectory is compared with the one of the same study in one process without a fault, to the last bit,
and what its folder holds right after its driver died with what it holds in the end.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import numpy as np
import psutil
from ray.cluster_utils import Cluster
from simulated_cluster import TRAIN_STEPS, RecordedTune

from selftune.hyperparameters import Hyperparameter, Interval, Space
from selftune.methods import Budget, SelfTuning, SelfTuningSettings
from selftune.schedulers import slots
from selftune.schedulers.session import private_session
from selftune.studies.status import Status, read_status
from selftune.tracking.trajectory import Trajectory, read_trajectory

STUDY = """\
study: chaos
objective: {{task: digits, hidden: [16], train_examples: 300}}
regularizers:
  dropout: {{rate: {{start: 0.1}}}}
  weight_decay: {{strength: {{start: 1.0e-3}}}}
method: {{name: self_tuning, warmup_steps: 50, train_steps: 5, checkpoint_every: 10}}
trainers: {{number: 2, cpus: 1}}
budget: {{steps: {steps}}}
seed: {seed}
"""
CHANCES = {"trainer": 0.6, "driver": 0.2, "node": 0.12, "head": 0.08}
PAUSE = 3.0  # mean seconds between what a kill has led to and the next one
PATIENCE = 120.0  # seconds without a hyper-step after which something is wrong
MEMBERS = 4  # of the simulated team
SIMULATED_DEATHS = 0.02  # of a trainer, per order
LIFETIME = 400.0  # orders of a simulated driver, on average
LOST_HEAD = "2"  # seconds after which Ray ends a driver without a head, instead of 60


class Nodes:
    """A cluster on this machine: a head, and a node for each trainer, which may die and be replaced."""

    def __init__(self, folder: Path) -> None:
        self._node = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "temp_dir": str(folder)}
        self._begin()

    def _begin(self) -> None:
        (Path(tempfile.gettempdir()) / "ray").mkdir(exist_ok=True)  # where Cluster leaves its address
        head = {**self._node, "num_cpus": 0, "include_dashboard": False}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self._workers = [self._cluster.add_node(**self._node) for _ in range(2)]
        self.address = self._cluster.address

    def lose_node(self, draw: random.Random) -> None:
        node = self._workers.pop(draw.randrange(2))
        self._cluster.remove_node(node, allow_graceful=False)
        self._workers.append(self._cluster.add_node(**self._node))

    def lose_head(self) -> None:
        self._cluster.head_node.kill_gcs_server(check_alive=False)

    def replace(self) -> None:
        self.end()
        self._begin()

    def end(self) -> None:
        self._cluster.shutdown()


class Study:
    """One study under fire."""

    def __init__(self, folder: Path, nodes: Nodes, steps: int, seed: int) -> None:
        self.folder, self.nodes, self.output = folder, nodes, folder / "out"
        (folder / "study.yaml").write_text(STUDY.format(steps=steps, seed=seed))
        self.starts = 0
        self.kept: list[Trajectory] = []
        self.process = self._start()

    def _command(self, *more: str) -> list[str]:
        return [sys.executable, "-m", "selftune.cli", "run", "study.yaml", "--no-mlflow", *more]

    def _start(self) -> subprocess.Popen[bytes]:
        self.starts += 1
        surroundings = {
            **os.environ,
            "RAY_ADDRESS": self.nodes.address,
            "RAY_gcs_rpc_server_reconnect_timeout_s": LOST_HEAD,
        }
        command = self._command("--output", "out", "--restart")
        with open(self.folder / "said.txt", "ab") as said:
            return subprocess.Popen(command, env=surroundings, cwd=self.folder, stdout=said, stderr=said)

    def is_over(self) -> bool:
        """Whether the study is done; a driver that ended before it is started again, as a job would."""
        code = self.process.poll()
        if code is None or code == 0:
            return code == 0
        if (self.output / "trajectory.arrows").exists():
            self.kept.append(read_trajectory(self.output))
        self.process = self._start()
        return False

    def status(self) -> Status | None:
        with suppress(FileNotFoundError, ValueError):
            return read_status(self.output)
        return None

    @property
    def hyper_steps(self) -> int:
        status = self.status()
        return 0 if status is None else status.hyper_steps

    def undisturbed(self) -> tuple[Trajectory, float]:
        """The same study in one process."""
        before = time.monotonic()
        subprocess.run(
            self._command("--output", "whole", "--local"), cwd=self.folder, check=True, capture_output=True
        )
        return read_trajectory(self.folder / "whole"), time.monotonic() - before


def hit(what: str, study: Study, draw: random.Random) -> bool:
    """Kills one process, or a node's; whether there was one."""
    if what == "node":
        study.nodes.lose_node(draw)
    elif what == "head":
        study.nodes.lose_head()
        study.process.wait()  # Ray ends it
        study.nodes.replace()
    elif what == "driver":
        study.process.kill()
        study.process.wait()
    else:
        status = study.status()
        found = [member.process for team in status.teams for member in team.members] if status else []
        alive = [process for process in found if process and psutil.pid_exists(process)]
        if not alive:
            return False
        os.kill(draw.choice(alive), signal.SIGKILL)
    return True


def under_fire(study: Study, draw: random.Random, kills: int, lost: dict[str, list[float]]) -> int:
    """Kills at random until the study is over, or there were enough; how often."""
    count = 0
    while not study.is_over():
        before = study.hyper_steps
        if count < kills and before:
            [what] = draw.choices(list(CHANCES), list(CHANCES.values()))
            began = time.monotonic()
            if hit(what, study, draw):
                count += 1
                if await_progress(study, before):
                    lost[what].append(time.monotonic() - began)
        time.sleep(draw.expovariate(1 / PAUSE) if count < kills else 0.2)
    return count


def await_progress(study: Study, hyper_steps: int) -> bool:
    """Waits for a hyper-step beyond those; False if the study ended meanwhile."""
    limit = time.monotonic() + PATIENCE
    while study.hyper_steps <= hyper_steps:
        if study.is_over():
            return False
        if time.monotonic() > limit:
            raise SystemExit(f"no hyper-step for {PATIENCE:g} seconds; see {study.folder}/said.txt")
        time.sleep(0.05)
    return True


def same(one: Trajectory, other: Trajectory, rows: int | None = None) -> bool:
    """Whether the first rows are the same to the last bit; all of them by default."""
    if rows is None and len(one) != len(other):
        return False
    return all(
        np.array_equal(getattr(one, name)[:rows], getattr(other, name)[:rows])
        for name in ("values", "hypergradients", "training_loss", "validation_loss")
    )


@contextmanager
def nodes() -> Iterator[Nodes]:
    with private_session() as folder:
        cluster = Nodes(folder)
        try:
            yield cluster
        finally:
            cluster.end()


def real(kills: int, steps: int, seed: int) -> None:
    draw, lost = random.Random(seed), defaultdict[str, list[float]](list)
    count, studies, hyper_steps, starts, differ, vanished = 0, 0, 0, 0, 0, 0
    with nodes() as cluster:
        while count < kills:
            with tempfile.TemporaryDirectory() as place:
                study = Study(Path(place), cluster, steps, seed=studies)
                count += under_fire(study, draw, kills - count, lost)
                there, (whole, _) = read_trajectory(study.output), study.undisturbed()
            studies, hyper_steps, starts = studies + 1, hyper_steps + len(there), starts + study.starts
            differ += not same(there, whole)
            vanished += sum(not same(kept, there, len(kept)) for kept in study.kept)
            print(f"# study {studies}: {count} kills so far", file=sys.stderr, flush=True)
    print("| killed | times | seconds until the next new hyper-step, median | longest |")
    print("| --- | --- | --- | --- |")
    for what in CHANCES:
        if lost[what]:
            print(f"| {what} | {len(lost[what])} | {statistics.median(lost[what]):.1f} | {max(lost[what]):.1f} |")
    print(f"\nkills of real processes: {count}, in {studies} studies of {hyper_steps} hyper-steps in all")
    print(f"drivers started: {starts}, each by the same command; commands by hand: 0")
    print(f"studies whose trajectory differs from the undisturbed one: {differ}")
    print(f"dead drivers whose recorded hyper-steps are not in the end's: {vanished}", flush=True)


def simulated_run(folder: Path, kills: int, hyper_steps: int, seed: int) -> tuple[int, int]:
    """Trainers and drivers die on a virtual clock until there were enough; how often each."""
    space = Space([Hyperparameter(f"h.x{i}", Interval(), 0.5, tuned=True) for i in range(5)])
    draw, trainers, drivers = random.Random(seed), 0, 0
    while True:
        deaths = SIMULATED_DEATHS if trainers + drivers < kills else 0.0
        settings = SelfTuningSettings(warmup_steps=0, train_steps=TRAIN_STEPS, checkpoint_every=10)
        method = partial(SelfTuning, Budget(steps=hyper_steps * TRAIN_STEPS), settings, MEMBERS)
        tune = RecordedTune(folder, method, MEMBERS, space, deaths, seed)
        lifetime = draw.expovariate(1 / LIFETIME) if deaths else float("inf")
        while tune.left and tune.orders < lifetime:
            tune.step()
            if trainers + drivers + tune.died >= kills:
                tune.deaths, lifetime = 0.0, float("inf")
        trainers += tune.died
        if not tune.left:
            tune.callback.on_experiment_end(tune.trials)
            return trainers, drivers
        drivers += 1


def simulated(kills: int, seed: int) -> None:
    slots.alive = lambda: [{"CPU": 1e6}]
    hyper_steps = max(200, 10 * kills)
    with tempfile.TemporaryDirectory() as place:
        there, whole = Path(place) / "there", Path(place) / "whole"
        for folder in (there, whole):
            folder.mkdir()
        simulated_run(whole, 0, hyper_steps, seed)
        trainers, drivers = simulated_run(there, kills, hyper_steps, seed)
        equal = same(read_trajectory(there), read_trajectory(whole))
    print(f"simulated kills: {trainers} of trainers, {drivers} of drivers, in {hyper_steps} hyper-steps")
    print(f"the trajectory is {'that of the undisturbed run' if equal else 'ANOTHER one'}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60, help="of real processes")
    parser.add_argument("--simulated", type=int, default=1000, help="kills in the simulation")
    parser.add_argument("--steps", type=int, default=3000, help="training steps of a study")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 is for machines that people work on
    if options.kills:
        real(options.kills, options.steps, options.seed)
    if options.simulated:
        simulated(options.simulated, options.seed)


if __name__ == "__main__":
    main()

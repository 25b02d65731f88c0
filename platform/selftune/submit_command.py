"""Commands about jobs of a Ray cluster elsewhere: ``submit``, ``logs``, ``fetch``, ``status`` and ``stop``."""

from __future__ import annotations

import argparse
import os
import re
import secrets
import shlex
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from selftune.command_arguments import Address, place

if TYPE_CHECKING:
    from selftune.schedulers.jobs import Job, Jobs

# Ray is imported once there is something to ask a cluster.

_STUDY, _OUTPUT, _VERSION = "selftune.study", "selftune.output", "selftune.version"  # of a job's metadata
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_PAUSE = 1.0  # seconds between two looks at a job that is to stop


def add_submit_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what ``selftune submit`` takes, beside the study."""
    add_address(parser)
    parser.add_argument(
        "--output",
        metavar="DIR",
        help="folder for the results, on the cluster's head, or an address such as s3://bucket/path"
        " (default: ~/selftune/<job>)",
    )
    parser.add_argument("--name", metavar="NAME", help="of the job (default: <study>-<some letters>)")
    parser.add_argument("--no-wait", action="store_true", help="send it and return at once")
    parser.add_argument(
        "--restarts",
        type=_count,
        default=10,
        metavar="N",
        help="how often the driver starts again after it was killed (default: 10)",
    )
    parser.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an environment variable of the job; whoever may ask the cluster can read it: no passwords",
    )
    add_to(parser)


def add_address(parser: argparse.ArgumentParser) -> None:
    """Adds where the cluster is."""
    words = "of the cluster's dashboard, such as http://head:8265 (default: RAY_API_SERVER_ADDRESS)"
    parser.add_argument("--address", metavar="URL", help=words)


def add_job(parser: argparse.ArgumentParser) -> None:
    """Adds which job it is about, and where."""
    parser.add_argument("job", metavar="JOB", help="name of a job that `selftune submit` has sent")
    add_address(parser)


def add_to(parser: argparse.ArgumentParser) -> None:
    """Adds where results go."""
    parser.add_argument("--to", type=Path, metavar="DIR", help="folder here for the results (default: runs/<job>)")


def submit(options: argparse.Namespace) -> int:
    """Sends a study to a cluster, and follows it to its end."""
    from selftune.job_entrypoint import command
    from selftune.studies.job_files import STUDY, pack
    from selftune.studies.mistakes import UserError
    from selftune.studies.packaged import find_study

    path = find_study(options.study)
    name = options.name or f"{path.stem}-{secrets.token_hex(3)}"
    if not _NAME.fullmatch(name):
        raise UserError(f"--name: must be letters, digits, '-', '_' and '.'; got {name}")
    variables = _variables(options.env)
    output = _output(options.output, name)
    to = _free(options.to or Path("runs") / name)
    arguments = ["run", STUDY, "--output", output, "--restart"]
    for option in ("seed", "steps"):
        if (value := getattr(options, option)) is not None:
            arguments += [f"--{option}", str(value)]
    if options.no_mlflow:
        arguments.append("--no-mlflow")
    with tempfile.TemporaryDirectory() as folder:
        pack(path, files := Path(folder) / "study.zip")
        jobs = _jobs(options)
        metadata = {_STUDY: path.stem, _OUTPUT: output, _VERSION: version("selftune")}
        jobs.send(name, "exec " + shlex.join(command(options.restarts, arguments)), files, metadata, variables)
    print(f"{name}: sent to {jobs.address}; results go to {output}", flush=True)
    if options.no_wait:
        for line in _ways(name, jobs.address):
            print(line)
        return 0
    return _followed(jobs, name, to)


def logs(options: argparse.Namespace) -> int:
    """Prints the log of a job."""
    jobs = _jobs(options)
    if not options.follow:
        sys.stdout.write(jobs.log(options.job))
        return 0
    return _status_of(_follow(jobs, options.job))


def fetch(options: argparse.Namespace) -> int:
    """Brings the results of a job to this machine."""
    jobs = _jobs(options)
    _fetch(jobs, jobs.job(options.job), _free(options.to or Path("runs") / options.job))
    return 0


def job_status(options: argparse.Namespace) -> int:
    """Says how a job stands."""
    import json

    from selftune.errors import JobError

    jobs = _jobs(options)
    job = jobs.job(options.folder.name)
    output = job.metadata.get(_OUTPUT, "")
    if options.json:
        about = {"job": job.name, "state": job.state, "status": job.status, "began": job.began, "ended": job.ended}
        print(json.dumps({**about, "output": output, "message": job.message}))
        return 0
    from selftune.studies.progress import duration

    words = f"{job.name}: {job.state}"
    if job.began is not None:
        words += f" {'after' if job.is_over else 'for'} {duration((job.ended or time.time()) - job.began)}"
    print(words)
    if output:
        print(f"  results go to {output}")
    try:
        lines = [line for line in jobs.log(job.name).splitlines() if line.strip()]
    except JobError:
        print("  the cluster does not give its log")
    else:
        print(f"  last line of its log: {lines[-1]}" if lines else "  it has printed nothing")
    return 0


def job_stop(options: argparse.Namespace) -> int:
    """Asks a job to stop, and waits until it has."""
    jobs = _jobs(options)
    name = options.folder.name
    if not jobs.stop(name):
        print(f"{name}: does not run; it is {jobs.job(name).state}")
        return 0
    print(f"{name}: asked to stop; it finishes the hyper-step first", flush=True)
    if options.no_wait:
        return 0
    while not (job := jobs.job(name)).is_over:
        time.sleep(_PAUSE)
    print(f"{name}: {job.state}; {_going_on(job)}")
    return 0


def is_job(options: argparse.Namespace) -> bool:
    """Whether what ``status`` and ``stop`` are asked about is a job, not a folder."""
    given = options.folder
    if isinstance(given, Address):
        return False
    if options.address is not None:
        return True
    return "RAY_API_SERVER_ADDRESS" in os.environ and len(given.parts) == 1 and not given.exists()


def _jobs(options: argparse.Namespace) -> Jobs:
    from selftune.schedulers.jobs import ADDRESSES, Jobs
    from selftune.studies.mistakes import UserError

    given = options.address or next((os.environ[one] for one in ADDRESSES if one in os.environ), None)
    if given is None:
        raise UserError("--address: give that of the cluster's dashboard, such as http://head:8265")
    return Jobs(given)


def _output(given: str | None, name: str) -> str:
    from selftune.studies.mistakes import UserError

    if given is None:
        return f"~/selftune/{name}"
    found = place(given)
    if not isinstance(found, Address) and not given.startswith("~/") and not found.is_absolute():
        raise UserError(f"--output: give the whole path of a folder on the cluster's head, got {given}")
    return str(found)


def _variables(given: list[str]) -> dict[str, str]:
    from selftune.studies.mistakes import UserError

    # Ray's own patience with a job that is to stop is three seconds
    found = {"RAY_JOB_STOP_WAIT_TIME_S": "120"}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals or not name.isidentifier():
            raise UserError(f"--env: must be NAME=VALUE, got {name}")
        found[name] = value
    return found


def _free(folder: Path) -> Path:
    from selftune.studies.mistakes import UserError

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: holds something already; choose another folder with --to")
    return folder


def _followed(jobs: Jobs, name: str, to: Path) -> int:
    job = _follow(jobs, name)
    if job.state != "succeeded":
        return _status_of(job)
    _fetch(jobs, job, to)
    return 0


def _follow(jobs: Jobs, name: str) -> Job:
    from selftune.schedulers.job_log import JobLog
    from selftune.studies.stopping import Interrupted

    def show(piece: str) -> None:
        sys.stdout.write(piece)
        sys.stdout.flush()

    try:
        return JobLog(jobs, name, show, _say).follow()
    except KeyboardInterrupt as error:
        raise Interrupted(f"the job goes on; {'; '.join(_ways(name, jobs.address))}") from error


def _status_of(job: Job) -> int:
    """The exit status of a job that is over: that of its command."""
    if job.state == "succeeded":
        return 0
    if job.state == "stopped":
        print(f"{job.name}: was stopped; {_going_on(job)}")
        return 0
    if job.status is None:
        print(f"selftune: {job.name}: {' '.join(job.message.split())[:400]}", file=sys.stderr)
        return 1
    print(f"selftune: {job.name}: failed, with exit status {job.status}", file=sys.stderr)
    return job.status


def _going_on(job: Job) -> str:
    return f"`selftune submit` with `--output {job.metadata.get(_OUTPUT, 'DIR')}` goes on with it"


def _ways(name: str, address: str) -> list[str]:
    return [f"`selftune {one} {name} --address {address}`" for one in ("status", "logs", "stop", "fetch")]


def _fetch(jobs: Jobs, job: Job, to: Path) -> None:
    from selftune.storage.mirror import fetch as bring
    from selftune.storage.remote_folder import RemoteFolder
    from selftune.studies.job_results import is_result
    from selftune.studies.mistakes import UserError

    if (output := job.metadata.get(_OUTPUT)) is None:
        raise UserError(f"{job.name}: was not sent by `selftune submit`; nobody knows where its results are")
    try:
        if isinstance(found := place(output), Address):
            bring(RemoteFolder(found), to, is_result)
        else:
            _carry(jobs, job.name, output, to)
    except OSError as error:
        raise UserError(str(error)) from error
    print(f"results  {to}")
    if (report := to / "report.html").is_file():
        print(f"report   {report} (open it in a browser)")


def _carry(jobs: Jobs, name: str, output: str, to: Path) -> None:
    """Brings a folder of the cluster here, by a job of its own."""
    from selftune.schedulers.job_log import JobLog
    from selftune.studies.job_results import unpack
    from selftune.studies.mistakes import UserError

    printed: list[str] = []
    carrier = f"{name}-results-{secrets.token_hex(3)}"
    command = shlex.join(["python", "-m", "selftune.studies.job_results", output])
    jobs.send(carrier, f"exec {command}", None, {}, {})
    JobLog(jobs, carrier, printed.append, _say).follow()
    try:
        for line in unpack("".join(printed), to):
            print(line)
    except ValueError as error:
        raise UserError(f"{name}: the results were not fetched from {output}: {error}") from error


def _say(sentence: str) -> None:
    print(f"selftune: {sentence}", file=sys.stderr, flush=True)


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 0, got {text!r}")
    return int(text)

"""Every private part of Ray in use, in one place.

| part | used for |
| --- | --- |
| ``TuneController._schedule_trial_task(trial, ...)`` | the next ``train()`` of a trial that ``NOOP`` left idle |
| ``TuneController._on_training_result``, ``_trial_task_failure`` | what follows its result, or its failure |
| ``Trial.temporary_state.ray_actor`` | handing order and warm start to the actor before that ``train()`` |
| ``TrialRunnerWrapper._tune_controller`` | the controller itself: hooks get a wrapper that warns |
| ``TuneController.checkpoint(force)`` | an experiment snapshot right after a trial's checkpoint |
| ``Trial.run_metadata.checkpoint_manager`` | a trial that an earlier driver began has no checkpoint of Tune's |
| ``OptunaSearch._ot_study`` | telling another version of Optuna what was drawn before |
| ``Trial.run_metadata`` | failures count in a row: a trial that has saved something since has none |
| ``Trainable._storage`` | the folder of a trial and its file system, seen from the trial |
| ``ray_constants.ENABLE_RAY_CLUSTER`` | a cluster that listens on the loopback interface alone |
| ``Config``, ``AuthenticationTokenLoader`` | mode and token of a cluster that starts in a process that knows Ray |
| ``GcsClient`` | finding out at once that a cluster asks for a token |
| ``TuneController._schedule_trial_save(trial)`` | the checkpoint of an idle trial, before a run ends |
| ``TuneController._staged_trials``, ``_trial_to_actor``, ... | a trial that waits for its place is recalled |
| ``ray.tune.tune._setup_signal_catching`` | ending Tune's run as Ctrl-C does, so that it can be resumed |
| ``usage.tag_callbacks`` | Tune does not import MLflow to count callbacks for statistics that are off |
| ``RayActorManager._actor_task_failed`` | a worker that the memory monitor ends does not end the run |
| ``utils.set_sigterm_handler``, ``services.ConsolePopen`` | SIGTERM reaches the program, and it alone |
| ``utils.psutil`` | the network interface that has the address of a node |

The first four belong to the direct transport; the mailbox transport uses one of them, the actor, and only to end a
process that hangs. ``problem`` checks
version and signatures, ``tests/schedulers`` holds the contract test that a new version of Ray has to pass.
"""

from __future__ import annotations

import inspect
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import ray
from pyarrow.fs import FileSystem, LocalFileSystem
from ray import _raylet, tune
from ray._private import ray_constants, services, utils
from ray.air._internal import usage
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.tune.execution.tune_controller import TrialRunnerWrapper, TuneController
from ray.tune.experiment.trial import _TemporaryTrialState

from selftune.schedulers.environment import environment

KNOWN_VERSION = "2.60"
REQUIREMENT = "ray[tune]>=2.60,<2.61"


def problem(version: str | None = None) -> str | None:
    """Why the direct transport cannot run on this Ray, in one sentence; None if it can.

    Args:
        version: taken from the installed Ray if not given.

    >>> problem("2.60.3") is None
    True
    >>> print(problem("3.1.0"))
    this is Ray 3.1.0, but the direct transport knows Ray 2.60: install "ray[tune]>=2.60,<2.61"
    """
    version = ray.__version__ if version is None else version
    advice = f'install "{REQUIREMENT}"'
    if version.split(".")[:2] != KNOWN_VERSION.split("."):
        return f"this is Ray {version}, but the direct transport knows Ray {KNOWN_VERSION}: {advice}"
    for name, parameters in (
        (
            "_schedule_trial_task",
            ["self", "trial", "method_name", "args", "kwargs", "on_result", "on_error", "_return_future"],
        ),
        ("_on_training_result", ["self", "trial", "result"]),
        ("_trial_task_failure", ["self", "trial", "exception"]),
        ("checkpoint", ["self", "force", "wait"]),
    ):
        method = getattr(TuneController, name, None)
        if method is None or list(inspect.signature(method).parameters) != parameters:
            return f"TuneController.{name} of this Ray {version} is not the known one: {advice}"
    trial_state: Any = _TemporaryTrialState
    if not hasattr(trial_state(), "ray_actor"):
        return f"the trials of this Ray {version} do not keep their actor where they did: {advice}"
    wrapper: Any = TrialRunnerWrapper
    if "_tune_controller" not in vars(wrapper(None, None)):
        return f"the controller's wrapper of this Ray {version} is not the known one: {advice}"
    return None


def start_next_train(controller: Any, trial: Any, method: str = "train", *arguments: Any) -> None:
    """Lets a trial that is RUNNING and idle do its next ``train()``, or a method that gives the same."""
    unwrapped = _unwrapped(controller)
    unwrapped._schedule_trial_task(
        trial=trial,
        method_name=method,
        args=arguments,
        on_result=unwrapped._on_training_result,
        on_error=unwrapped._trial_task_failure,
    )


def actor_of(trial: Any) -> Any:
    """The handle of the actor that runs a trial."""
    return trial.temporary_state.ray_actor


def end_process(trial: Any) -> None:
    """Kills the process that runs a trial, which may not answer any more; Tune then hears that its actor died."""
    ray.kill(actor_of(trial))


def count_lost_workers_as_failures() -> None:
    """Has Tune take every error of Ray's about a worker as it takes the worker's death; in the whole process.

    Of an ``OutOfMemoryError``, with which the memory monitor ends a worker, and of a result that was lost with its
    node, Tune makes "Caught unexpected exception", and ends all trials.
    """
    internal: Any = RayActorManager
    known = internal._actor_task_failed
    if getattr(known, "_counts_lost_workers", False):
        return

    def failed(manager: Any, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, RayError) and not isinstance(exception, RayActorError | RayTaskError):
            exception = RayActorError(error_msg=str(exception))
        known(manager, tracked_actor_task, exception)

    failed._counts_lost_workers = True  # type: ignore[attr-defined]
    internal._actor_task_failed = failed


def forget_failures(trial: Any) -> None:
    """Counts the failures of a trial anew, which Tune compares with ``FailureConfig(max_failures=...)``."""
    trial.run_metadata.num_failures = 0
    trial.run_metadata.invalidate_cache()


def snapshot(controller: Any) -> None:
    """Saves the experiment's state now, so that it never names a checkpoint that was deleted since."""
    _unwrapped(controller).checkpoint(force=True)


def forget_checkpoint(trial: Any) -> None:
    """Has a trial that has not started begin without a checkpoint of Tune's."""
    trial.run_metadata.checkpoint_manager._latest_checkpoint_result = None
    trial.run_metadata.invalidate_cache()


def study_of(search: Any) -> Any:
    """The study of Optuna's in Tune's searcher."""
    return search._ot_study


def folder_of(trainable: tune.Trainable) -> Path | None:
    """Where the checkpoints of the trial are that a trainable runs now; None without Tune."""
    place: Any = trainable._storage
    return None if place is None else Path(place.trial_fs_path)


def filesystem_of(trainable: tune.Trainable) -> FileSystem:
    """The file system with that folder."""
    place: Any = trainable._storage
    return LocalFileSystem() if place is None else place.storage_filesystem


def saved_by(trainable: tune.Trainable, folder: str) -> tune.Checkpoint:
    """What an earlier driver's trial has saved in a folder, as it is to be had where the trainable runs."""
    return tune.Checkpoint(folder, filesystem=filesystem_of(trainable))


@contextmanager
def on_loopback() -> Iterator[None]:
    """Gives the node of a cluster that starts within the context the address 127.0.0.1, and no other listens.

    Ray has a setting for that, meant for Windows and macOS, and reads it when it is imported; processes of the
    cluster read it, too. ``ray.init(_node_ip_address="127.0.0.1")`` does not do: Ray takes another address then.
    """
    known = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        with environment({ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR: "0"}):
            yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = known


@contextmanager
def authentication(settings: Mapping[str, str | None]) -> Iterator[None]:
    """Sets Ray's environment variables of authentication, and has Ray read them: it has read the old ones.

    Raises:
        RuntimeError: if this process is connected to a cluster. That would refuse everything without its token,
            and Ray's client then ends the process, with status 1 and without an exception.
    """
    if ray.is_initialized():
        raise RuntimeError("this process is connected to a Ray cluster, which another token would cut off")
    try:
        with environment(settings):
            _read_authentication()
            yield
    finally:
        _read_authentication()


def _read_authentication() -> None:
    internal: Any = _raylet
    internal.Config.initialize("")
    internal.AuthenticationTokenLoader.instance().reset_cache()


def knock(address: str) -> None:
    """Asks the cluster at ``HOST:PORT`` for something small, which ``ray.init`` tries for minutes without a token.

    Raises:
        AuthenticationError: if it asks for a token and this process shows none.
    """
    internal: Any = _raylet
    host, _, port = address.rpartition(":")
    without = internal.get_authentication_mode() == internal.AuthenticationMode.DISABLED
    if without and port.isdigit() and "/" not in host and _listens(host, int(port)):
        internal.GcsClient(address=address).internal_kv_get(b"selftune", None, 5)


def interface(address: str) -> str | None:
    """The network interface of this machine that has an address; None if none has.

    >>> interface("127.0.0.1")
    'lo'
    >>> interface("192.0.2.77") is None
    True
    """
    for name, addresses in utils.psutil.net_if_addrs().items():  # type: ignore[attr-defined]
        if address in (entry.address for entry in addresses):
            return str(name)
    return None


def _listens(host: str, port: int) -> bool:
    with suppress(OSError), socket.create_connection((host, port), timeout=5):
        return True
    return False


@contextmanager
def signals_of_the_program() -> Iterator[None]:
    """Keeps ``ray.init`` from replacing a handler of SIGTERM that the program has set."""
    own = signal.getsignal(signal.SIGTERM)
    if own in (signal.SIG_DFL, signal.SIG_IGN, None) or threading.current_thread() is not threading.main_thread():
        yield
        return
    replace = utils.set_sigterm_handler
    utils.set_sigterm_handler = lambda handler: None
    try:
        yield
    finally:
        utils.set_sigterm_handler = replace
        signal.signal(signal.SIGTERM, own)  # below Python, Ray has put one in front that prints a stack


@contextmanager
def apart(marks: Mapping[str, str]) -> Iterator[None]:
    """Gives the processes of a cluster that starts within the context sessions of their own, and these variables.

    What is sent to the process group of the driver, as ``timeout`` and many supervisors do, then reaches the
    driver alone, which needs its cluster to end in order.
    """
    internal: Any = services
    known = internal.ConsolePopen

    def start(*command: Any, env: Mapping[str, str], **settings: Any) -> Any:
        return known(*command, env={**env, **marks}, start_new_session=True, **settings)

    internal.ConsolePopen = start
    try:
        yield
    finally:
        internal.ConsolePopen = known


def withdraw(controller: Any, trial: Any) -> None:
    """Pauses a trial that waits for its place on the cluster; Tune asks for it again once the trial is chosen."""
    unwrapped = _unwrapped(controller)
    if trial in unwrapped._trial_to_actor:
        unwrapped.pause_trial(trial, should_checkpoint=False)
    else:
        unwrapped._set_trial_status(trial, trial.PAUSED)
    if trial in unwrapped._staged_trials:  # else Tune thinks that it has been asked for
        unwrapped._unstage_trial_with_resources(trial)


def save(controller: Any, trial: Any) -> None:
    """Asks an idle trial for a checkpoint."""
    _unwrapped(controller)._schedule_trial_save(trial)


@contextmanager
def own_interrupts() -> Iterator[Callable[[], None]]:
    """Takes back what Tune leaves after ``fit``: a handler of Ctrl-C that does nothing, for its run has ended.

    What it gives ends ``fit`` as Ctrl-C does: Tune saves its state, and the run can be resumed.
    """
    events: list[threading.Event] = []

    def catching() -> threading.Event:
        events.append(known())
        return events[-1]

    internal: Any = import_module("ray.tune.tune")
    known, internal._setup_signal_catching = internal._setup_signal_catching, catching
    kinds = (signal.SIGINT, signal.SIGUSR1) if threading.current_thread() is threading.main_thread() else ()
    before = {kind: signal.getsignal(kind) for kind in kinds}
    try:
        yield lambda: events[-1].set()
    finally:
        internal._setup_signal_catching = known
        for kind, handler in before.items():
            signal.signal(kind, handler)


@contextmanager
def uncounted_callbacks() -> Iterator[None]:
    """Keeps ``fit`` from importing MLflow, which takes seconds, to count callbacks for Ray's usage statistics."""
    known = usage.tag_callbacks
    usage.tag_callbacks = lambda callbacks: False
    try:
        yield
    finally:
        usage.tag_callbacks = known


def _unwrapped(controller: Any) -> Any:
    return getattr(controller, "_tune_controller", controller)

"""The Ray cluster of a study: the one that is there, or one of its own on this machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import AuthenticationError

from selftune.schedulers import ray_internals
from selftune.schedulers.environment import environment
from selftune.schedulers.session import private_session

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # the new output ignores verbose=0
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean the same as without Ray
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "1",  # else a driver killed in its first ten seconds leaves nothing
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


_own: list[str] = []  # the folder of this process's own cluster


@contextmanager
def quiet() -> Iterator[None]:
    """Settings under which Ray says nothing by itself; what the environment sets already stays."""
    log = logging.getLogger("ray")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with environment({name: value for name, value in _ENVIRONMENT.items() if name not in os.environ}):
            yield
    finally:
        log.setLevel(level)


def is_connected() -> bool:
    """Whether this process is connected to a cluster."""
    return bool(ray.is_initialized())


def is_own() -> bool:
    """Whether that cluster is one that ``connected`` has started: all of it is on this machine."""
    return bool(_own)


@contextmanager
def connected(address: str | None = None) -> Iterator[None]:
    """Connects to the cluster at ``address`` or ``RAY_ADDRESS``, or starts one that ends with the context.

    A connection that the process has already is used and left as it is. A cluster at an address keeps its own
    settings, of authentication too; one that starts here is closed to everybody else (``private_session``).

    Raises:
        ConnectionError: if there is no cluster at the address, or it asks for a token that is not there.
    """
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS")
    if address:
        with _initialized(address=address):
            yield
    else:
        with (
            private_session() as folder,
            _initialized(address="local", include_dashboard=False, _temp_dir=str(folder)),
        ):
            _own.append(str(folder))
            try:
                yield
            finally:
                _own.pop()


@contextmanager
def _initialized(**settings: Any) -> Iterator[None]:
    try:
        with ray_internals.signals_of_the_program():
            ray_internals.knock(settings["address"])  # at "local" nobody answers
            ray.init(log_to_driver=False, logging_level=logging.CRITICAL, **settings)
        yield
    except AuthenticationError as error:
        raise ConnectionError("it asks for its token; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH") from error
    finally:
        ray.shutdown()

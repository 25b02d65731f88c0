"""The Ray cluster of a study: the one that is there, or one of its own on this machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",  # a cluster of its own listens on this machine only
    "RAY_AIR_NEW_OUTPUT": "0",  # the new output ignores verbose=0
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean the same as without Ray
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "1",  # else a driver killed in its first ten seconds leaves nothing
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


@contextmanager
def quiet() -> Iterator[None]:
    """Settings under which Ray says nothing by itself; what the environment sets already stays."""
    added = [name for name in _ENVIRONMENT if name not in os.environ]
    os.environ.update({name: _ENVIRONMENT[name] for name in added})
    log = logging.getLogger("ray")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def connected(address: str | None = None) -> Iterator[None]:
    """Connects to the cluster at ``address`` or ``RAY_ADDRESS``, or starts one that ends with the context.

    A connection that the process has already is used and left as it is.

    Raises:
        ConnectionError: if there is no cluster at the address.
    """
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS")
    if address:
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    else:
        ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.CRITICAL)
    try:
        yield
    finally:
        ray.shutdown()

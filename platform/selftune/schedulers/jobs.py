"""Jobs of a Ray cluster that is somewhere else, through its job API: sent, looked at, stopped, and their logs."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selftune.errors import JobError
from selftune.schedulers.environment import environment

ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
"""Variables in which Ray's own tools look for a cluster, before anything that they are told."""
_TIMEOUT = 30.0  # seconds for a request; Ray's client would wait for ever


class ClusterAway(JobError):
    """The cluster does not answer now."""


class UnknownJob(JobError):
    """The cluster knows no such job."""


@dataclass(frozen=True)
class Job:
    """A job as the cluster knows it.

    Args:
        name: that it was given when it was sent.
        state: ``pending``, ``running``, ``succeeded``, ``failed`` or ``stopped``.
        message: what Ray says about it.
        status: exit status of its command; None while it runs, and where Ray does not know it.
        began, ended: seconds since 1970; None where it has not.
        metadata: what was kept with it when it was sent.

    >>> Job("digits-1", "running").is_over
    False
    """

    name: str
    state: str
    message: str = ""
    status: int | None = None
    began: float | None = None
    ended: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        """Whether its command has ended."""
        return self.state in ("succeeded", "failed", "stopped")


class Jobs:
    """The jobs of the cluster whose dashboard is at an address.

    Mode and token of authentication are those of Ray's own tools: ``RAY_AUTH_MODE``, ``RAY_AUTH_TOKEN``,
    ``RAY_AUTH_TOKEN_PATH``.

    Args:
        address: such as ``http://head:8265``.

    Raises:
        ClusterAway: if nobody answers there.
        JobError: if it asks for a token, or this is not the dashboard of a Ray cluster.
    """

    def __init__(self, address: str) -> None:
        self.address = address if "://" in address else f"http://{address}"
        with self._asking():
            self.client = _client(self.address)

    def send(
        self,
        name: str,
        command: str,
        files: Path | None,
        metadata: Mapping[str, str],
        variables: Mapping[str, str],
    ) -> None:
        """Gives the cluster a job.

        Args:
            command: of a shell, on the cluster's head.
            files: a zip file; what it holds is in the job's working directory, on every node. None for none.
            variables: of its environment, and of its workers'.

        Raises:
            JobError: if there is a job of this name, or the cluster refuses.
        """
        sent = {} if files is None else {"working_dir": str(files)}
        with self._asking(name):
            self.client.submit_job(
                entrypoint=command,
                submission_id=name,
                runtime_env={"env_vars": dict(variables), **sent},
                metadata=dict(metadata),
            )

    def job(self, name: str) -> Job:
        """How a job stands.

        Raises:
            UnknownJob: if there is none.
        """
        with self._asking(name):
            found = self.client.get_job_info(name)
        return Job(
            name,
            str(found.status.value).lower(),
            found.message or "",
            found.driver_exit_code,
            None if found.start_time is None else found.start_time / 1000,
            None if not found.end_time else found.end_time / 1000,
            found.metadata or {},
        )

    def stop(self, name: str) -> bool:
        """Sends SIGTERM to a job; whether it ran."""
        with self._asking(name):
            return bool(self.client.stop_job(name))

    def log(self, name: str) -> str:
        """All that a job has printed."""
        with self._asking(name):
            return str(self.client.get_job_logs(name))

    @contextmanager
    def _asking(self, name: str = "") -> Iterator[None]:
        """Within the context Ray's client says one sentence, and nothing by itself."""
        import requests
        from ray.exceptions import AuthenticationError

        loggers = [
            logging.getLogger(f"ray.dashboard.{one}") for one in ("modules.dashboard_sdk", "modules.job.sdk")
        ]
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            with environment(dict.fromkeys(ADDRESSES)):  # which would come before the address
                yield
        except AuthenticationError as error:
            raise JobError(f"{self.address}: {_refusal(str(error))}") from None
        except (ConnectionError, requests.exceptions.ConnectionError, requests.exceptions.Timeout) as error:
            raise ClusterAway(
                f"{self.address}: nobody answers there; give the address of the cluster's dashboard"
            ) from error
        except (requests.exceptions.RequestException, KeyError) as error:
            raise JobError(f"{self.address}: does not answer as the dashboard of a Ray cluster does") from error
        except RuntimeError as error:
            raise self._told(name, str(error)) from error

    def _told(self, name: str, said: str) -> JobError:
        if "does not exist" in said and name:
            return UnknownJob(f"{name}: the cluster at {self.address} knows no such job")
        if "already exists" in said or "is already" in said or "has already been used" in said:
            return JobError(f"{name}: the cluster has a job of this name; give another one with --name")
        if "status code 5" in said:  # with a traceback of the cluster's
            return ClusterAway(f"{self.address}: answers with an error: {said.strip().splitlines()[-1][:300]}")
        return JobError(f"{self.address}: {' '.join(said.split())[:300]}")


def _client(address: str) -> Any:
    try:
        from ray.job_submission import JobSubmissionClient

        class Client(JobSubmissionClient):
            """Ray's, which does not wait for ever."""

            def _do_request(self, *arguments: Any, **settings: Any) -> Any:
                return super()._do_request(*arguments, timeout=_TIMEOUT, **settings)

        return Client(address)
    except (ImportError, RuntimeError) as error:
        if "ray[default]" in str(error) or isinstance(error, ImportError):
            raise JobError('jobs need more of Ray; install it with `pip install "selftune[cluster]"`') from error
        raise


def _refusal(said: str) -> str:
    if "Authentication failed" in said:
        where = "RAY_AUTH_TOKEN" if "RAY_AUTH_TOKEN" in os.environ else "the file at RAY_AUTH_TOKEN_PATH"
        return f"it refuses the token in {where}"
    if "cannot be opened or is empty" in said:
        return f"RAY_AUTH_TOKEN_PATH: {os.environ.get('RAY_AUTH_TOKEN_PATH')} cannot be read, or is empty"
    return (
        "it asks for its token; set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to the file with the token,"
        " or RAY_AUTH_TOKEN"
    )

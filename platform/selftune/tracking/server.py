"""A connection to an MLflow server that is quiet, bounded in time, and speaks of failures in one sentence."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from selftune.storage.address import hide, without_password
from selftune.storage.files import DamagedFile

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from torch import nn

# What the user has set stays as it is. Seconds and retries are those of one request: MLflow's own defaults
# (120 s, 7 retries) would hold up the end of a study for minutes when the server is away.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}


class Unreachable(RuntimeError):
    """The server does not answer; the message names it."""


class Refused(RuntimeError):
    """Something could not be sent although the server may answer; the message says what."""


class Server:
    """An MLflow tracking server or database, connected to when first needed.

    Args:
        uri: its address, as MLflow understands it.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri

    @cached_property
    def client(self) -> MlflowClient:
        self._prepare()
        from mlflow import MlflowClient

        logging.getLogger("alembic").setLevel(logging.WARNING)
        logging.getLogger("mlflow").setLevel(os.environ["MLFLOW_LOGGING_LEVEL"])

        return MlflowClient(self.uri)

    def _prepare(self) -> None:
        for name, value in _ENVIRONMENT.items():  # read when MLflow is imported
            os.environ.setdefault(name, value)

    def experiment_id(self, name: str) -> str:
        """The id of an experiment, made if it does not exist.

        Raises:
            Refused: if it was deleted, which MLflow undoes on request.
        """
        found = self.client.get_experiment_by_name(name)
        if found and found.lifecycle_stage != "active":
            raise Refused(
                f"the experiment {name!r} was deleted in MLflow: bring it back with `mlflow experiments restore"
                f" --experiment-id {found.experiment_id}`, or set MLFLOW_EXPERIMENT_NAME to another one"
            )
        return found.experiment_id if found else self.client.create_experiment(name)

    def run_id(self, experiment_id: str, name: str, started: int, tags: Mapping[str, str]) -> str:
        """The id of the run that has these tags, made if there is none.

        Looking first keeps a run single even if a process was killed between making it and recording it.
        """
        found = self.client.search_runs(
            [experiment_id], " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        )
        if found:
            return str(found[0].info.run_id)
        made = self.client.create_run(experiment_id, start_time=started, tags=dict(tags), run_name=name)
        return str(made.info.run_id)

    def knows(self, run_id: str) -> bool:
        """Whether the run is still there: a database may have been made anew, a run or its experiment deleted."""
        from mlflow.exceptions import MlflowException

        try:
            return bool(self.client.get_run(run_id).info.lifecycle_stage == "active")
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    def log_network(self, experiment_id: str, run_id: str, network: nn.Module, requirements: list[str]) -> None:
        """Logs a network as the run's model "network", which ``mlflow.pytorch.load_model`` brings back."""
        import mlflow.pytorch
        from mlflow.entities import LoggedModelOutput, LoggedModelStatus
        from mlflow.models import Model

        # Step by step on this client: mlflow.pytorch.log_model would change the process's global server,
        # experiment and active run.
        made = self.client.create_logged_model(experiment_id, name="network", source_run_id=run_id)
        with tempfile.TemporaryDirectory() as temporary:
            mlflow.pytorch.save_model(
                network,
                f"{temporary}/network",
                mlflow_model=Model(
                    artifact_path=made.artifact_location,
                    model_uuid=made.model_id,
                    model_id=made.model_id,
                    run_id=run_id,
                ),
                pip_requirements=requirements,  # given, so that MLflow infers and downloads nothing
                serialization_format="pickle",
            )
            self.client.log_model_artifacts(made.model_id, f"{temporary}/network")
        self.client.finalize_logged_model(made.model_id, LoggedModelStatus.READY)
        self.client.log_outputs(run_id, [LoggedModelOutput(made.model_id, step=0)])

    @contextmanager
    def sentences(self) -> Iterator[None]:
        """Turns what MLflow, its database and its network raise into ``Unreachable`` and ``Refused``."""
        uri = without_password(self.uri)
        self._prepare()
        try:
            from mlflow.exceptions import MlflowException
            from sqlalchemy.exc import OperationalError, SQLAlchemyError
        except ImportError as error:
            raise Refused(f"could not send to {uri}: {self._sentence(error)}") from error
        try:
            assert self.client  # connects: a database may be locked, an address unknown
            yield
        except OperationalError as error:
            raise Unreachable(f"could not reach {uri} ({self._sentence(error.orig)})") from error
        except MlflowException as error:
            if "failed with exception" in str(error) or "failed with timeout" in str(error):
                raise Unreachable(f"could not reach {uri}") from error
            raise Refused(f"could not send to {uri}: {self._sentence(error)}") from error
        except DamagedFile:  # in the study's folder
            raise
        except (SQLAlchemyError, OSError, ImportError, ValueError) as error:  # the last of an address misread
            raise Refused(f"could not send to {uri}: {self._sentence(error)}") from error

    def _sentence(self, error: object) -> str:
        """The first line of an error, which often quotes the address."""
        lines = hide(str(error), self.uri).strip().splitlines()
        return (lines or [type(error).__name__])[0][:300]

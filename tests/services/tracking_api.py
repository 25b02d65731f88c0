"""MLflow's REST API, without its client."""

import json
import urllib.request
from typing import Any


class TrackingApi:
    """What a tracking server holds.

    Args:
        address: of the server.
    """

    def __init__(self, address: str) -> None:
        self.address = address

    def runs(self, experiment: str) -> list[dict[str, Any]]:
        """All runs of an experiment, by its name."""
        found = self._get(f"experiments/get-by-name?experiment_name={experiment}")["experiment"]["experiment_id"]
        return list(self._post("runs/search", experiment_ids=[found], max_results=1000).get("runs", []))

    def study(self, name: str, experiment: str = "selftune") -> dict[str, Any]:
        """The run of a study or a sweep, which is called as its output folder."""
        [run] = [run for run in self.runs(experiment) if run["info"]["run_name"] == name and not _parent(run)]
        return run

    def parts(self, name: str, experiment: str = "selftune") -> list[dict[str, Any]]:
        """The runs below it."""
        whole = self.study(name, experiment)["info"]["run_id"]
        return [run for run in self.runs(experiment) if _parent(run) == whole]

    def history(self, run: str, metric: str) -> list[dict[str, Any]]:
        """Every value that a metric had."""
        points: list[dict[str, Any]] = []
        token = ""
        while True:
            more = f"&page_token={token}" if token else ""
            found = self._get(f"metrics/get-history?run_id={run}&metric_key={metric}&max_results=1000{more}")
            points += found.get("metrics", [])
            if not (token := found.get("next_page_token", "")):
                return points

    def artifacts(self, run: str) -> set[str]:
        """The names of a run's files, at its top."""
        return {one["path"] for one in self._get(f"artifacts/list?run_id={run}").get("files", [])}

    def artifact(self, run: str, name: str) -> bytes:
        """The content of a run's file."""
        with urllib.request.urlopen(
            f"{self.address}/get-artifact?run_uuid={run}&path={name}", timeout=60
        ) as answer:
            return bytes(answer.read())

    def _get(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.address}/api/2.0/mlflow/{path}", timeout=60) as answer:
            return dict(json.load(answer))

    def _post(self, path: str, **body: Any) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self.address}/api/2.0/mlflow/{path}",
            json.dumps(body).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return dict(json.load(answer))


def _parent(run: dict[str, Any]) -> str | None:
    return next((tag["value"] for tag in run["data"]["tags"] if tag["key"] == "mlflow.parentRunId"), None)

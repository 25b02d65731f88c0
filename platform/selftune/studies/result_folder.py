"""What a finished call leaves in its folder beside trajectory and checkpoints, for ``compare`` and ``replay``."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from selftune.schedule import FILE as SCHEDULE
from selftune.storage.state_file import save_state
from selftune.studies.best_network import FILE as BEST
from selftune.studies.best_network import summary_of
from selftune.studies.metric import metric_of
from selftune.studies.result import Result
from selftune.studies.saved_network import KIND, TUNED
from selftune.studies.tuning_result import TuningResult
from selftune.tracking.summary import HyperparameterSummary, Summary, write_summary


def keep_result(folder: Path, result: TuningResult, **spent: object) -> None:
    """Writes ``schedule.json``, ``network.safetensors`` and, last of all, ``summary.json``.

    Args:
        folder: of a call of ``tune`` that is done, with its trajectory.
        spent: entries of the summary that say what it took, such as ``training_steps``.
    """
    if isinstance(result, Result):
        save_state(folder / f"{TUNED}.safetensors", result.network.state_dict(), KIND)
        if result.best is not None:
            save_state(folder / f"{BEST}.safetensors", result.best.network.state_dict(), KIND)
        if result.schedule is not None:
            result.schedule.save(folder / SCHEDULE)
    course = result.course()
    first, last = course.values[[0, -1]].tolist()
    if isinstance(result, Result) and result.schedule is not None:
        last = result.schedule.values[-1].tolist()  # what the network was trained with, as of a study
    summary: Summary = {
        "status": "finished",
        "name": folder.resolve().name,
        "seconds": result.trajectory[-1].seconds if result.trajectory else 0.0,
        "hyperparameters": [
            HyperparameterSummary(name=name, start=a, end=b)
            for name, a, b in zip(course.names, first, last, strict=True)
        ],
        "tuned": dict(result.metrics),
    }
    if isinstance(result, Result):
        summary["networks"] = {"tuned": result.networks}
        summary["spread"] = {"tuned": dict(result.spread)}
    metric = metric_of("validation_loss", "min", folder, result.metrics)
    if metric is not None:
        summary["metric"] = metric
    if isinstance(result, Result) and result.best is not None:
        summary["best"] = summary_of(result.best)
    write_summary(folder, cast(Summary, {**summary, **spent}))

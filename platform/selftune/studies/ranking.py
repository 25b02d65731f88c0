"""Which of several studies their metric prefers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from selftune.studies.call import CALL
from selftune.studies.mistakes import Mistakes, UserError
from selftune.studies.yaml_file import parse_yaml, read_text
from selftune.tracking.search_file import read_search
from selftune.tracking.summary import MetricSummary, Summary, read_summary


def _task(folder: Path) -> str | None:
    """What a folder's study trains on; None for a call of ``tune``, whose data have no name."""
    if (folder / CALL).is_file():
        return None
    try:
        content = parse_yaml(read_text(folder / "study.yaml"))
    except Mistakes as error:
        raise error.in_file(str(folder / "study.yaml")) from error
    objective = content.get("objective")
    return str(objective.get("task")) if isinstance(objective, dict) else None


def _of_winner(folder: Path, summary: Summary) -> Summary:
    """That of a sweep as if its winner had been a study of its own; any other as it is."""
    if "winner" not in summary:
        return summary
    winner, measures, settings = summary["winner"], summary["measures"], read_search(folder)[1]
    last = measures.get(settings.metric, winner["value"])
    metric = MetricSummary(
        name=settings.metric, mode=settings.mode, best=winner["value"], hyper_step=-1, last=last
    )
    return {**summary, "metric": metric, "tuned": measures, "networks": {"tuned": 1}}


def ranked(folders: Sequence[Path]) -> list[tuple[Path, Summary]]:
    """Finished studies with one metric, the one that it prefers first.

    Raises:
        UserError: if a folder holds no finished study, or metrics or tasks differ.
    """
    for folder in folders:
        if folder.is_file():
            raise UserError(
                f"{folder}: is a file, and finished studies are folders; to compare methods of tuning on a study"
                " file, name them with --methods"
            )
    found = [(folder, _of_winner(folder, read_summary(folder))) for folder in folders]
    for folder, summary in found:
        if summary.get("status") != "finished" or "metric" not in summary:
            how = "repeat its call of tune" if (folder / CALL).is_file() else "continue it with `selftune resume`"
            raise UserError(f"{folder}: holds no finished study; run one, or {how}")
    names = {summary["metric"]["name"] for _, summary in found}
    if len(names) > 1:
        raise UserError(
            f"the studies have different metrics: {', '.join(sorted(names))}; compare those that share one"
        )

    tasks = {task: folder for folder, _ in found if (task := _task(folder)) is not None}
    if len(tasks) > 1:
        raise UserError(
            f"the studies have different tasks: {', '.join(sorted(tasks))}; compare those that share one"
        )

    def preference(entry: tuple[Path, Summary]) -> float:
        metric = entry[1]["metric"]
        value = metric["last"] if math.isfinite(metric["last"]) else math.inf
        return value if metric["mode"] == "min" else -value

    return sorted(found, key=preference)

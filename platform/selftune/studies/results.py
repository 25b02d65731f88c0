"""The tables at the end of a study and of a replay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from selftune.lower_level.better import mode_of
from selftune.storage.address import without_password
from selftune.studies.best_network import sentence_of
from selftune.studies.display import say
from selftune.studies.progress import duration
from selftune.studies.rows import MAXIMUM_ROWS, grouped
from selftune.studies.verdict import HELD
from selftune.tracking.record import Record, tracking_uri
from selftune.tracking.summary import HorizonSummary, Summary

_MEASURES = ("validation_loss", "test_loss", "validation_accuracy", "test_accuracy")


def print_summary(console: Console, summary: Summary, folder: Path, mlflow: bool) -> None:
    """Tuned values, the comparison, and where everything is."""
    hyperparameters, held = summary["hyperparameters"], summary.get("held", False)
    table = Table(box=None, padding=(0, 1))
    table.add_column("hyperparameter")
    table.add_column("start", justify="right")
    table.add_column("end", justify="right")
    rows = grouped([h["name"] for h in hyperparameters])
    for label, index in list(rows.items())[:MAXIMUM_ROWS]:
        start = sum(hyperparameters[i]["start"] for i in index) / len(index)
        end = sum(hyperparameters[i]["end"] for i in index) / len(index)
        table.add_row(Text(label), f"{start:.4g}", f"{end:.4g}")
    if len(rows) > MAXIMUM_ROWS:
        table.add_row(f"and {len(rows) - MAXIMUM_ROWS} more")
    if hyperparameters and not held:
        console.print()
        say(console, "tuned values", style="italic")
        console.print(table)
    console.print()
    results = {HELD: summary["tuned"]} if held else {"tuned": summary["tuned"], HELD: summary["fixed"]}
    if "work" in summary:
        spent = f"after {summary['steps']} upper steps, {summary['work']} lower-level gradients and products"
        print_results(console, spent, results, "solution")
        doing = "solving"
    else:
        title = f"after {summary['training_steps']} training steps each{_averaged(summary)}"
        spread = summary.get("spread", {})
        spreads = {"tuned": spread.get("tuned", {}), HELD: spread.get("tuned" if held else "fixed", {})}
        print_results(console, title, results, spreads=spreads)
        doing = "training"
    horizon = summary.get("horizon", {})
    if horizon:
        print_horizon(console, horizon)
    console.print()
    lines = [
        f"time    {duration(summary['seconds'])} of {doing}{'' if held else ' while tuning'}",
        f"folder  {folder}",
        f"report  {folder / 'report.html'} (open it in a browser)",
    ]
    metric = summary.get("metric")
    if metric is not None and metric["name"] != "validation_loss":
        best = f"best {metric['best']:.4g} at hyper-step {metric['hyper_step']}"
        lines.insert(0, f"metric  {metric['name']} {metric['last']:.4g} at the end, {best}")
    if "best" in summary:
        lines.insert(0, f"best    {sentence_of(summary['best'])}")
    if summary.get("stopped"):
        lines.insert(0, f"ended   because {summary['stopped']}")
    if "remark" in summary:
        lines.insert(0, f"remark  {summary['remark']}")
    if horizon and not horizon["held_is_better"]:
        lines.insert(0, f"horizon {horizon['sentence']}")
    lines = [f"warning {sentence}" for sentence in summary.get("warnings", [])] + lines
    if mlflow:
        lines.append(f"MLflow  {mlflow_command(folder)}")
    for line in lines:
        say(console, line)


def print_horizon(console: Console, horizon: HorizonSummary) -> None:
    """Networks trained with the schedule, and with its last values."""
    title = f"trained again for {horizon['training_steps']:,} steps each, means ± standard deviations of networks"
    console.print()
    print_results(console, title, horizon["results"], spreads=horizon["spread"])


def _averaged(summary: Summary) -> str:
    """Over how many networks measures are averages, as the end of a sentence."""
    networks = summary.get("networks", {}).get("tuned", 1)
    return ", one network" if networks == 1 else f", mean of {networks} networks ± standard deviation"


def print_results(
    console: Console,
    title: str,
    results: Mapping[str, Mapping[str, Any]],
    row: str = "network",
    spreads: Mapping[str, Mapping[str, float]] | None = None,
) -> None:
    """One row per network (or other kind of ``row``), one column per measure; the best of each column is bold.

    Args:
        spreads: standard deviations of the measures, by row.
    """
    names = [name for name in _MEASURES if any(name in measures for measures in results.values())]
    names += sorted({name for measures in results.values() for name in measures} - set(_MEASURES))
    say(console, title, style="italic")  # not the table's title, which would wrap at the table's width
    table = Table(box=None, padding=(0, 1))
    table.add_column(row)
    for name in names:
        table.add_column(name.replace("_", "\n"), justify="right")
    for label, measures in results.items():
        cells = [Text(label)]
        for name in names:
            best = _best(name, [m[name] for m in results.values() if name in m])
            value = measures.get(name)
            text = _cell(value, (spreads or {}).get(label, {}).get(name))
            cells.append(Text(text, style="bold" if value is not None and value == best else ""))
        table.add_row(*cells)
    console.print(table)


def _cell(value: float | None, spread: float | None) -> str:
    """A measure with its standard deviation, where there is one."""
    if value is None:
        return "-"
    return f"{value:.4f}" if spread is None else f"{value:.4f} ±{spread:.4f}"


def print_ranking(console: Console, ranking: Sequence[tuple[Path, Summary]]) -> None:
    """Studies in the order of their metric, with the tests of their networks."""
    first = ranking[0][1]["metric"]
    say(console, f"{first['name']} at the end, {'smallest' if first['mode'] == 'min' else 'largest'} first")
    table = Table(box=None, padding=(0, 1))
    table.add_column("folder", overflow="fold")
    for title in ("end", "best"):
        table.add_column(title, justify="right", no_wrap=True)
    tests = {key for _, summary in ranking for key in summary.get("tuned", {}) if key.startswith("test_")}
    measures = sorted(tests)
    for measure in measures:
        table.add_column(measure.replace("_", "\n"), justify="right", no_wrap=True)
    table.add_column("networks", justify="right")
    for folder, summary in ranking:
        metric, tuned = summary["metric"], summary.get("tuned", {})
        cells = [f"{metric['last']:.4g}", f"{metric['best']:.4g}"]
        spread = summary.get("spread", {}).get("tuned", {})
        cells += [_cell(tuned.get(measure), spread.get(measure)) for measure in measures]
        cells.append(str(summary.get("networks", {}).get("tuned", "-")))
        table.add_row(Text(str(folder)), *cells)
    console.print(table)


def _best(name: str, values: Sequence[float]) -> float:
    return min(values) if mode_of(name) == "min" else max(values)


def mlflow_command(folder: Path) -> str:
    """How to look at the study in MLflow."""
    uri = Record(folder).latest or without_password(tracking_uri(folder))
    if uri.startswith(("http://", "https://")):
        return uri
    if uri == f"sqlite:///{Path.cwd() / 'mlflow.db'}":
        uri = "sqlite:///mlflow.db"
    return f"mlflow ui --backend-store-uri {uri}"

"""The tables at the end of a sweep."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from selftune.studies.display import say
from selftune.studies.folder import WINNER
from selftune.studies.progress import duration
from selftune.studies.results import mlflow_command, print_results
from selftune.tracking.search_file import read_search
from selftune.tracking.summary import Summary
from selftune.tracking.swept_values import value_text

_FILES = (
    ("study", WINNER, "the study file with the winner's values"),
    ("network", "network.pt", "the winner's best network, torch.load(path, weights_only=False)"),
    ("report", "report.html", "open it in a browser"),
)


def print_sweep(console: Console, summary: Summary, folder: Path, mlflow: bool) -> None:
    """The winner's values, what its best network measures, and where everything is.

    Args:
        summary: of a sweep that has a winner.
        mlflow: whether the sweep was sent to MLflow.
    """
    winner, (_, settings) = summary["winner"], read_search(folder)
    console.print()
    value = (
        f"{settings.metric.replace('_', ' ')} {winner['value']:.4g} at training step {winner['training_step']:,}"
    )
    say(console, f"best values: those of trial {winner['number']}, {value}", style="italic")
    table = Table(box=None, padding=(0, 1))
    table.add_column("swept", overflow="fold")
    table.add_column("value", justify="right", overflow="fold")
    for key, drawn in winner["values"].items():
        table.add_row(Text(key), Text(value_text(drawn)))
    console.print(table)
    if summary.get("measures"):
        console.print()
        print_results(console, "its best network", {f"trial {winner['number']}": summary["measures"]}, "network")
    console.print()
    counts = summary.get("trials", {})
    told = ", ".join(f"{count} {status}" for status, count in counts.items())
    spent = f"{summary.get('spent', 0):,} training steps of all networks, {duration(summary.get('seconds', 0.0))}"
    lines = [("trials", f"{sum(counts.values())}: {told}"), ("spent", f"{spent} of training")]
    lines += [(name, f"{folder / file} ({what})") for name, file, what in _FILES if (folder / file).exists()]
    if mlflow:
        lines.append(("MLflow", mlflow_command(folder)))
    for name, line in lines:
        say(console, f"{name:8}{line}")

"""report.html of a sweep: the winner, the best so far, what was drawn and what came of it, on one page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from selftune.search.searchers import SEARCHERS
from selftune.search.trial_schedulers import TRIAL_SCHEDULERS
from selftune.tracking import sweep_plots
from selftune.tracking.drawing import Plot
from selftune.tracking.importance import FEWEST_TRIALS, best_share, importance
from selftune.tracking.page import (
    breakable,
    counted,
    number_text,
    save_plots,
    text_of,
    time_text,
    with_figures,
    write_page,
)
from selftune.tracking.search_file import name_of
from selftune.tracking.summary import Summary, has_ended, read_summary, versions
from selftune.tracking.swept_values import short_names, value_text
from selftune.tracking.trials import Trials
from selftune.tracking.trials_file import read_trials

MAXIMUM_ROWS = 300  # of the table of trials


def write_sweep_report(folder: Path, summary: Summary | None = None) -> Path:
    """Writes ``report.html`` and ``plots/*.svg`` into a sweep's folder, ended or not; returns its path.

    The same folder gives the same bytes. ``summary`` is what to show while ``summary.json``, the last file of a
    sweep, is not written yet; by default it is read.

    Raises:
        FileNotFoundError: if the folder holds no sweep that has started.
        DamagedFile: if a file is not what was written.
    """
    folder = Path(folder)
    trials = read_trials(folder)
    summary = read_summary(folder) if summary is None else summary
    shares = importance(trials)
    sections = _sections(trials, shares)
    save_plots(folder / "plots", [plot for section in sections for plot in section["plots"]])
    path = folder / "report.html"
    write_page(
        path,
        "sweep_report.html.jinja",
        name=summary.get("name") or folder.resolve().name,
        status=summary.get("status", "running") if has_ended(summary) else "not ended",
        sentences=list(_sentences(trials, summary)),
        winner=_winner(trials),
        measures=[(name.replace("_", " "), number_text(value)) for name, value in _measures(trials, summary)],
        importance=_bars(shares),
        importance_note=_importance_note(trials, shares),
        sections=with_figures(sections),
        table=_table(trials),
        more=max(0, len(trials.last) - MAXIMUM_ROWS),
        study=text_of(folder / "study.yaml"),
        versions=summary.get("versions") or versions(),
    )
    return path


def _sentences(trials: Trials, summary: Summary) -> Iterator[str]:
    status = summary.get("status", "running")
    if status == "running":
        yield "This sweep has not ended, or it was killed: the page shows it up to its last record."
    elif status != "finished":
        yield f"This sweep {'failed' if status == 'failed' else f'was {status}'}."
    settings = trials.settings
    searcher, scheduler = name_of(settings.searcher, SEARCHERS), name_of(settings.scheduler, TRIAL_SCHEDULERS)
    seconds = max((record.time for record in trials.records), default=0.0)
    told = ", ".join(f"{count} {status}" for status, count in trials.counts.items())
    by = f"the searcher {searcher}" + ("" if scheduler == "none" else f" under the scheduler {scheduler}")
    yield (
        f"{counted(len(trials.last), 'trial')}{f' ({told})' if told else ''} of"
        f" {counted(len(trials.space), 'swept key')}, drawn by {by}, with {counted(trials.spent, 'training step')}"
        f" of all networks together, in {time_text(seconds)}."
    )
    winner = trials.winner
    if winner is None:
        yield f"No trial has reported {settings.metric} yet."
    else:
        yield (
            f"The {'smallest' if settings.mode == 'min' else 'largest'} {settings.metric.replace('_', ' ')},"
            f" {winner.best:.4g}, is that of trial {winner.number} at its training step {winner.best_step:,}."
        )
    if summary.get("message"):
        yield summary["message"]


def _winner(trials: Trials) -> list[dict[str, Any]]:
    if trials.winner is None:
        return []
    return [{"key": breakable(key), "value": value_text(value)} for key, value in trials.winner.values.items()]


def _measures(trials: Trials, summary: Summary) -> list[tuple[str, float]]:
    """Of the winner's best network over whole splits; before the end what its report said."""
    measures = summary.get("measures") or (trials.winner.measures if trials.winner else {})
    return list(measures.items())


def _bars(shares: dict[str, float]) -> list[dict[str, Any]]:
    largest = max(shares.values(), default=1.0)
    return [
        {"key": breakable(key), "share": f"{share:.0%}", "width": f"{100 * share / largest:.1f}%"}
        for key, share in shares.items()
    ]


def _importance_note(trials: Trials, shares: dict[str, float]) -> str:
    met = len(trials.at_best)
    if met < FEWEST_TRIALS:
        return (
            f"It takes {FEWEST_TRIALS} trials with a value of {trials.settings.metric} to say what was important;"
            f" there {'is' if met == 1 else 'are'} {met}."
        )
    if not shares:
        return "The best trials drew nothing that the others did not draw."
    best = round(best_share(met) * met)
    return (
        f"How far what the best {best} of {met} trials drew is from what all of them drew (PED-ANOVA). Among few"
        " trials chance has a large part in it."
    )


def _sections(trials: Trials, shares: dict[str, float]) -> list[dict[str, Any]]:
    if trials.winner is None:
        return []
    keys = sweep_plots.ordered_keys(trials, shares)
    drawn = [key for key in trials.space.keys if key in keys[: sweep_plots.MAXIMUM_AXES]]
    few = len(keys) > len(drawn)
    left_out = f" Of {len(keys)} keys the {len(drawn)} most important ones are shown." if few else ""
    is_copied = any(curve.copied for curve in trials.curves.values())
    copies = " A bar is where a trial went on from a copy of another." if is_copied else ""
    colours = "The darker a line, the better the trial; on a dark page, the lighter."
    sections: list[dict[str, Any]] = [
        _section(
            "Best so far",
            "The best value that any trial had met by then, against the training steps of all networks together.",
            [sweep_plots.best_so_far(trials)],
        ),
        _section(
            "What was drawn, and what came of it",
            f"A line per trial, through the values that it drew, to the best value that it met. {colours} The best"
            f" trial is orange.{left_out}",
            [sweep_plots.parallel_coordinates(trials, drawn)],
        ),
        _section(
            "Learning curves",
            "Of the plain network on the validation split. A cross is where scheduler or budget stopped a trial."
            + copies,
            [sweep_plots.learning_curves(trials)],
        ),
        _section(
            "Each key by itself",
            "What trials drew, and the best value that they met; crosses are trials that were stopped or failed.",
            sweep_plots.slices(trials, keys),
        ),
    ]
    return sections


def _section(title: str, text: str, plots: list[Plot]) -> dict[str, Any]:
    return {"title": title, "text": text, "plots": plots}


def _table(trials: Trials) -> dict[str, Any]:
    """The trials, the best first: titles and rows of cells."""
    keys = [key for key in trials.space.keys if any(key in one.values for one in trials.last.values())]
    names = dict(zip(trials.space.keys, short_names(list(trials.space.keys)), strict=True))
    rows = []
    for last in trials.ranked()[:MAXIMUM_ROWS]:
        values = trials.at_best.get(last.number, last).values
        rows.append(
            {
                "number": str(last.number),
                "status": last.status,
                "message": last.message,
                "values": [value_text(values[key]) if key in values else "–" for key in keys],
                "step": f"{last.training_step:,}",
                "spent": f"{last.spent:,}",
                "best": number_text(last.best),
                "at": "" if last.best_step is None else f"{last.best_step:,}",
            }
        )
    return {"keys": [breakable(names[key]) for key in keys], "rows": rows}

"""report.html: what a study did, on one page that needs no other file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

from selftune.lower_level.better import mode_of
from selftune.tracking import plots
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
from selftune.tracking.pictures import read_pictures
from selftune.tracking.summary import (
    BestSummary,
    HyperparameterSummary,
    Summary,
    has_ended,
    read_summary,
    versions,
)
from selftune.tracking.trajectory import Trajectory, read_reports, read_trajectory

# of the others, nobody says what is better
_JUDGED = ("loss", "error", "bits_per_token", "accuracy", "psnr", "explained_variance", "r_squared")
_METRICS = ("validation_loss", "test_loss", "validation_accuracy", "test_accuracy")


def write_report(folder: Path, summary: Summary | None = None) -> Path:
    """Writes ``report.html`` and ``plots/*.svg`` into a study's folder, ended or not; returns its path.

    The same folder gives the same bytes. ``summary`` is what to show while ``summary.json``, the last file of
    a study, is not written yet; by default it is read.

    Raises:
        FileNotFoundError: if the folder holds no study that has started.

    >>> import tempfile, torch
    >>> from selftune.hyperparameters import Hyperparameter, Space, Unit
    >>> from selftune.tracking.trajectory import TrajectoryWriter
    >>> folder = Path(tempfile.mkdtemp())
    >>> writer = TrajectoryWriter(folder)
    >>> writer.started(Space([Hyperparameter("dropout.rate", Unit(), 0.1, tuned=True)]), members=1)
    >>> "has not ended" in write_report(folder).read_text(encoding="utf-8")
    True
    """
    folder = Path(folder)
    trajectory = read_trajectory(folder)
    summary = read_summary(folder) if summary is None else summary
    sections = _sections(trajectory)
    save_plots(folder / "plots", [plot for section in sections for plot in section["plots"]])
    study = text_of(folder / "study.yaml")
    path = folder / "report.html"
    write_page(
        path,
        "report.html.jinja",
        name=_name(folder, study, summary),
        status=summary.get("status", "running") if has_ended(summary) else "not ended",
        sentences=_sentences(trajectory, summary),
        results=_results(summary),
        averaged=_averaged(summary),
        compared=bool(summary.get("fixed")),
        hyperparameters=_hyperparameters(trajectory, summary),
        sections=with_figures(sections),
        pictures=read_pictures(folder),
        unit="gradients and products" if _is_smooth(trajectory, summary) else "training steps",
        trainers=_trainers(folder),
        study=study,
        conversion=text_of(folder / "conversion.txt"),
        versions=summary.get("versions") or versions(),
    )
    return path


def _sections(trajectory: Trajectory) -> list[dict[str, Any]]:
    if not len(trajectory):
        return []
    if trajectory.solves:
        return _certified_sections(trajectory)
    sections = [
        {
            "title": "Losses",
            "text": "At each hyper-step, averaged over networks that are trained side by side. The training loss "
            "includes the regularization in force at that step; only the validation loss compares across steps.",
            "plots": [plots.losses(trajectory)],
        }
    ]
    if trajectory.names:
        sections[:0] = [
            {
                "title": "Schedules",
                "text": "What the hyperparameters did while the network trained (values as the "
                "regularizers use them).",
                "plots": plots.schedules(trajectory),
            }
        ]
        if not trajectory.certificate:
            sections.append(
                {
                    "title": "Perturbation scales",
                    "text": "Standard deviation of the perturbation around each hyperparameter, in its "
                    "unconstrained coordinate. The network learns its response within this distance.",
                    "plots": plots.scales(trajectory),
                }
            )
        sections += [
            {
                "title": "Hypergradients",
                "text": "Derivative of the validation loss with respect to the unconstrained "
                "hyperparameters. Above zero, the method lowers the hyperparameter; below, it raises it.",
                "plots": [plots.hypergradient_norm(trajectory), *plots.hypergradients(trajectory)],
            },
        ]
    if trajectory.certificate:
        sections.append(
            {
                "title": "What the method knows of its steps",
                "text": "Measured by the method at each hyper-step. For a network none of it is a proven bound.",
                "plots": plots.measures(trajectory, _shown(trajectory.certificate), "certificate"),
            }
        )
    if trajectory.diagnostics:
        sections.append(
            {
                "title": "Diagnostics",
                "text": "Measured on validation data beside the losses; team averages.",
                "plots": plots.measures(trajectory, trajectory.diagnostics, "diagnostic"),
            }
        )
    return sections


def _shown(certificate: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: values for name, values in certificate.items() if name not in ("certified", "hypergradient_norm")
    }


def _certified_sections(trajectory: Trajectory) -> list[dict[str, Any]]:
    solved = "error_reached" in trajectory.certificate
    upper = (
        "for a solution of the lower level of the accuracy below" if solved else "where parameters were by then"
    )
    known = (
        "What the method asked of the lower level, and what it got. Where the error bound lies below the norm, "
        "the hypergradient surely points uphill. Gradients and products are those of the team."
        if solved
        else "The lower level is not solved while the method runs, and the hypergradient is an estimate with the "
        "linear system's solution of the moment: nothing is certified. Gradients and products of a batch count by "
        "its share of the examples."
    )
    return [
        {
            "title": "Upper level",
            "text": f"The upper-level loss at each step, {upper}.",
            "plots": [plots.upper_level(trajectory)],
        },
        {
            "title": "Certificate" if solved else "What the method knows of its steps",
            "text": known,
            "plots": plots.certificate(trajectory),
        },
        {
            "title": "Hyperparameters",
            "text": "The values that each step started from.",
            "plots": plots.schedules(trajectory),
        },
        {
            "title": "Hypergradients",
            "text": "Derivative of the upper-level loss with respect to the unconstrained hyperparameters. Above "
            "zero, the method lowers the hyperparameter; below, it raises it.",
            "plots": plots.hypergradients(trajectory),
        },
    ]


def _is_smooth(trajectory: Trajectory, summary: Summary) -> bool:
    """Whether the study solves its lower level instead of training a network."""
    return trajectory.solves or "work" in summary


def _sentences(trajectory: Trajectory, summary: Summary) -> list[str]:
    steps, count = len(trajectory), len(trajectory.names)
    seconds = summary.get("seconds") or (float(trajectory.seconds[-1]) if steps else 0.0)
    last = int(trajectory.training_step[-1]) if steps else 0
    if _is_smooth(trajectory, summary):
        taken = counted(summary.get("steps", steps), "upper step")
        spent = f"with {summary.get('work', last):,} gradients and products of the lower level"
    else:
        taken = counted(steps, "hyper-step")
        spent = f"over {counted(summary.get('training_steps') or last, 'training step')}"
        networks = summary.get("networks", {}).get("tuned")
        if networks is not None:
            spent += f" of {counted(networks, 'network')}"
    sentences = [f"{counted(count, 'hyperparameter')} tuned in {taken} {spent} ({time_text(seconds)})."]
    if summary.get("stopped"):
        sentences.append(f"The method ended because {summary['stopped']}.")
    if "remark" in summary:
        remark = summary["remark"]
        sentences.append(f"{remark[:1].upper()}{remark[1:]}.")
    sentences += [f"{warning[:1].upper()}{warning[1:]}." for warning in summary.get("warnings", [])]
    if steps and trajectory.certificate:
        sentences.append(_worth(trajectory))
    status = summary.get("status", "running")
    if status == "running":
        sentences.insert(0, "This study has not ended, or it was killed: the page shows it up to its last record.")
    elif status != "finished":
        sentences.insert(0, f"This study {'failed' if status == 'failed' else f'was {status}'}.")
    if summary.get("message"):
        sentences.append(summary["message"])
    sentences += _comparison(summary, "model" if _is_smooth(trajectory, summary) else "network")
    sentences += _best(summary)
    horizon = summary.get("horizon", {})
    if horizon and not horizon["held_is_better"]:  # else it is a warning
        sentences.append(f"{horizon['sentence'][:1].upper()}{horizon['sentence'][1:]}.")
    return sentences


def _comparison(summary: Summary, model: str) -> Iterator[str]:
    """What tuning gained on the test split, over how many networks, and how far those differ."""
    tuned = summary.get("tuned", {}).get("test_loss")
    fixed = summary.get("fixed", {}).get("test_loss")
    if tuned is None:
        return
    networks = summary.get("networks", {}).get("tuned", 1)
    if fixed is None or fixed <= 0:
        loss, which = _with_spread(summary, "tuned", "test_loss"), "" if summary.get("held") else "tuned "
        if networks == 1:
            yield f"The {which}{model}'s test loss is {loss}."
        else:
            yield f"The mean test loss of {networks} {which}networks is {loss} (standard deviation)."
        return
    change = (tuned - fixed) / fixed
    comparison = f"{abs(change):.1%} {'lower' if change < 0 else 'higher'} than"
    if networks == 1:
        yield (
            f"The tuned {model}'s test loss is {tuned:.4g}, {comparison} that of the same {model} with the "
            f"start values held fixed ({fixed:.4g})."
        )
        if "networks" in summary:
            yield "Both are of one network from one seed: how much of the difference is chance, more seeds say."
        return
    yield (
        f"The mean test loss of {networks} tuned networks is {_with_spread(summary, 'tuned', 'test_loss')}, "
        f"{comparison} that with the start values held fixed ({_with_spread(summary, 'fixed', 'test_loss')}); "
        "± is the standard deviation from network to network."
    )


def _best(summary: Summary) -> Iterator[str]:
    """Where the metric was best, and where that network is."""
    best = summary.get("best")
    if best is not None:
        yield (
            f"The network with the best {best['metric'].replace('_', ' ')}, {best['value']:.4g}, was that of"
            f" hyper-step {best['hyper_step']:,} (training step {best['training_step']:,})"
            f"{_measured(best)}. It is in best_network.safetensors."
        )


def _measured(best: BestSummary) -> str:
    """The test loss, where there is one."""
    if "test_loss" not in best["measures"]:
        return ""
    loss, spread = best["measures"]["test_loss"], best.get("spread", {}).get("test_loss")
    if spread is None:
        return f", with a test loss of {loss:.4g}"
    return f", with a mean test loss of {loss:.4g} ± {spread:.2g} over {best['networks']} networks"


def _worth(trajectory: Trajectory) -> str:
    """What the numbers in the certificate prove."""
    if not trajectory.solves:
        return (
            "How accurate the hypergradients of a network are is not known: what the method reports of its"
            " accuracy is heuristic, and no step is certified."
        )
    known = trajectory.certificate.get("active_set_certified")
    if known is not None and not (known == 1).all():
        return (
            "Steps whose active set is not certified are not certified: their hypergradient is that of the active"
            " set of an inexact solution, which need not be the true one, and no bound of its error is proven."
        )
    if "upper_bound" not in trajectory.certificate:
        return "This method measures its accuracy, but does not certify that its steps lower the upper level."
    if (trajectory.certificate["certified"] == 1).all():
        return "Every step is certified: it lowered the true upper level, because the constants used are proven."
    return (
        "The steps are not certified: at least one constant behind the error bounds is an estimate, so the bounds"
        " are heuristic."
    )


def _results(summary: Summary) -> list[dict[str, str]]:
    tuned, fixed = summary.get("tuned", {}), summary.get("fixed", {})
    metrics = [*_METRICS, *sorted((set(tuned) | set(fixed)) - set(_METRICS))]
    return [
        {
            "metric": metric.replace("_", " "),
            "tuned": _with_spread(summary, "tuned", metric),
            "fixed": _with_spread(summary, "fixed", metric),
            "difference": number_text(tuned[metric] - fixed[metric], "+")
            if {metric} <= set(tuned) & set(fixed)
            else "",
            "better": _is_better(metric, tuned.get(metric), fixed.get(metric)),
        }
        for metric in metrics
        if metric in tuned or metric in fixed
    ]


def _with_spread(summary: Summary, row: Literal["tuned", "fixed"], metric: str) -> str:
    """A measure of a row, with its standard deviation where the row has several networks."""
    spread = summary.get("spread", {}).get(row, {}).get(metric)
    value = number_text(summary.get(row, {}).get(metric))
    return value if spread is None or not value else f"{value} ± {spread:.2g}"


def _averaged(summary: Summary) -> str:
    """Over how many networks the results are averages; empty where nobody noted it."""
    networks = summary.get("networks", {})
    if not networks:
        return ""
    if set(networks.values()) == {1}:
        return "One network each, from one seed." if len(networks) > 1 else "One network, from one seed."
    counts = {networks[row] for row in ("tuned", "fixed") if row in networks}
    number = " and ".join(str(count) for count in sorted(counts, reverse=True))
    return f"Means of {number} networks, ± their standard deviation."


def _is_better(metric: str, tuned: float | None, fixed: float | None) -> str:
    if tuned is None or fixed is None or tuned == fixed or not metric.endswith(_JUDGED):
        return ""
    return "better" if (tuned < fixed) == (mode_of(metric) == "min") else "worse"


def _hyperparameters(trajectory: Trajectory, summary: Summary) -> list[dict[str, Any]]:
    rows: list[HyperparameterSummary] = summary.get("hyperparameters") or [
        {"name": name, "start": float(first), "end": float(last)}
        for name, first, last in zip(
            trajectory.names, *(trajectory.values[[0, -1]] if len(trajectory) else ((), ())), strict=False
        )
    ]
    return [
        {
            "name": breakable(row["name"]),
            "start": number_text(row["start"]),
            "end": number_text(row["end"]),
            "change": f"\N{MULTIPLICATION SIGN} {row['end'] / row['start']:.3g}" if row["start"] > 0 else "",
        }
        for row in rows
    ]


def _steps(reports: list[dict[str, Any]]) -> int:
    if any(report.get("work") is not None for report in reports):
        return int(sum(report["work"] or 0 for report in reports))
    return max((report["training_step"] or 0) for report in reports)


def _trainers(folder: Path) -> list[dict[str, str]]:
    trainers: dict[int, list[dict[str, Any]]] = {}
    for report in read_reports(folder).to_pylist():
        trainers.setdefault(report["trainer"], []).append(report)
    return [
        {
            "trainer": str(trainer),
            "orders": f"{len(reports):,}",
            "step": f"{_steps(reports):,}",
            "seconds": time_text(sum(r.get("seconds") or 0.0 for r in reports)),
            "end": reports[-1]["message"] if reports[-1]["kind"] in ("diverged", "lost") else "",
            "outvoted": _outvoted([report for report in reports if report["kind"] == "outvoted"]),
        }
        for trainer, reports in sorted(trainers.items())
    ]


def _outvoted(reports: list[dict[str, Any]]) -> str:
    """How often a trainer was outvoted, and what was said of the last time; nothing where it never was."""
    if not reports:
        return ""
    times = "once" if len(reports) == 1 else f"{len(reports):,} times, at last"
    return f"{times}: {reports[-1]['message']}"


def _name(folder: Path, study: str, summary: Summary) -> str:
    settings = yaml.safe_load(study) if study else None
    named = settings.get("name") if isinstance(settings, dict) else None
    return str(summary.get("name") or named or folder.resolve().name)

"""The gallery, docs/gallery.md: every packaged study, tuned against start values held, as a picture and a table.

    python benchmarks/gallery.py --runs build/gallery --seeds 2

runs each study as `selftune run NAME --local --seed N` does, one after the other. The same command goes on after a
stop. Page and pictures are made of the files that these runs leave behind; `--draw` makes them of what is there.
"""

from __future__ import annotations

import argparse
import io
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot
from matplotlib.ticker import NullFormatter
from PIL import Image

from selftune.storage.checked_json import read_json
from selftune.storage.files import DamagedFile
from selftune.studies.packaged import packaged_studies
from selftune.studies.rows import grouped
from selftune.studies.study_file import load_study
from selftune.tracking.drawing import COLOURS, MUTED, STYLE, finite
from selftune.tracking.trajectory import Trajectory, read_trajectory

ROOT = Path(__file__).parent.parent
PAGE, PICTURES = ROOT / "docs" / "gallery.md", ROOT / "docs" / "gallery"
SMALL_IS_GOOD = ("loss", "error", "bits_per_token")  # how names of measures end that are better small
COLUMNS, PANELS = 3, 9
PANEL = (2.6, 1.75)  # inches
LONG = 32  # letters that a panel's width has room for
LOGARITHMIC_FROM = 20.0  # ratio of the largest to the smallest value

HEAD = """\
# Gallery

Every packaged study, as it comes: once with its hyperparameters tuned, once with their start values held, from the
same first weights and batches. Where a run was shorter than its study says, the line below its picture tells it.
All data come with scikit-learn or scikit-image, or follow from a rule. The studies of smooth problems take seconds
on one core, the others minutes.

`make gallery` runs all of them again, with their full budgets, and writes this page. Its numbers are those of the
runs' own files.

**How to read it.** The first panel of a picture is the validation loss; a dashed line is where it ended with the
start values held. The other panels are the hyperparameters. A line is a seed. Judge by the **test** split: the
validation split chose the values. Seeds are few, so small differences say little;
[a study per family](families.md) has six seeds of some of these studies, with further measures.

"""


@dataclass(frozen=True)
class Run:
    """A finished run of a study."""

    seed: int
    summary: dict[str, Any]
    trajectory: Trajectory

    @property
    def measures(self) -> list[str]:
        return [name for name in self.summary["tuned"] if name in self.summary["fixed"]]


def run(name: str, seed: int, runs: Path, steps: str | None = None) -> None:
    """Begins a run, or goes on with it; ``steps`` are in the place of the study's own."""
    folder = runs / f"{name}-{seed}"
    arguments = ["--local", "--no-mlflow", "--seed", str(seed), "--restart", "--output", str(folder)]
    arguments += ["--steps", steps] if steps else []
    subprocess.run([sys.executable, "-m", "selftune.cli", "run", name, *arguments], check=True)


def finished(name: str, runs: Path) -> list[Run]:
    """The finished runs of a study, by seed."""
    found = []
    for folder in sorted(runs.glob(f"{name}-*"), key=lambda path: int(path.name.rpartition("-")[2])):
        try:
            summary = read_json(folder / "summary.json")
        except (FileNotFoundError, DamagedFile):
            continue
        if summary["status"] == "finished":
            seed = int(folder.name.rpartition("-")[2])
            found.append(Run(seed, summary, read_trajectory(folder)))
    return found


def draw(runs: Sequence[Run], path: Path) -> None:
    """One panel for the validation loss, one for every hyperparameter or group of them; one line per seed."""
    first = runs[0].trajectory
    groups = list(grouped(first.names).items())[: PANELS - 1]
    rows = -(-(1 + len(groups)) // COLUMNS)
    columns = min(COLUMNS, 1 + len(groups))
    unit = "upper step" if first.solves else "training step"
    with mpl.rc_context(STYLE):
        figure, panels = pyplot.subplots(
            rows, columns, figsize=(columns * PANEL[0], rows * PANEL[1]), squeeze=False, layout="constrained"
        )
        flat = list(panels.flat)
        for run in runs:
            steps = run.trajectory.hyper_step + 1 if first.solves else run.trajectory.training_step
            held = run.summary["fixed"].get("validation_loss")
            _line(flat[0], steps, run.trajectory.validation_loss, COLOURS[1])
            if held is not None:
                flat[0].axhline(held, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
            for panel, (_, index) in zip(flat[1:], groups, strict=False):
                _line(panel, steps, run.trajectory.values[:, index].mean(axis=1), COLOURS[0])
        for panel, title in zip(flat, ["validation loss", *(name for name, _ in groups)], strict=False):
            shown = title if len(title) <= LONG else title.replace(".", ".\n")
            panel.set_title(shown, fontsize=8.5, loc="left", parse_math=False)
            panel.set_xlabel(unit)
            values = np.concatenate([line.get_ydata() for line in panel.lines])
            values = values[np.isfinite(values)]
            if len(values) and values.min() > 0 and values.max() / values.min() >= LOGARITHMIC_FROM:
                panel.set_yscale("log")
                panel.yaxis.set_minor_formatter(NullFormatter())
        for panel in flat[1 + len(groups) :]:
            panel.set_axis_off()
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=110)
        pyplot.close(figure)
    picture = Image.open(content).convert("RGB").quantize(64, method=Image.Quantize.MAXCOVERAGE)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, optimize=True)


def _line(panel: Any, steps: Any, values: Any, colour: str) -> None:
    panel.plot(steps, finite(values), color=colour, linewidth=1.1, alpha=0.8)


def table(runs: Sequence[Run]) -> list[str]:
    """Means over the seeds, and in how many of them tuning was better."""
    lines = ["| measure | tuned | start values held | tuned is better |", "| --- | --- | --- | --- |"]
    for measure in runs[0].measures:
        tuned, held = ([run.summary[side][measure] for run in runs] for side in ("tuned", "fixed"))
        if tuned == held:  # of the data, not of the network
            continue
        better = sum(is_better(measure, a, b) for a, b in zip(tuned, held, strict=True))
        means = " | ".join(f"{statistics.fmean(values):.4f}" for values in (tuned, held))
        lines.append(f"| {measure.replace('_', ' ')} | {means} | {better} of {len(runs)} |")
    return lines


def is_better(measure: str, one: float, other: float) -> bool:
    """Whether a value of a measure is better than another one.

    >>> is_better("test_loss", 0.1, 0.2), is_better("test_accuracy", 0.1, 0.2)
    (True, False)
    """
    return one < other if measure.endswith(SMALL_IS_GOOD) else one > other


def section(name: str, file: Path, runs: Sequence[Run]) -> list[str]:
    """What the page says of a study."""
    first = runs[0]
    comments = [line[2:] for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("# ")]
    about = " ".join(comments[: _leading(file)])
    trained, own = first.summary.get("training_steps"), load_study(file).budget.steps
    if trained is None:
        amount = f"{first.summary['steps']} upper steps"
    else:
        amount = f"{trained:,} training steps" if trained == own else f"{trained:,} of its {own:,} training steps"
    seeds = ", ".join(str(run.seed) for run in runs)
    alike = all(run.summary["tuned"] == first.summary["tuned"] for run in runs)
    of = f"seed {seeds}" if len(runs) == 1 else f"means of the seeds {seeds}"
    if len(runs) > 1 and alike:
        of = f"the same numbers with the seeds {seeds}"
    shown = f"search_spaces/{name}.yaml"
    if (all_of_them := len(grouped(first.trajectory.names))) >= PANELS:
        of += f"; the picture has the first {PANELS - 1} of {all_of_them} hyperparameters"
    return [
        f"## {name}",
        "",
        about,
        "",
        f"![{name}: validation loss and hyperparameters while it is tuned](gallery/{name}.png)",
        "",
        f"`selftune run {name} --local`: {amount}, {of}. The file: [`{shown}`](../{shown}).",
        "",
        *table(runs),
        "",
    ]


def _leading(file: Path) -> int:
    """How many lines of comment a file begins with."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))


def page(runs: dict[str, list[Run]], files: dict[str, Path]) -> str:
    """The page of all studies that have runs."""
    lines = ["| study | measure | tuned | start values held |", "| --- | --- | --- | --- |"]
    for name, of_study in runs.items():
        metric = "test_loss" if "test_loss" in of_study[0].measures else of_study[0].measures[-1]
        means = [statistics.fmean(run.summary[side][metric] for run in of_study) for side in ("tuned", "fixed")]
        shown = [f"{mean:.4f}" for mean in means]
        if is_better(metric, *means) or is_better(metric, *means[::-1]):
            better = 0 if is_better(metric, *means) else 1
            shown[better] = f"**{shown[better]}**"
        lines.append(f"| [{name}](#{name}) | {metric.replace('_', ' ')} | {shown[0]} | {shown[1]} |")
    sections = [line for name, of_study in runs.items() for line in section(name, files[name], of_study)]
    return HEAD + "\n".join([*lines, "", *sections]).rstrip() + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs; the same one goes on")
    parser.add_argument("--seeds", type=int, default=2, help="seeds of every study, from 0 on")
    parser.add_argument(
        "--steps",
        action="append",
        default=[],
        metavar="NAME=N",
        help="train a study for fewer steps than its file says; the page tells it",
    )
    parser.add_argument(
        "--draw", action="store_true", help="run nothing; make the page of the runs that are there"
    )
    arguments = parser.parse_args()
    files, fewer = packaged_studies(), dict(entry.split("=") for entry in arguments.steps)
    if unknown := sorted(fewer.keys() - files.keys()):
        parser.error(f"--steps names unknown studies: {', '.join(unknown)}")
    if not arguments.draw:
        for seed in range(arguments.seeds):
            for name in files:
                run(name, seed, arguments.runs, fewer.get(name))
    runs = {name: found for name in files if (found := finished(name, arguments.runs)[: arguments.seeds])}
    if missing := sorted(files.keys() - runs.keys()):
        print(f"no finished run of {', '.join(missing)} in {arguments.runs}", file=sys.stderr)
    for name, of_study in runs.items():
        draw(of_study, PICTURES / f"{name}.png")
    PAGE.write_text(page(runs, files), encoding="utf-8")


if __name__ == "__main__":
    main()

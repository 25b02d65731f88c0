"""Which way of tuning is best at the same budget? Methods compared on tasks with networks of several kinds.

Each task is a comparison of its own (`selftune compare`), in a folder below --output, each method and seed a sweep
in a folder below that. What has ended is skipped, so that a benchmark that was stopped goes on with the same
command; more methods and seeds may be asked for later. At the end it prints what is there and what is missing.

    python benchmarks/comparison.py --tasks digits,breast_cancer --methods held,random,asha,self_tuning --budget 6

The budget is in lengths of a trial, so that 6 is as much training as six trials; --seconds gives every method that
many seconds of computing in its place. --steps makes the trials of a slow task shorter.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import inf, isfinite, nan
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml
from rich.console import Console

from selftune.studies.packaged import find_study
from selftune.studies.yaml_file import parse_yaml
from selftune.sweeps.comparison.comparison import Comparison, comparison_of
from selftune.sweeps.comparison.comparison_settings import ComparisonSettings
from selftune.sweeps.comparison.folder import start_record
from selftune.sweeps.comparison.record import ComparisonRecord, is_comparison, read_record
from selftune.sweeps.comparison.run import run_comparison
from selftune.sweeps.comparison.shown import print_comparison, write_comparison

DATA = Path(__file__).parents[2] / "shared" / "data"
METHODS = ("held", "rule", "random", "tpe", "asha", "pbt", "pb2", "self_tuning", "implicit")
TABLES = ("breast_cancer", "wine", "iris", "table_digits", "diabetes")
TRAINING_IMAGES = 4000

Content = dict[str, Any]


def packaged(name: str) -> Content:
    """A packaged study."""
    content: Content = yaml.safe_load(find_study(name).read_text(encoding="utf-8"))
    return content


def table(name: str) -> Content:
    """The packaged study of tables on another table; they are small, and so are the networks."""
    content = packaged("table")
    dataset = name.removeprefix("table_")
    objective = {**content["objective"], "dataset": dataset, "hidden": [64, 64]}
    regularizers = dict(content["regularizers"])
    if dataset == "diabetes":  # a number is predicted, which is nothing to mix
        regularizers.pop("mixup")
    return {
        **content,
        "study": name,
        "objective": objective,
        "regularizers": regularizers,
        "budget": {"steps": 1000},
    }


def cifar(options: argparse.Namespace) -> Content:
    """A small CNN on CIFAR-10 images with augmentations; few enough images for regularization to matter."""
    return {
        "study": "cifar",
        "objective": {
            "task": "images",
            "dataset": str(cifar_file(options.data, options.output)),
            "architecture": "cnn",
            "validation_batch_size": 512,
            "optimization": {"optimizer": "adam", "learning_rate": 0.003, "schedule": "cosine"},
        },
        "regularizers": {
            "dropout": {"parts": {"output": ["output"]}, "rate": {"start": 0.2}},
            "gaussian_input_noise": {"sigma": {"start": 0.05}},
            "cutout": {"size": {"start": 4, "domain": {"integer": [0, 16]}}},
            "label_smoothing": {"epsilon": {"start": 0.05, "domain": {"interval": [0, 0.5]}}},
            "weight_decay": {"strength": {"start": 1e-3}},
        },
        "method": {"name": "self_tuning", "learning_rate": 0.02, "warmup_steps": 200},
        "budget": {"steps": 1600},
    }


def cifar_file(data: Path, folder: Path) -> Path:
    """CIFAR-10 with 4,000 training images, made of a file of more.

    Raises:
        FileNotFoundError: if that is not there.
    """
    source = data / "cifar10-14k.parquet"
    file = folder / "cifar10-4000.parquet"
    if file.is_file():
        return file.resolve()
    if not source.is_file():
        raise FileNotFoundError(
            f"{source}: is not there; --data names the folder of a Parquet file of CIFAR-10 with splits"
        )
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = pq.read_table(source)
    split = images["split"].to_pylist()
    training = [index for index, name in enumerate(split) if name == "train"][:TRAINING_IMAGES]
    others = [index for index, name in enumerate(split) if name != "train"]
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(images.take(pa.array(training + others)), file)
    return file.resolve()


TASKS: dict[str, Callable[[argparse.Namespace], Content]] = {
    "digits": lambda options: packaged("digits"),
    "digit_images": lambda options: packaged("digit_images"),
    "cifar": cifar,
    "language_model": lambda options: packaged("language_model"),
    **{name: lambda options, name=name: table(name) for name in TABLES},  # type: ignore[misc]
}


def comparison_on(task: str, options: argparse.Namespace) -> Comparison:
    """The comparison of a task.

    Raises:
        FileNotFoundError: if its data are not there.
    """
    content = TASKS[task](options)
    length = content["budget"]["steps"] if options.steps is None else options.steps
    budget = {"steps": options.budget * length} if options.seconds is None else {"seconds": options.seconds}
    settings = ComparisonSettings(
        methods=options.methods,
        seeds=options.seeds,
        starts=options.starts,
        concurrent=options.concurrent,
        **budget,
    )
    return comparison_of(yaml.safe_dump(content, sort_keys=False), settings, steps=length)


def record_of(comparison: Comparison, folder: Path) -> ComparisonRecord:
    """What is known of a comparison so far; methods and seeds may be others than when it began.

    Raises:
        SystemExit: if the folder holds a comparison of another study, or with another budget.
    """
    if not is_comparison(folder):
        return start_record(comparison)
    record = read_record(folder)
    asked, there = comparison.settings, record.settings
    same = replace(there, methods=asked.methods, seeds=asked.seeds, concurrent=asked.concurrent)
    if 0 in (there.starts, asked.starts):  # random starts may be asked for later, too
        same = replace(same, starts=asked.starts)
    if record.text != comparison.study.text or same != asked:
        sys.exit(f"{folder}: holds another study, or one with another budget; choose another --output")
    return replace(record, settings=asked)


def names(text: str) -> tuple[str, ...]:
    """Names with commas between them."""
    return tuple(name for name in text.split(",") if name)


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=names, default=tuple(TASKS), help=f"of {', '.join(TASKS)}")
    parser.add_argument("--methods", type=names, default=METHODS, help="as `selftune compare` has them")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budget", type=int, default=6, help="in lengths of a trial")
    parser.add_argument("--seconds", type=float, help="of computing, in the place of --budget")
    parser.add_argument("--steps", type=int, help="of a trial; the task's own if left out")
    parser.add_argument("--starts", type=int, default=0, help="random starts, see `selftune compare`")
    parser.add_argument("--concurrent", type=int, help="trials at a time")
    parser.add_argument("--output", type=Path, default=Path("runs/comparison"))
    parser.add_argument("--data", type=Path, default=DATA, help="folder of cifar10-14k.parquet")
    parser.add_argument("--show", action="store_true", help="run nothing, print what is there")
    parser.add_argument("--summary", action="store_true", help="run nothing, print a row per task")
    options = parser.parse_args(arguments)
    unknown = [task for task in options.tasks if task not in TASKS]
    if unknown:
        parser.error(f"unknown task {unknown[0]!r}; known are {', '.join(TASKS)}")
    return options


def place_of(task: str, options: argparse.Namespace) -> Path:
    """The folder of a task's comparison."""
    place: Path = options.output / (task if options.seconds is None else f"{task}-seconds")
    return place


def summary(options: argparse.Namespace) -> Iterator[str]:
    """Tables in Markdown, a row per task and a column per method: means over the seeds that every method has."""
    records = {task: read_record(place_of(task, options)) for task in options.tasks if is_there(task, options)}
    for title, value in COLUMNS.items():
        yield f"| {title} | seeds | {' | '.join(f'`{method}`' for method in options.methods)} |"
        yield f"| --- | --- |{' --- |' * len(options.methods)}"
        for task, record in records.items():
            seeds, values = shared_seeds(record, options.methods)
            means = {
                method: fmean(value(record, method, seed, values) for seed in seeds)
                for method in options.methods
                if method in values and seeds
            }
            if any(isfinite(mean) for mean in means.values()):
                best = nan if "seconds of" in title else (max if "accuracy" in title else min)(means.values())
                cells = " | ".join(cell(means.get(method), best) for method in options.methods)
                yield f"| {task} | {len(seeds)} | {cells} |"
        yield ""


def is_there(task: str, options: argparse.Namespace) -> bool:
    return is_comparison(place_of(task, options))


def shared_seeds(record: ComparisonRecord, methods: Sequence[str]) -> tuple[list[int], list[str]]:
    """The seeds that all of these methods have which have any, and those methods."""
    known = [method for method in methods if any(name.startswith(f"{method}-") for name in record.outcomes)]
    first = parse_yaml(record.text).get("seed", 0)
    seeds = range(first, first + record.settings.seeds)
    return [seed for seed in seeds if all(f"{method}-{seed}" in record.outcomes for method in known)], known


def measured(name: str) -> Value:
    """A measure of the network that a method hands over."""
    return lambda record, method, seed, methods: record.outcomes[f"{method}-{seed}"].measures.get(name, nan)


def at_equal_seconds(record: ComparisonRecord, method: str, seed: int, methods: Sequence[str]) -> float:
    """The best so far when the fastest method but the baselines was through, in seconds of computing."""
    spent = [record.outcomes[f"{m}-{seed}"].seconds for m in methods if m not in ("held", "rule")]
    through = min(spent, default=inf)
    best = record.outcomes[f"{method}-{seed}"].best_at(through, "computed")
    return nan if best is None else best


Value = Callable[[ComparisonRecord, str, int, Sequence[str]], float]
COLUMNS: dict[str, Value] = {
    "test loss": measured("test_loss"),
    "test accuracy": measured("test_accuracy"),
    "best validation loss at equal seconds": at_equal_seconds,
    "seconds of trainers": lambda record, method, seed, methods: record.outcomes[f"{method}-{seed}"].seconds,
}


def cell(mean: float | None, best: float) -> str:
    if mean is None or not isfinite(mean):
        return ""
    if not isfinite(best):  # what is spent is no contest, and not told to the last digit
        return f"{mean:.0f}"
    return f"**{mean:.4f}**" if mean == best else f"{mean:.4f}"


def main(arguments: Sequence[str] | None = None) -> None:
    options, console = parsed(arguments), Console()
    if options.summary:
        print("\n".join(summary(options)))
        return
    for task in options.tasks:
        folder = place_of(task, options)
        try:
            comparison = comparison_on(task, options)
        except FileNotFoundError as error:
            console.print(f"{task}: skipped: {error}")
            continue
        record = record_of(comparison, folder)
        if not options.show:
            folder.mkdir(parents=True, exist_ok=True)
            record.write(folder)
            record = run_comparison(comparison, folder, console, mlflow=False)
            write_comparison(folder, comparison, record)
        console.print(task, style="bold")
        print_comparison(console, comparison, record, folder)


if __name__ == "__main__":
    main()

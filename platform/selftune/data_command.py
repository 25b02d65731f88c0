"""The command ``selftune data``: files of data made from folders and files, and what they hold."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from selftune.command_arguments import positive

# Everything heavy is imported by the command that needs it, so that --help and mistakes come at once.


def add_data_commands(parser: argparse.ArgumentParser) -> None:
    """Adds ``import`` and ``show``."""
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    words = "turn a folder or a file into a Parquet file, with checks and a summary"
    one = commands.add_parser("import", help=words, description=f"{words[0].upper()}{words[1:]}.")
    one.set_defaults(command=import_data_file)
    one.add_argument(
        "source",
        metavar="SOURCE",
        help="images (FOLDER/<class>/* or FOLDER/<split>/<class>/*), text (*.txt, or a folder of them), a table"
        " (*.csv, *.tsv), or Parquet of one of these: a file, or a folder of files such as"
        " train-00000-of-00002.parquet",
    )
    one.add_argument("--output", type=Path, metavar="FILE", required=True, help="the Parquet file to write")
    one.add_argument("--force", action="store_true", help="overwrite the file if it is there")
    one.add_argument("--target", metavar="COLUMN", help="of a table: the column to predict")
    one.add_argument(
        "--categorical", nargs="+", default=(), metavar="COLUMN", help="of a table: numbers that are categories"
    )
    one.add_argument("--ignore", nargs="+", default=(), metavar="COLUMN", help="of a table: columns to leave out")
    _add_columns(one)
    one.add_argument(
        "--size", nargs=2, type=positive, metavar=("HEIGHT", "WIDTH"), help="of images: resize all to this"
    )
    one.add_argument(
        "--split",
        type=_fractions,
        metavar="SPLITS",
        help="parts to hold out where the data have none (default: validation=0.2,test=0.2)",
    )
    one.add_argument("--seed", type=int, default=0, metavar="N", help="decides which examples are held out")
    words = "say what a folder or a file of data holds"
    one = commands.add_parser("show", help=words, description=f"{words[0].upper()}{words[1:]}.")
    one.set_defaults(command=show_data)
    one.add_argument("source", metavar="FILE", help="what `selftune data import` wrote, or takes")
    _add_columns(one)


def _add_columns(parser: argparse.ArgumentParser) -> None:
    words = "of Parquet: the column of {} (default: found by its name, such as {})"
    parser.add_argument("--image", metavar="COLUMN", help=words.format("images", "image or img"))
    parser.add_argument("--label", metavar="COLUMN", help=words.format("labels", "label or fine_label"))


def _fractions(text: str) -> dict[str, float]:
    try:
        pairs = [part.split("=") for part in text.split(",")]
        return {name.strip(): float(fraction) for name, fraction in pairs}
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be such as validation=0.2,test=0.2, got {text!r}") from error


def import_data_file(options: argparse.Namespace) -> int:
    """Makes a Parquet file of a folder or a file."""
    import os

    from selftune.objectives.data.importing import ImportSettings, import_data
    from selftune.objectives.data.summaries import summary

    from selftune.storage.files import replacing
    from selftune.studies.mistakes import UserError

    output: Path = options.output
    if output.exists() and not options.force:
        raise UserError(f"{output}: is there already; give --force to overwrite it")
    if not output.parent.is_dir():
        raise UserError(f"{output}: there is no folder {output.parent.absolute()}; make it first")
    size = None if options.size is None else tuple(options.size)
    settings = ImportSettings(
        options.target,
        tuple(options.categorical),
        tuple(options.ignore),
        size,
        options.split,
        options.seed,
        options.image,
        options.label,
    )
    try:
        with replacing(output) as temporary, _progress_line() as say:
            left_out, images = import_data(options.source, temporary, settings, say)
            lines = summary(str(temporary), str(output), images)
    except OSError as error:
        reason = (os.strerror(error.errno) if error.errno else str(error)).lower()
        raise UserError(f"{output}: cannot be written: {reason}") from error
    if left_out:
        more = f" and {len(left_out) - 3} more" if len(left_out) > 3 else ""
        lines.append(f"left out: {', '.join(left_out[:3])}{more}")
    print("\n".join(lines))
    return 0


def show_data(options: argparse.Namespace) -> int:
    """Says what a folder or a file of data holds."""
    from selftune.objectives.data.summaries import summary

    with _progress_line() as say:
        lines = summary(options.source, image=options.image, label=options.label, say=say)
    print("\n".join(lines))
    return 0


@contextmanager
def _progress_line() -> Iterator[Callable[[int, int], None] | None]:
    """What takes how many images were looked at, and of how many, and shows it on a terminal; None elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        line = progress.add_task("reading", total=None)
        yield lambda done, number: progress.update(line, completed=done, total=number)

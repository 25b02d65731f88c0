"""Each packaged study at two commits, on this machine with equal threads: trajectories compared bit for bit.

Nothing is stored: both commits run now, side by side on one processor, because another one rounds otherwise. A
study that differs is shown with the first hyper-step that does and with what became of its results.

    python benchmarks/trajectories.py HEAD~1 HEAD
    python benchmarks/trajectories.py --steps 300 HEAD~1 HEAD digits low_rank_digits
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parent.parent
UNLIKE = ("seconds", "time", "wall")
"""Parts of the names of columns that measure the machine."""


def check_out(commit: str, folder: Path) -> Path:
    """The commit's files, laid out so that Python imports them; returns the import path."""
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    path = folder / "platform"
    for package, place in project["tool"]["setuptools"]["package-dir"].items():
        if package.startswith("selftune."):
            link = path / package.replace(".", "/")
            if not link.exists():
                link.symlink_to(folder / place, target_is_directory=True)
    metadata = path / "selftune-0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: selftune\nVersion: 0\n")
    groups = project["project"]["entry-points"]
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in found.items()) for group, found in groups.items()]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    return path


def run(path: Path, study: str, steps: int | None, output: Path) -> str:
    """Runs a packaged study in one process; returns what went wrong, or nothing."""
    command = [sys.executable, "-m", "selftune.cli", "run", study, "--local", "--no-mlflow"]
    command += ["--output", str(output), *(["--steps", str(steps)] if steps else [])]
    environment = {**os.environ, "PYTHONPATH": str(path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=output.parent, env=environment, capture_output=True, text=True)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["failed"])[-1]


def trajectory(folder: Path) -> pa.Table:
    return pq.ParquetFile(next(folder.glob("trajectory*.parquet"))).read()


def first_difference(old: pa.Table, new: pa.Table) -> str:
    """Where two trajectories differ first, in the columns that both have; nothing where they are equal."""
    both = [n for n in old.column_names if n in new.column_names and not any(part in n for part in UNLIKE)]
    for row in range(min(len(old), len(new))):
        for name in both:
            one, other = (table.column(name).slice(row, 1).combine_chunks() for table in (old, new))
            values = one[0].as_py(), other[0].as_py()
            if not one.equals(other) and values[0] == values[0]:  # not a number equals not a number
                return f"row {row}, {name}: {values[0]} -> {values[1]}"
    return "" if len(old) == len(new) else f"{len(old)} rows -> {len(new)}"


def results(folder: Path) -> dict[str, float]:
    found = json.loads((folder / "summary.json").read_text())
    flat = {k: v for part in (found, *(v for v in found.values() if isinstance(v, dict))) for k, v in part.items()}
    return {k: v for k, v in flat.items() if isinstance(v, int | float) and k.endswith(("_loss", "_accuracy"))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("studies", nargs="*", help="names of packaged studies (default: those of both commits)")
    parser.add_argument(
        "--steps", type=int, help="training steps of studies that train networks (default: theirs)"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [check_out(arguments.old, folder / "old"), check_out(arguments.new, folder / "new")]
        names = [{file.stem for file in (path / "selftune/search_spaces").glob("*.yaml")} for path in paths]
        for study in arguments.studies or sorted(names[0] & names[1]):
            text = (paths[0] / f"selftune/search_spaces/{study}.yaml").read_text()
            steps = arguments.steps if "trainers:" in text and "inexact_line_search" not in text else None
            outputs = [folder / f"{study}-{which}" for which in ("old", "new")]
            wrong = [run(path, study, steps, out) for path, out in zip(paths, outputs, strict=True)]
            if any(wrong):
                print(f"{study}: cannot be compared: " + "; ".join(filter(None, wrong)), flush=True)
                continue
            difference = first_difference(*map(trajectory, outputs))
            ends = [results(out) for out in outputs]
            moved = ", ".join(f"{k} {ends[0][k]:.6g} -> {ends[1][k]:.6g}" for k in ends[0] if k in ends[1])
            print(
                f"{study}: " + ("equal to the last bit" if not difference else f"{difference} ({moved})"),
                flush=True,
            )


if __name__ == "__main__":
    main()

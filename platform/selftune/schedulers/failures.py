"""Why a trial failed, in one line."""

from __future__ import annotations

from pathlib import Path


def last_failure(error_file: str | Path | None) -> str:
    """The last failure in the file that Tune writes for a trial.

    Returns:
        The exception of a trainer, or the first line of what Ray says of a worker that died.
    """
    path = Path(error_file) if error_file else None
    if path is None or not path.exists():
        return "its worker died"
    _, *lines = path.read_text().rpartition("Failure # ")[2].strip().splitlines()
    if not lines:
        return "its worker died"
    raised = any(line.startswith("  File ") for line in lines)
    return lines[-1] if raised else lines[0]

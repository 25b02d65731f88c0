"""Studies that come with selftune, found by name."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from selftune.errors import suggestion
from selftune.studies.mistakes import UserError

_PACKAGE = "selftune.search_spaces"


def packaged_studies() -> dict[str, Path]:
    """The files of the packaged studies, by name."""
    found = [Path(str(entry)) for entry in files(_PACKAGE).iterdir() if entry.name.endswith(".yaml")]
    return {path.stem: path for path in sorted(found)}


def find_study(given: str) -> Path:
    """The file that ``given`` names: a path, or the name of a packaged study.

    Raises:
        UserError: if there is neither.
    """
    path = Path(given)
    known = packaged_studies()
    try:
        is_path = path.is_file() or (path.exists() and given not in known)
    except OSError as error:  # too long a name, or no permission to look
        raise UserError(f"{given}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    if is_path:
        return path
    if given in known:
        return known[given]
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        raise UserError(f"{given}: there is no such file")
    raise UserError(f"{given}: is neither a file nor a packaged study; {suggestion(given, known)}")

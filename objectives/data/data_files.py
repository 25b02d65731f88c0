"""Files and folders that a setting names: whether they are there, and how those that are not can be made."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from selftune.errors import SettingError, suggestion

AnyPath = str | PathLike[str]
_MAGIC = b"PAR1"


def existing(path: AnyPath, layout: str, options: str = "") -> Path:
    """The path, if something is there.

    Args:
        layout: what should be there, or could be imported.
        options: that the import needs.

    Raises:
        SettingError: under the key ``path``, with the full path and the way to make what is not there.

    >>> existing("/none.txt", "a text file")
    Traceback (most recent call last):
    selftune.errors.SettingError: path: there is no file /none.txt; give a text file
    """
    found = Path(path).expanduser()
    if found.exists():
        return found
    whole = found.absolute()
    making = f"give {layout}"
    if whole.suffix in (".parquet", ".pq"):
        making = f"make it with `selftune data import SOURCE --output {whole}{options}`, where SOURCE is {layout}"
    raise SettingError("path", f"there is no file {whole}; {making}")


def is_parquet(path: Path) -> bool:
    """Whether a file says of itself that it is Parquet, whatever it is called.

    Raises:
        SettingError: under the key ``path``, if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError as error:
        raise SettingError("path", f"{path} cannot be read: {reason(error)}") from error


def opened_parquet(path: Path) -> Any:
    """A ``pyarrow.parquet.ParquetFile`` of it; its columns are read when they are asked for.

    Raises:
        SettingError: under the key ``path``, if it is no whole Parquet file.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        _ = file.schema_arrow.names
        return file
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise SettingError("path", f"{path} is no whole Parquet file: {reason(error)}") from error


def rows_of(file: Any, path: Path, columns: list[str], group: int | None = None) -> Any:
    """A ``pyarrow.Table`` of some columns of an opened file, of one row group or of all.

    Raises:
        SettingError: under the key ``path``, if the file is damaged there.
    """
    import pyarrow

    try:
        rows = file.read(columns) if group is None else file.read_row_group(group, columns)
        rows.validate(full=True)  # of its texts, too
        return rows
    except (pyarrow.ArrowException, OSError) as error:
        raise SettingError("path", f"{path} is damaged: {reason(error)}; put back a copy of it") from error


def check_column(key: str, name: str, known: list[str], path: Path) -> None:
    """Refuses the name of a column that is not there.

    Raises:
        SettingError: under ``key``, with the nearest name.

    >>> check_column("target", "prize", ["area", "price"], Path("houses.csv"))
    Traceback (most recent call last):
    selftune.errors.SettingError: target: houses.csv has no column 'prize'; did you mean price?
    """
    if name not in known:
        raise SettingError(key, f"{path} has no column {name!r}; {suggestion(name, known)}")


def reason(error: Exception) -> str:
    """The first line of what a library says about a failure."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error).partition("\n")[0].rstrip(".") or type(error).__name__

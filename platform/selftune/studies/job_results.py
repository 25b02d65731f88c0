"""Results of a run that lie on a cluster: carried to another machine as text, in the log of a job.

Ray's job API has no way to download a file. ``python -m selftune.studies.job_results DIR`` prints what a folder
holds on one machine, and ``unpack`` makes the folder again on the other.
"""

from __future__ import annotations

import base64
import hashlib
import io
import sys
import tarfile
from pathlib import Path, PurePosixPath

from selftune.storage.capture import belongs

LARGEST = 100 * 2**20
"""Bytes of a file that is carried."""
_BEGIN, _END = "-----BEGIN SELFTUNE RESULTS-----", "-----END SELFTUNE RESULTS-----"
_WIDTH = 4096  # characters of a line
_TO_GO_ON = {"ray", "checkpoints"}


def is_result(name: str) -> bool:
    """Whether a file of a run's folder is a result, rather than what the run goes on from.

    >>> is_result("report.html"), is_result("ray/record.safetensors"), is_result("checkpoints/trainer.safetensors")
    (True, False, False)
    """
    return belongs(name) and not _TO_GO_ON & {*PurePosixPath(name).parts[:-1]}


def packed(folder: Path) -> str:
    """The results of a folder as text; what is too large is named in lines before.

    Raises:
        OSError: if something cannot be read.
    """
    lines, data = [], io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if not path.is_file() or not is_result(name):
                continue
            if (size := path.stat().st_size) > LARGEST:
                lines.append(f"{path}: {size / 2**20:.0f} MiB; it stays on the cluster")
            else:
                archive.add(path, name, recursive=False)
    text = base64.b64encode(data.getvalue()).decode()
    lines += [_BEGIN, *(text[at : at + _WIDTH] for at in range(0, len(text), _WIDTH))]
    return "\n".join([*lines, f"{_END} {hashlib.sha256(data.getvalue()).hexdigest()}"])


def unpack(log: str, folder: Path) -> list[str]:
    """Makes a folder of a log that holds one.

    Returns:
        What the log says beside.

    Raises:
        ValueError: if it holds none, or not all of it.
        OSError: if the folder cannot be written.

    >>> import tempfile
    >>> here, there = Path(tempfile.mkdtemp()), Path(tempfile.mkdtemp())
    >>> _ = (there / "report.html").write_text("<p>fine</p>")
    >>> unpack(packed(there), here), (here / "report.html").read_text()
    ([], '<p>fine</p>')
    """
    before, begin, rest = log.partition(f"{_BEGIN}\n")
    text, end, digest = rest.partition(f"\n{_END} ")
    if not begin or not end:
        raise ValueError(" ".join(before.split())[-300:])
    data = base64.b64decode(text)
    if hashlib.sha256(data).hexdigest() != digest.strip():
        raise ValueError("the results arrived damaged")
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        archive.extractall(folder, filter="data")
    return [line for line in before.splitlines() if line.endswith("it stays on the cluster")]


if __name__ == "__main__":
    place = Path(sys.argv[1]).expanduser()
    if not place.is_dir():
        sys.exit(f"{place}: is not a folder of the cluster's head")
    print(packed(place))

"""What earlier drivers of a sweep have left of its trials, and what of it nobody needs any more."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path


class OldCheckpoints:
    """The checkpoints in the folders of drivers before this one.

    Args:
        folder: of the records, with the drivers' folders below.
        own: name of this driver's.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("checkpoint_0", "checkpoint_1"):
    ...     folder.joinpath("run-0", "trial-4", name).mkdir(parents=True)
    >>> old = OldCheckpoints(folder, own="run-1")
    >>> old.forget(["trial-4"], named=[folder / "run-0" / "trial-4" / "checkpoint_1"])
    >>> [path.name for path in folder.glob("run-0/trial-4/*")]
    ['checkpoint_1']
    """

    def __init__(self, folder: Path, own: str) -> None:
        self._folder, self._own = folder, own
        self._left: dict[str, list[Path]] = defaultdict(list)
        for path in folder.glob("run-*/trial-*/checkpoint_*"):
            run, trial = path.parts[-3:-1]
            if run != own:
                self._left[trial].append(path)

    def forget(self, trials: Iterable[str], named: Collection[Path]) -> None:
        """Removes the checkpoints of these trials, which have newer ones, unless a record names them.

        Folders of drivers go with the last checkpoint in them.
        """
        removed = False
        for trial in self._left.keys() & set(trials):
            kept = [path for path in self._left[trial] if path in named]
            for path in self._left.pop(trial):
                if path not in kept:
                    shutil.rmtree(path, ignore_errors=True)
                    removed = True
            if kept:
                self._left[trial] = kept
        if removed:
            self._forget_runs()

    def _forget_runs(self) -> None:
        for run in self._folder.glob("run-*"):
            if run.name != self._own and not any(run.glob("trial-*/checkpoint_*")):
                shutil.rmtree(run, ignore_errors=True)

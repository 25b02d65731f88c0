"""A state in a folder that is saved again and again, with the one before it, should the last be damaged."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from selftune.storage.files import DamagedFile, remove_leftovers
from selftune.storage.state_file import load_state, save_state

logger = logging.getLogger(__name__)


class KeptState:
    """The files of a state and of the one before it.

    Args:
        folder: where they are.
        name: of the file, without its ending.
        kind: as of ``save_state``: what people call it.

    >>> import tempfile
    >>> kept = KeptState(Path(tempfile.mkdtemp()), "example", "example")
    >>> kept.load() is None
    True
    >>> kept.save({"step": 1})
    >>> kept.save({"step": 2})
    >>> _ = kept.path.write_bytes(b"half of it")
    >>> kept.load()
    {'step': 1}
    """

    def __init__(self, folder: Path, name: str, kind: str) -> None:
        self.folder, self.kind = folder, kind
        self.path, self.before = folder / f"{name}.safetensors", folder / f"{name}.before.safetensors"

    def save(self, state: Any, given: Mapping[str, Any] | None = None) -> None:
        """Writes a state; the one that is there is kept as the one before.

        Raises:
            OSError: if it cannot be written.
        """
        new = self.folder / f"new.{self.path.name}"
        save_state(new, state, self.kind, given)
        if self.path.exists():
            os.replace(self.path, self.before)
        os.replace(new, self.path)

    def load(
        self, given: Mapping[str, Any] | None = None, completed: Callable[[Any], Any] = lambda state: state
    ) -> Any:
        """The last state that can be read; None if there is none.

        Args:
            given: as for ``save``.
            completed: adds what the state refers to; where it raises ``DamagedFile``, the state is damaged.

        Raises:
            DamagedFile: if there are some, and none can be read.
        """
        remove_leftovers(self.folder)
        damage = None
        for path in (self.path, self.before):
            try:
                state = completed(load_state(path, self.kind, given))
            except FileNotFoundError:
                damage = damage or f"{path}: is missing"
            except DamagedFile as error:
                damage = str(error)
            else:
                if path == self.before:
                    logger.warning("%s; going on from the %s before it", damage, self.kind)
                return state
        if not self.path.exists() and not self.before.exists():
            return None
        raise DamagedFile(
            f"{damage}; remove the {self.kind}s in {self.folder} to start the study from its beginning"
        )

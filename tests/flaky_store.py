"""A store in the memory of this process, ``flaky://``, that is away, or slow, as a test wants it."""

from __future__ import annotations

import threading
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


class FlakyFileSystem(MemoryFileSystem):
    """Files in memory.

    Attributes:
        is_away: whether every request fails.
        held: while it is cleared, whoever writes waits.
        writes: files in ``bucket/run`` that were written, in their order.
    """

    protocol = "flaky"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    is_away = False
    held = threading.Event()
    writes: ClassVar[list[str]] = []

    @classmethod
    def clear(cls) -> None:
        cls.store.clear()
        cls.pseudo_dirs[:] = [""]
        cls.writes.clear()
        cls.is_away = False
        cls.held.set()

    @classmethod
    def _asked(cls) -> None:
        if cls.is_away:
            raise ConnectionError("the network is down")

    def ls(self, path: str, detail: bool = True, **settings: Any) -> Any:
        self._asked()
        return super().ls(path, detail, **settings)

    def info(self, path: str, **settings: Any) -> Any:
        self._asked()
        return super().info(path, **settings)

    def _open(self, path: str, mode: str = "rb", **settings: Any) -> Any:
        self._asked()
        if mode != "rb":
            assert self.held.wait(60)
        return super()._open(path, mode, **settings)

    def mv(self, path1: str, path2: str, **settings: Any) -> None:
        self._asked()
        super().mv(path1, path2, **settings)
        self.writes.append(path2.partition("bucket/run/")[2])


fsspec.register_implementation("flaky", FlakyFileSystem, clobber=True)

"""How the examples of a data set are loaded."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from selftune.errors import SettingError
from selftune.fields import check_fields
from selftune.memory import machines_memory

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_AMOUNT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+|%)\s*")


@dataclass(frozen=True)
class Loading:
    """How the examples of a ``torch.utils.data.Dataset`` are loaded.

    Args:
        workers: processes that load batches ahead of time; 0 loads each in the trainer's own when it is due.
        collate: makes a batch of a list of items; torch's ``default_collate`` where it is None.
        memory: how much of the device's memory may hold the data set as a whole: bytes, a text such as ``"512MB"``
            or ``"2GiB"``, or a share such as ``"25%"``. A data set that fits is read once, so that random
            transforms in it are drawn once, too; one that does not fit is loaded batch by batch.

    Raises:
        SettingError: with the name of the argument.

    >>> Loading(workers=4, memory="512MB").bytes_on(torch.device("cpu"))
    512000000
    """

    workers: int = 0
    collate: Callable[[list[Any]], Any] | None = None
    memory: int | str = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.workers < 0:
            raise SettingError("workers", f"must be at least 0, got {self.workers}")
        self.bytes_on(torch.device("cpu"))

    def bytes_on(self, device: torch.device) -> int:
        """The bytes of a device's memory that ``memory`` stands for."""
        if isinstance(self.memory, int):
            if self.memory < 0:
                raise SettingError("memory", f"must be at least 0 bytes, got {self.memory}")
            return self.memory
        amount = _AMOUNT.fullmatch(self.memory)
        unit = amount[2].upper() if amount else ""
        if amount is None or (unit != "%" and unit not in _UNITS):
            raise SettingError(
                "memory", f'must be bytes, or a text such as "512MB", "2GiB" or "25%", got {self.memory!r}'
            )
        if unit != "%":
            return int(float(amount[1]) * _UNITS[unit])
        if float(amount[1]) > 100:
            raise SettingError("memory", f"must be at most 100%, got {self.memory!r}")
        return int(float(amount[1]) / 100 * _memory_of(device))


def _memory_of(device: torch.device) -> int:
    """Bytes of memory that a device has in all."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return machines_memory()

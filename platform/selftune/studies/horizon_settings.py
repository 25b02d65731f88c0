"""The section ``horizon`` of a study file: whether its schedule is compared with its own last values, held."""

from __future__ import annotations

import math
from dataclasses import dataclass

from selftune.errors import SettingError
from selftune.fields import check_fields


@dataclass(frozen=True)
class Horizon:
    """How a study's schedule is compared with its last values, held from the start.

    Plain networks are trained after tuning: with the schedule, and with the last values. Each training is as long
    as ``share`` of the study's training steps; the schedule is compressed to it.

    Args:
        share: above 0, at most 1.
        networks: of each kind, at least 2: whether a difference is chance shows from network to network.
        average: a third kind of networks follows the schedule up to this share of its end, and then holds the mean
            over it; None for no such networks.

    Raises:
        SettingError: if a setting is out of its range.

    >>> Horizon(share=0.25).steps(3000), Horizon(average=0.2).kinds
    (750, 3)
    """

    share: float = 1.0
    networks: int = 3
    average: float | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        check_share("share", self.share)
        if self.networks < 2:
            raise SettingError("networks", f"must be at least 2, got {self.networks}")
        if self.average is not None:
            check_share("average", self.average)

    @property
    def kinds(self) -> int:
        """How many kinds of networks are trained."""
        return 2 if self.average is None else 3

    def steps(self, training_steps: int) -> int:
        """The length of each training, where the study took so many training steps; at least 1."""
        return max(1, round(self.share * training_steps))


def check_share(key: str, value: float) -> None:
    """Refuses what is no share.

    Raises:
        SettingError: with the key.
    """
    if not (0 < value <= 1 and math.isfinite(value)):
        raise SettingError(key, f"must be above 0 and at most 1, got {value:g}")

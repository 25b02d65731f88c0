"""Which of two values of a measure is the better one."""

from __future__ import annotations

from typing import Literal

_SMALL = ("loss", "error", "bits_per_token")


def mode_of(name: str) -> Literal["min", "max"]:
    """Whether less of a measure is better, by its name: of losses, errors and bits per token.

    >>> mode_of("validation_loss"), mode_of("test_absolute_error"), mode_of("validation_accuracy")
    ('min', 'min', 'max')
    """
    return "min" if name.endswith(_SMALL) else "max"

"""Data at the door: what people bring, looked at once, when an objective is made."""

from selftune.data.tensors import (
    SPLITS,
    Split,
    as_tensor,
    check_balance,
    check_classes,
    check_finite,
    check_lengths,
    check_outputs,
    check_splits,
    classes_of,
    extra_of,
    pair_of,
    positions_of,
)

__all__ = [
    "SPLITS",
    "Split",
    "as_tensor",
    "check_balance",
    "check_classes",
    "check_finite",
    "check_lengths",
    "check_outputs",
    "check_splits",
    "classes_of",
    "extra_of",
    "pair_of",
    "positions_of",
]

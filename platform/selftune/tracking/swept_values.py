"""Swept keys and their values as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def short_names(keys: Sequence[str]) -> list[str]:
    """Of each key the shortest end that none of the others has; of a regularizer's key its name, too.

    >>> short_names(["objective.hidden", "objective.optimization.learning_rate", "method.learning_rate"])
    ['hidden', 'optimization.learning_rate', 'method.learning_rate']
    >>> short_names(["objective.layers", "regularizers.dropout.rate"])
    ['layers', 'dropout.rate']
    """
    return [next((end for end in _ends(key) if _is_alone(end, key, keys)), key) for key in keys]


def value_text(value: Any) -> str:
    """A value as a study file writes it, numbers with four digits.

    >>> value_text(0.0123456), value_text([32, 32]), value_text(True), value_text("adam"), value_text(None)
    ('0.01235', '[32, 32]', 'true', 'adam', 'null')
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(value_text, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {value_text(one)}' for key, one in value.items())}}}"
    return "null" if value is None else str(value)


def _ends(key: str) -> list[str]:
    parts = key.split(".")
    shortest = 2 if parts[0] == "regularizers" else 1
    return [".".join(parts[at:]) for at in range(len(parts) - shortest, -1, -1)]


def _is_alone(end: str, key: str, keys: Sequence[str]) -> bool:
    return not any(other != key and (other == end or other.endswith(f".{end}")) for other in keys)

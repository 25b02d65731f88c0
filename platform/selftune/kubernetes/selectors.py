"""Label selectors of Kubernetes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a selector selects what has these labels; an empty one selects everything.

    Raises:
        ValueError: if it has an operator that is none of Kubernetes'.

    >>> selects({"matchLabels": {"app": "mlflow"}}, {"app": "mlflow", "tier": "platform"})
    True
    >>> selects({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["mlflow"]}]}, {})
    True
    """
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_holds(one, labels) for one in selector.get("matchExpressions") or ())


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, operator, values = expression["key"], expression["operator"], expression.get("values") or ()
    if operator == "In":
        return labels.get(key) in values
    if operator == "NotIn":
        return labels.get(key) not in values
    if operator == "Exists":
        return key in labels
    if operator == "DoesNotExist":
        return key not in labels
    raise ValueError(f"a selector has the operator {operator!r}, which Kubernetes does not know")

"""What methods that differentiate the training loss ask of the hyperparameters that they tune."""

from __future__ import annotations

from collections.abc import Iterator

from selftune.errors import SettingError
from selftune.hyperparameters import Space


def not_differentiable(space: Space, method: str) -> Iterator[SettingError]:
    """Refusals of tuned hyperparameters that the training loss is no differentiable function of.

    Their derivative would be zero, or miss what matters, and they would stay where they are without a word.
    """
    for hyperparameter in space.tuned:
        if not hyperparameter.smooth:
            yield SettingError(
                f"regularizers.{hyperparameter.name}",
                f"cannot be tuned by {method}, because the training loss is not differentiable in it; tune it by"
                " self_tuning, or give it a fixed value",
            )

"""What methods that differentiate the training loss ask of the hyperparameters that they tune."""

from __future__ import annotations

from selftune.errors import SettingError
from selftune.regularizer import is_in_the_loss
from selftune.training.lower_level import LowerLevel


def check_differentiable(lower: LowerLevel, method: str) -> None:
    """Refuses tuned hyperparameters that the training loss is no differentiable function of.

    Their derivative would be zero, or miss what matters, and they would stay where they are without a word.

    Args:
        lower: the network and its regularizers.
        method: in the message.

    Raises:
        SettingError: with the hyperparameter's name as key.
    """
    regularizers = {r.name: r for r in lower.regularizers.members}
    for hyperparameter in lower.space.tuned:
        if not is_in_the_loss(regularizers[hyperparameter.name.partition(".")[0]]):
            why = "acts around the optimizer's step and not in the training loss"
        elif not hyperparameter.smooth:
            why = "is one in which the training loss is not differentiable"
        else:
            continue
        raise SettingError(
            hyperparameter.name, f"{why}, so that {method} cannot tune it; tune it with self_tuning, or fix it"
        )

"""Every card's function under its slug: ``from selftune.objectives.functional import mixup``."""

from selftune.objectives.regularizers.supervision.decoupled_weight_decay import decoupled_weight_decay
from selftune.objectives.regularizers.supervision.dropout import dropout
from selftune.objectives.regularizers.supervision.early_learning import early_learning
from selftune.objectives.regularizers.supervision.gaussian_input_noise import gaussian_input_noise
from selftune.objectives.regularizers.supervision.label_smoothing import label_smoothing
from selftune.objectives.regularizers.supervision.max_norm import max_norm
from selftune.objectives.regularizers.supervision.mixup import mixup
from selftune.objectives.regularizers.supervision.weight_decay import weight_decay

__all__ = [
    "decoupled_weight_decay",
    "dropout",
    "early_learning",
    "gaussian_input_noise",
    "label_smoothing",
    "max_norm",
    "mixup",
    "weight_decay",
]

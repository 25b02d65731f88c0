"""Every card's function under its slug: ``from selftune.objectives.functional import mixup``."""

from selftune.objectives.regularizers.supervision.decoupled_weight_decay import decoupled_weight_decay
from selftune.objectives.regularizers.supervision.dropout import dropout
from selftune.objectives.regularizers.supervision.early_learning import early_learning
from selftune.objectives.regularizers.supervision.gaussian_input_noise import gaussian_input_noise
from selftune.objectives.regularizers.supervision.label_smoothing import label_smoothing
from selftune.objectives.regularizers.supervision.max_norm import max_norm
from selftune.objectives.regularizers.supervision.mixup import mixup
from selftune.objectives.regularizers.supervision.weight_decay import weight_decay

from selftune.hypergradients.linear_solvers.deep_conjugate_direction import (
    deep_conjugate_direction,
    residual_preconditioner_loss,
)
from selftune.hypergradients.linear_solvers.gradient_normalized_newton import (
    gradient_normalized_acceptance,
    gradient_normalized_newton,
)
from selftune.hypergradients.linear_solvers.greedy_block_coordinate_descent import greedy_block_coordinate_descent

__all__ = [
    "decoupled_weight_decay",
    "deep_conjugate_direction",
    "dropout",
    "early_learning",
    "gaussian_input_noise",
    "gradient_normalized_acceptance",
    "gradient_normalized_newton",
    "greedy_block_coordinate_descent",
    "label_smoothing",
    "max_norm",
    "mixup",
    "residual_preconditioner_loss",
    "weight_decay",
]

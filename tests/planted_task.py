"""Studies in which decay alone takes away a weight that training data never see."""

from dataclasses import dataclass

from networks.two_weights import TwoWeights, one_weight_unseen

from selftune.lower_level.optimization import Optimization
from selftune.lower_level.regression import Regression

LATE = """\
study: late
objective: {task: two_weights, learning_rate: 0.05}
regularizers: {weight_decay: {strength: {start: 0.003}}}
method: {name: implicit, system_steps: 2, warmup_steps: 0, train_steps: 2, learning_rate: 0.04}
budget: {steps: 60}
horizon: {networks: 2}
"""
"""Decay starts far too small and comes late to where it ends: its last values held do better."""
FALLING = """\
study: falling
objective: {task: two_weights, learning_rate: 0.02}
regularizers: {weight_decay: {strength: {start: 1.0}}}
method: {name: implicit, system_steps: 2, warmup_steps: 0, train_steps: 2, learning_rate: 0.15}
budget: {steps: 100}
horizon: {networks: 2, average: 0.25}
"""
"""Decay has done its work early, and falls: the schedule does better."""


@dataclass
class TwoWeightsTask(Regression):
    """Training data are blind to the second weight, validation data are not."""

    learning_rate: float = 0.05

    def __post_init__(self):
        optimization = Optimization(batch_size=8, learning_rate=self.learning_rate)
        super().__init__(TwoWeights, *one_weight_unseen(), optimization)

import pytest
import torch
from torch import nn

from selftune.hyperparameters import Tune
from selftune.lower_level.classification import Classification
from selftune.lower_level.optimization import Optimization
from selftune.methods import Budget, SelfTuningSettings
from selftune.regularization.regularizer import regularizers
from selftune.training import TrainerFactory
from selftune.training.checks import run_mistakes
from selftune.training.method_record import methods


@pytest.mark.parametrize(
    ("name", "settings", "refused"),
    [
        ("risk_extrapolation", {"anneal": 30}, "regularizers.risk_extrapolation.anneal"),
        ("orthogonal_gradient", {"start": 31}, "regularizers.orthogonal_gradient.start"),
        ("risk_extrapolation", {"anneal": 29}, None),
        ("risk_extrapolation", {}, None),
        ("orthogonal_gradient", {}, None),
    ],
)
def test_what_would_come_into_play_after_the_end_is_refused(name, settings, refused):
    data = torch.zeros(16, 2), torch.arange(16) % 2
    extra = {"domains": (torch.arange(16) // 2 % 2,) * 3}
    objective = Classification(lambda: nn.Linear(2, 2), *[data] * 3, Optimization(batch_size=8), extra=extra)
    members = [regularizers["weight_decay"](strength=Tune(1e-3)), regularizers[name](**settings)]
    factory = TrainerFactory(objective, members, steps=30)
    form, chosen = methods["self_tuning"].network, SelfTuningSettings(warmup_steps=5)
    found = list(run_mistakes(factory, lambda: form.make(Budget(steps=30), chosen, 1), form, chosen))
    assert [mistake.key for mistake in found] == ([refused] if refused else [])
    assert all("below the 30 training steps" in mistake.message for mistake in found)

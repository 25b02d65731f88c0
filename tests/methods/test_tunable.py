"""What a method cannot tune is refused when the first trainer joins, before anything is asked of it."""

import pytest
import torch
from torch import nn

from selftune.errors import SettingError
from selftune.hyperparameters import Space, Tune
from selftune.lower_level.classification import Classification
from selftune.lower_level.optimization import Optimization
from selftune.methods import Budget, NetworkLineSearch, OnlineImplicit, Penalty, SelfTuning
from selftune.regularization.composition import Regularizers
from selftune.regularization.regularizer import regularizers

DIFFERENTIATE = [OnlineImplicit, Penalty, NetworkLineSearch]


def space(name, **values):
    data = torch.zeros(8, 4), torch.arange(8) % 3
    network = lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))  # noqa: E731
    objective = Classification(network, data, data, data, Optimization(batch_size=8))
    return Space(Regularizers([regularizers[name](**values)], objective, {"progress"}).hyperparameters)


@pytest.mark.parametrize("method", DIFFERENTIATE)
@pytest.mark.parametrize(
    ("name", "hyperparameter"),
    [
        ("dropout", "rate"),  # acts in the loss, which is not differentiable in it
        ("decoupled_weight_decay", "strength"),  # acts around the optimizer's step
        ("early_learning", "beta"),
        ("sam", "rho"),  # acts on gradients
    ],
)
def test_what_the_loss_is_not_differentiable_in(method, name, hyperparameter):
    with pytest.raises(SettingError, match="not differentiable in it; tune it by self_tuning") as error:
        method(Budget(steps=1000)).join(0, space(name, **{hyperparameter: Tune()}))
    assert error.value.key == f"{name}.{hyperparameter}"


@pytest.mark.parametrize(("name", "hyperparameter"), [("sam", "rho"), ("gradient_clipping", "max_norm")])
def test_what_has_no_response(name, hyperparameter):
    with pytest.raises(SettingError, match="learns no response; give it a fixed value") as error:
        SelfTuning(Budget(steps=1000)).join(0, space(name, **{hyperparameter: Tune()}))
    assert error.value.key == f"{name}.{hyperparameter}"


@pytest.mark.parametrize("name", ["dropout", "decoupled_weight_decay", "max_norm"])
def test_what_acts_in_the_loss_or_maps_weights_has_a_response(name):
    (hyperparameter,) = [h.name for h in regularizers[name].hyperparameters][:1]
    SelfTuning(Budget(steps=1000)).join(0, space(name, **{hyperparameter: Tune()}))


@pytest.mark.parametrize("method", [*DIFFERENTIATE, SelfTuning])
def test_a_space_without_tuned_hyperparameters(method):
    with pytest.raises(SettingError, match="nothing is tuned"):
        method(Budget(steps=1000)).join(0, space("weight_decay"))


@pytest.mark.parametrize("method", [*DIFFERENTIATE, SelfTuning])
def test_a_budget_that_the_warm_up_spends(method):
    with pytest.raises(SettingError, match="must be below the budget of 200 training steps") as error:
        method(Budget(steps=200))
    assert error.value.key == "warmup_steps"
    assert method(Budget(steps=201)).done is False


@pytest.mark.parametrize("method", [*DIFFERENTIATE, SelfTuning])
@pytest.mark.parametrize("size", [0, -1, 1.5, True, "2"])
def test_a_team_of_no_number(method, size):
    with pytest.raises(SettingError, match="must be") as error:
        method(Budget(steps=1000), team_size=size)
    assert error.value.key == "team_size"

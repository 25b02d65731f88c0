"""What is wrong with the derivatives of an objective is found before a method uses them."""

import pytest
import torch
from smooth_problems import PROBLEMS, classification, regression

from selftune.errors import SettingError
from selftune.hypergradients.derivative_check import check_derivatives
from selftune.hyperparameters import Hyperparameter, Positive
from selftune.lower_level.smooth_objective import Constants, SmoothObjective
from selftune.training.smooth_trainer import SmoothTrainerFactory


@pytest.mark.parametrize("name", PROBLEMS)
def test_right_derivatives_pass(name):
    check_derivatives(PROBLEMS[name]())


def test_single_precision_passes():
    from selftune.objectives.tasks.ridge import Ridge

    check_derivatives(Ridge(dtype="float32"))


def broken(problem, **functions):
    kind = type(problem)
    problem.__class__ = type("Broken", (kind,), {k: v(kind) for k, v in functions.items()})
    return problem


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("lower_gradient", lambda kind: lambda self, p, v: {"weight": -kind.lower_gradient(self, p, v)["weight"]}),
        (  # half of the penalty
            "lower_gradient",
            lambda kind: (
                lambda self, p, v: kind.lower_gradient(self, p, {"ridge.strength": v["ridge.strength"] / 2})
            ),
        ),
        (  # right, but cut off from the hyperparameters
            "lower_gradient",
            lambda kind: (
                lambda self, p, v: kind.lower_gradient(self, p, {"ridge.strength": v["ridge.strength"].detach()})
            ),
        ),
        (
            "hessian_product",
            lambda kind: (
                lambda self, p, v: (
                    lambda at: {"weight": kind.hessian_product(self, p, v)(at)["weight"] + 0.01 * at["weight"]}
                )
            ),
        ),
        ("jacobian_norm", lambda kind: lambda self, p, v, s: 0.1 * kind.jacobian_norm(self, p, v, s)),
    ],
)
def test_a_wrong_closed_form_is_named(name, function):
    with pytest.raises(SettingError) as caught:
        check_derivatives(broken(regression("per_feature"), **{name: function}))
    assert caught.value.key == name


def test_it_is_found_where_a_start_of_zeros_hides_it():
    problem = classification("per_class")
    assert not any(tensor.any() for tensor in problem.parameters().values())

    def without(kind):
        return lambda self, p, v: kind.lower_gradient(self, p, {"logistic.strength": 0 * v["logistic.strength"]})

    with pytest.raises(SettingError, match=r"changes by [-\d.e]+ per unit along a random direction"):
        check_derivatives(broken(problem, lower_gradient=without))


class Cut(SmoothObjective):
    """Derived by autograd, which the user cuts in one place."""

    def __init__(self, where):
        self.where = where
        self.hyperparameters = (Hyperparameter("cut.strength", Positive(), 0.5, tuned=True, shared=True),)

    def parameters(self):
        return {"w": torch.ones(3, dtype=torch.float64)}

    def lower(self, parameters, values):
        strength = values["cut.strength"]
        strength = strength.item() if self.where == "lower" else strength
        return (parameters["w"] - 1).square().sum() + strength * parameters["w"].square().sum()

    def upper(self, parameters, values):
        strength = values["cut.strength"].detach() if self.where == "upper" else values["cut.strength"]
        return parameters["w"].square().sum() + strength**2

    def constants(self, values, slopes):
        s = float(values["cut.strength"])
        return Constants(2 + 2 * s, 2 + 2 * s, 0.0, 2 * s, 2.0, upper_convex=True, certified=False)


@pytest.mark.parametrize("where", ["lower", "upper"])
def test_a_hyperparameter_that_is_cut_off_is_named(where):
    check_derivatives(Cut("nowhere"))
    with pytest.raises(SettingError, match="in the hyperparameters") as caught:
        check_derivatives(Cut(where))
    assert caught.value.key == where


def test_every_road_through_a_factory_looks():
    with pytest.raises(SettingError, match="lower"):
        SmoothTrainerFactory(Cut("lower"))

import pickle

import pytest

from selftune.errors import SettingError
from selftune.lower_level.smooth_objective import Constants, NotStronglyConvex, check_device


def constants(strong_convexity):
    return Constants(strong_convexity, 1.0, 0.0, 0.0, 1.0, upper_convex=True, certified=True)


@pytest.mark.parametrize("curvature", [0.0, -0.5, float("nan"), float("inf")])
def test_strong_convexity_must_be_positive(curvature):
    with pytest.raises(NotStronglyConvex, match=f"smallest curvature met is {curvature:g}"):
        constants(curvature)


def test_condition_number():
    assert constants(0.25).condition == 4.0


def test_the_error_travels():
    error = pickle.loads(pickle.dumps(NotStronglyConvex(-1.5)))
    assert error.curvature == -1.5
    assert "weight decay" in str(error)


@pytest.mark.parametrize("device", ["gpu", "cuda:7"])
def test_a_missing_device_is_refused(device):
    with pytest.raises(SettingError, match=f"device: '{device}' cannot be used"):
        check_device(device)

import pytest

from selftune.methods import Ball, Box, PenaltySettings, Simplex
from selftune.studies.mistakes import Mistakes
from selftune.studies.settings import build_settings


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"radius": 2}, Ball(radius=2.0)),
        ({"radius": 2, "center": [0.5, 1]}, Ball(radius=2.0, center=(0.5, 1.0))),
        ({"low": -10}, Box(low=-10.0)),
        ({"low": [-10, -5], "high": 3}, Box(low=(-10.0, -5.0), high=3.0)),
        ({"total": 3, "group": 2}, Simplex(total=3.0, group=2)),
        (None, None),
    ],
)
def test_settings_that_are_one_of_several_kinds_are_known_by_their_keys(given, expected):
    assert build_settings(PenaltySettings, {"sigma": 0.1, "constraint": given}) == PenaltySettings(
        sigma=0.1, constraint=expected
    )


@pytest.mark.parametrize(
    ("given", "key", "fragment"),
    [
        ({"radus": 2}, "constraint.radus", "did you mean radius?"),
        ({"radius": 2, "centre": 1}, "constraint.centre", "did you mean center?"),
        ({"radius": "a"}, "constraint.radius", "must be a number, got 'a'"),
        ({"radius": -1}, "constraint.radius", "must be a positive number"),
        ({"low": 3, "high": 1}, "constraint.high", "must be at least low"),
        ({"low": 3, "radius": 1}, "constraint.radius", "unknown key; known are high, low"),
        ({}, "constraint", "is empty; give the settings of Box (low, high) or Ball (radius, center) or"),
        (3, "constraint", "must be a mapping of settings, got 3"),
    ],
)
def test_what_fits_none_of_them_is_never_taken_for_another(given, key, fragment):
    with pytest.raises(Mistakes) as caught:
        build_settings(PenaltySettings, {"constraint": given})
    (mistake,) = caught.value.mistakes
    assert mistake.key == key
    assert fragment in mistake.message


def test_all_mistakes_are_told_at_once():
    with pytest.raises(Mistakes) as caught:
        build_settings(PenaltySettings, {"sgma": 1.0, "constraint": {"radius": 0}})
    assert [mistake.key for mistake in caught.value.mistakes] == ["sgma", "constraint.radius"]

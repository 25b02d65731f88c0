import re

import pytest

from selftune.hyperparameters import Choice, Hyperparameter, Integer, Interval, Positive, Tune, Unit

RATE = Hyperparameter("rate", Unit(), 0.5)


def test_a_number_fixes_and_tune_tunes():
    fixed = RATE.with_value(0.2, prefix="dropout.")
    assert (fixed.name, fixed.value, fixed.tuned) == ("dropout.rate", 0.2, False)
    tuned = RATE.with_value(Tune(), prefix="dropout.")
    assert (tuned.value, tuned.tuned) == (0.5, True)
    narrowed = RATE.with_value(Tune(0.1, Interval(0.0, 0.3)))
    assert narrowed.domain == Interval(0.0, 0.3)


def test_parts_take_one_value_each_or_share_one():
    assert RATE.with_value(Tune({"a": 0.1, "b": 0.2}), parts=("a", "b")).value == (0.1, 0.2)
    assert RATE.with_value(0.3, parts=("a", "b")).value == (0.3, 0.3)
    assert RATE.with_value(0.3, parts=("a", "b")).tensor.shape == (2,)


@pytest.mark.parametrize(
    ("hyperparameter", "value", "parts", "fragment"),
    [
        (RATE, 1.5, (), r"must be a number in \[0, 1\], got 1.5"),
        (RATE, Tune(0.0), (), "must lie inside the bounds"),
        (RATE, {"a": 0.1}, (), "takes one value"),
        (RATE, {"a": 0.1}, ("a", "b"), "no value for part 'b'"),
        (RATE, {"a": 0.1, "c": 0.1}, ("a",), "unknown part 'c'"),
        (RATE, "much", (), "must be a number"),
        (Hyperparameter("mode", Choice(("x", "y")), "x"), Tune("x"), (), "cannot be tuned"),
        (Hyperparameter("k", Integer(1, 4), 2, online=False), Tune(), (), "cannot be tuned"),
        (Hyperparameter("s", Positive(), 1.0), Tune(float("nan")), (), "positive"),
    ],
)
def test_values_that_do_not_fit_are_refused_in_one_sentence(hyperparameter, value, parts, fragment):
    with pytest.raises(ValueError, match=fragment):
        hyperparameter.with_value(value, parts=parts)


@pytest.mark.parametrize(
    ("own", "given", "sentence"),
    [
        (Unit(), Interval(0.0, 2.0), "its domain must stay within what is allowed: a number in [0, 1]"),
        (Unit(), Positive(), "its domain must stay within"),
        (Integer(1, 9), Interval(1.0, 9.0), "its domain must be integer"),
    ],
)
def test_a_domain_can_be_narrowed_never_widened(own, given, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        Hyperparameter("x", own, 1).with_value(Tune(0.5, given))

"""Study files whose team may start with fewer trainers than it has."""

import pytest

from selftune.studies.mistakes import Mistakes
from selftune.studies.study_file import parse_study
from selftune.sweeps.sweep_file import parse_sweep


def with_least(text, least, number=4, method=""):
    changed = text.replace("number: 1", f"number: {number}, at_least: {least}")
    return changed.replace("  warmup_steps", f"{method}  warmup_steps")


def test_a_study_file_says_with_how_many_it_may_start(study_text):
    assert parse_study(with_least(study_text, 2)).trainers.at_least == 2
    assert parse_study(study_text).trainers.at_least is None


@pytest.mark.parametrize(
    ("least", "method", "message"),
    [
        (5, "", "trainers.at_least: must be from 1 to 4, the number of trainers, got 5"),
        (
            2,
            "  synchronization: {name: asynchronous}\n",
            "trainers.at_least: is for methods whose trainers each train a network of their own, in step with the"
            " others; leave it out",
        ),
        (
            2,
            "  aggregation: {name: trimmed_mean, faulty: 1}\n",
            "trainers.at_least: 2 trainers are too few: method.aggregation: trimmed_mean with faulty: 1 needs at"
            " least 3 trainers, got 2; set trainers.number to 3 or more, or name another aggregator",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(study_text, least, method, message):
    with pytest.raises(Mistakes) as error:
        parse_study(with_least(study_text, least, method=method))
    assert str(error.value) == message


def test_a_sweep_refuses_it(study_text):
    text = with_least(study_text, 2) + "sweep:\n  over: {method.train_steps: {choice: [2, 5]}}\n"
    with pytest.raises(Mistakes, match=r"trainers\.at_least: is for a study by itself"):
        parse_sweep(text)

"""What was important among swept keys, as far as that can be known."""

from __future__ import annotations

from dataclasses import replace

import pytest
from synthetic_trials import DROPOUT, MOMENTUM, OPTIMIZER, RATE, SPACE, records, settings

from selftune.search import TrialRecord
from selftune.tracking.importance import FEWEST_TRIALS, importance
from selftune.tracking.trials import Trials


@pytest.mark.parametrize("seed", range(3))
def test_what_decides_is_most_important(seed: int) -> None:
    shares = importance(Trials(SPACE, settings(), tuple(records(60, seed=seed))))
    assert next(iter(shares)) == RATE
    assert sum(shares.values()) == pytest.approx(1)
    assert set(shares) == set(SPACE.keys)


def test_nothing_is_drawn_and_nothing_said(capfd: pytest.CaptureFixture[str]) -> None:
    trials = Trials(SPACE, settings(), tuple(records(30)))
    assert importance(trials) == importance(trials)
    assert capfd.readouterr() == ("", "")


def test_the_mode_says_what_is_best() -> None:
    heard = records(60)
    turned = [replace(one, best=None if one.best is None else -one.best) for one in heard]
    assert importance(Trials(SPACE, settings(mode="max"), tuple(turned))) == pytest.approx(
        importance(Trials(SPACE, settings(), tuple(heard)))
    )


def test_too_few_trials_say_nothing() -> None:
    heard = [TrialRecord(n, {DROPOUT: n / 20}, best=float(n)) for n in range(FEWEST_TRIALS - 1)]
    assert importance(Trials(SPACE, settings(), tuple(heard))) == {}


def test_keys_that_no_trial_has_and_values_out_of_range() -> None:
    heard = [TrialRecord(n, {DROPOUT: n / 10, OPTIMIZER: "adam"}, best=float(n)) for n in range(20)]
    shares = importance(Trials(SPACE, settings(), tuple(heard)))
    assert MOMENTUM not in shares
    assert max(shares, key=shares.__getitem__) == DROPOUT

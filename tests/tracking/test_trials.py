"""What is read of the trials of a search: curves, the best so far, the winner."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from synthetic_trials import SPACE, records, settings

from selftune.search import TrialRecord
from selftune.tracking.trials import Trials

HEARD = tuple(records())
TRIALS = Trials(SPACE, settings(), HEARD)


def told(*heard: TrialRecord, **changed: object) -> Trials:
    return Trials(SPACE, settings(**changed), heard)


def test_counts_and_what_was_spent() -> None:
    assert sum(TRIALS.counts.values()) == 24
    assert TRIALS.counts["refused"] == 2
    assert TRIALS.counts["failed"] == 2
    assert TRIALS.spent == sum(record.spent for record in TRIALS.last.values())


def test_a_curve_has_a_point_a_report() -> None:
    curve = TRIALS.curves[0]
    reports = [one for one in HEARD if one.number == 0 and one.measures and one.status == "running"]
    assert curve.training_step.tolist() == [one.training_step for one in reports]
    assert curve.measures["validation_loss"].tolist() == [one.measures["validation_loss"] for one in reports]
    assert not {7, 19} & set(TRIALS.curves), "those that were refused reported nothing"


def test_the_best_so_far_only_gets_better() -> None:
    best = TRIALS.best_so_far()
    assert (np.diff(best.value) < 0).all()
    assert (np.diff(best.spent) > 0).all()
    assert best.spent[-1] <= TRIALS.spent
    assert (np.diff(best.seconds) > 0).all()
    assert best.seconds[-1] <= sum(record.seconds for record in TRIALS.last.values())
    assert TRIALS.winner is not None
    assert (best.value[-1], best.number[-1]) == (TRIALS.winner.best, TRIALS.winner.number)


def test_the_largest_is_best_where_the_mode_says_so() -> None:
    heard = [replace(one, best=None if one.best is None else -one.best) for one in HEARD]
    best = told(*heard, mode="max").best_so_far()
    assert (np.diff(best.value) > 0).all()
    assert best.number.tolist() == TRIALS.best_so_far().number.tolist()
    assert [one.number for one in told(*heard, mode="max").ranked()] == [one.number for one in TRIALS.ranked()]


def test_neither_failed_trials_nor_values_that_are_no_numbers_win() -> None:
    first = TrialRecord(0, {}, best=0.5, best_step=10)
    trials = told(
        first,
        TrialRecord(1, {}, best=0.1),
        TrialRecord(1, {}, "failed", best=0.1),
        TrialRecord(2, {}, best=float("nan")),
        TrialRecord(3, {}, "refused"),
    )
    assert trials.winner == first
    assert trials.best_so_far().value.tolist() == [0.5]
    assert [one.number for one in trials.ranked()][:2] == [1, 0]


@pytest.mark.parametrize("heard", [(), (TrialRecord(0, {}),)])
def test_without_a_report_nobody_wins(heard: tuple[TrialRecord, ...]) -> None:
    assert told(*heard).winner is None
    assert len(told(*heard).best_so_far().value) == 0


def test_the_winner_has_the_values_that_it_was_trained_with() -> None:
    """Population-based training changes them later."""
    before = TrialRecord(0, {"a": 1}, training_step=10, best=0.2, best_step=10, measures={"validation_loss": 0.2})
    after = replace(before, values={"a": 2}, training_step=20, measures={"validation_loss": 0.3})
    assert told(before, after).winner == before


def test_of_a_trial_and_its_copy_the_trial_wins() -> None:
    loss = "validation_loss"
    donor = TrialRecord(1, {"a": 1}, training_step=10, spent=10, best=0.2, measures={loss: 0.2})
    before = TrialRecord(0, {"a": 5}, training_step=10, spent=10, best=0.9, measures={loss: 0.9})
    copied = replace(before, values={"a": 2}, status="paused", copied=1, best=0.2)
    after = replace(copied, status="running", training_step=20, spent=20, measures={loss: 0.3})
    trials = told(before, donor, copied, after)
    assert trials.winner == donor
    assert trials.at_best[0].values == {"a": 1}, "the best value was met with them"
    assert trials.curves[0].measures[loss].tolist() == [0.9, 0.3]
    assert trials.curves[0].copied == (1,)


def test_what_is_done_again_after_a_fault_takes_the_place_of_what_was_lost() -> None:
    first = TrialRecord(0, {}, training_step=10, spent=10, best=0.5, measures={"validation_loss": 0.5})
    lost = replace(first, training_step=20, spent=20, best=0.4, measures={"validation_loss": 0.4})
    restarted = replace(lost, training_step=10)
    again = replace(lost, spent=30)
    curve = told(first, lost, restarted, again).curves[0]
    assert curve.training_step.tolist() == [10, 20]
    assert curve.spent.tolist() == [10, 30]


def test_the_best_of_each_trial_is_where_it_was_met() -> None:
    each = TRIALS.best_of_each()
    assert sorted(each.number.tolist()) == sorted(TRIALS.at_best)
    assert (np.diff(each.spent) >= 0).all()

import torch

from selftune.methods.reports import ArmTrained, CandidateTrained, Diverged, Trained
from selftune.schedulers.sweep.work_done import WorkDone


def test_arms_count_with_all_their_steps_although_they_start_from_the_same_state():
    work, losses = WorkDone(), torch.zeros(2)
    work.reported(0, ArmTrained(training_step=20, training_loss=1.0, work=20, losses=losses))
    for _ in range(3):
        work.reported(0, CandidateTrained(training_step=20, training_loss=1.0, work=20, losses=losses))
    assert work.taken() == 80


def test_what_was_done_before_a_saved_state_is_not_counted():
    work = WorkDone()
    work.goes_on_from({0: Trained(training_step=50, training_loss=1.0)})
    work.reported(0, Trained(training_step=70, training_loss=1.0))
    work.reported(1, Diverged(training_step=5))
    assert work.taken() == 25

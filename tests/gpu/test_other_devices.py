"""Runs that go on on another device than they began on."""

import pytest
import torch
from full_matrix import first_of
from test_placement import elsewhere
from tuned_runs import METHODS, STEPS, batches, end_of, team_of, tuner_of, warmed_up


@pytest.mark.parametrize("label", first_of(METHODS, 2))
def test_a_saved_run_goes_on_on_another_device(label, place, gpu, tmp_path):
    here, there = "cpu", place.device
    for first, second in ((here, there), (there, here)):
        team = warmed_up(label, first)
        team.save(tmp_path / first)
        again = team_of(label, second)
        assert again.restore(tmp_path / first)
        again.join()
        for trainer in again.trainers.values():
            assert elsewhere(trainer._state(), torch.device(second).type) == []
        found, wanted = end_of(again), end_of(team)
        assert again.training_step == STEPS
        assert all(bool(torch.isfinite(tensor).all()) for tensor in found.values())
        # GPUs draw other random numbers
        assert gpu or all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("label", ["self_tuning", "implicit, neumann"])
def test_a_loop_of_ones_own_goes_on_on_another_device(label, place):
    """Between two hyper-steps, where losses wait for the report."""
    for first, second in (("cpu", place.device), (place.device, "cpu")):
        tuner, *_ = tuner_of(label, first)
        for batch in batches(first, 7):
            tuner.loss(batch).backward()
            tuner.step()
        again, model, optimizer = tuner_of(label, second)
        again.load_state_dict(tuner.state_dict())
        for batch in batches(second, 2, seed=200):
            again.loss(batch).backward()
            again.step()
        assert len(again.trajectory) > len(tuner.trajectory)
        assert elsewhere([dict(model.named_parameters()), optimizer.state_dict()], torch.device(second).type) == []

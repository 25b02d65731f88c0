"""What torch itself says of synchronizations on a GPU; without one, what the emulated device does."""

import warnings
from contextlib import contextmanager

import pytest
import torch
from emulated_device import listed
from full_matrix import first_of
from tuned_runs import METHODS, warmed_up


@contextmanager
def no_waits(place):
    """Within it, whatever waits for the device fails."""
    if place.device == "cuda":
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
    else:
        with place.watch.seeing() as events:
            yield
        assert all(event.kind == "to device" for event in events), listed(events)


@pytest.mark.parametrize("label", first_of(METHODS, 2))
def test_training_steps_response_steps_and_hypergradients_do_not_wait(label, place):
    trainer = warmed_up(label, place.device).trainers[0]
    with no_waits(place):
        for _ in range(2):
            trainer.estimator.train(trainer.training_step)
            trainer.training_step += 1
        trainer.estimator.hypergradient(trainer.training_step)


@pytest.mark.cuda
@pytest.mark.parametrize("label", METHODS)
def test_torch_counts_one_wait_per_trainer_and_hyper_step(label):
    team = warmed_up(label, "cuda")
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            team.round()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    waits = [str(one.message) for one in caught if "synchronizing CUDA operation" in str(one.message)]
    assert len(waits) == len(team.trainers), waits

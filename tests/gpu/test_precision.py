"""Tuned runs under autocast, on a GPU or on the CPU."""

import pytest
import torch
from full_matrix import first_of
from tuned_runs import METHODS, OF_LOOPS, batches, team_of, tuner_of


def is_sound(team):
    """Whether a run got through, with weights and hypergradients in single precision that are finite."""
    assert all(report.kind == "finish" for report in team.last.values())
    weights = [p for trainer in team.trainers.values() for p in trainer.lower.network.parameters()]
    return all(p.dtype == torch.float32 and bool(torch.isfinite(p).all()) for p in weights)


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
@pytest.mark.parametrize("label", first_of(METHODS, 2))
def test_a_run_in_half_precision(label, kind, device):
    team = team_of(label, device, autocast=kind)
    team.join()
    while not team.done:
        team.round()
    assert is_sound(team)
    assert team.hyper_steps >= 3


@pytest.mark.parametrize("label", first_of(OF_LOOPS, 2))
def test_a_loop_of_ones_own_with_a_scaler_of_the_loss(label, device):
    tuner, model, optimizer = tuner_of(label, device)
    scaler = torch.amp.GradScaler(device, init_scale=64.0)
    for batch in batches(device):
        with torch.autocast(device, torch.float16):
            loss = tuner.loss(batch)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        tuner.before_step()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        tuner.after_step()
    assert len(tuner.trajectory) >= 2
    assert all(p.dtype == torch.float32 and bool(torch.isfinite(p).all()) for p in model.parameters())

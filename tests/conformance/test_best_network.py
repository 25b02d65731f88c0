"""Keeping the best network on the way changes nothing of the training that goes on."""

import pytest
import torch
from orders import start_of
from trainers import NAMES, fixed, replay, trainer_of

from selftune.methods.work_orders import FinishTraining
from selftune.networks.network_state import state_of


@pytest.mark.parametrize("name", NAMES)
def test_a_copy_on_the_way_is_the_network_there_and_changes_nothing(name):
    kept, plain = trainer_of(name, fixed(name)), trainer_of(name, fixed(name))
    for trainer in (kept, plain):
        replay(trainer, 4)
    there = state_of(plain.plain_network())
    values = start_of(kept.space)
    kept._keep_best(values)
    for trainer in (kept, plain):
        replay(trainer, 4)
    last, wanted = state_of(kept.plain_network()), state_of(plain.plain_network())
    assert all(torch.equal(last[tensor], wanted[tensor]) for tensor in wanted)
    report = kept.execute(FinishTraining(values=values))
    assert {"best_validation_loss", "best_test_loss"} <= set(report.metrics)
    best = report.best_network
    assert all(torch.equal(best[tensor], there[tensor]) for tensor in best)

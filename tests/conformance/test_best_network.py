"""Keeping the best network on the way changes nothing of the training that goes on."""

import pytest
import torch
from trainers import NAMES, fixed, replay, trainer_of

from selftune.methods.measures import BEST, BEST_NETWORK
from selftune.methods.method import WorkOrder
from selftune.networks.network_state import state_of


@pytest.mark.parametrize("name", NAMES)
def test_a_copy_on_the_way_is_the_network_there_and_changes_nothing(name):
    kept, plain = trainer_of(name, fixed(name)), trainer_of(name, fixed(name))
    for trainer in (kept, plain):
        replay(trainer, 4)
    there = state_of(plain.plain_network())
    values = kept.space.start
    kept._keep_best({"best": 0, "best_unconstrained": values})
    for trainer in (kept, plain):
        replay(trainer, 4)
    last, wanted = state_of(kept.plain_network()), state_of(plain.plain_network())
    assert all(torch.equal(last[tensor], wanted[tensor]) for tensor in wanted)
    report = kept.execute(WorkOrder("finish", {"unconstrained": values}))
    assert {f"{BEST}{measure}" for measure in ("validation_loss", "test_loss")} <= set(report.metrics)
    best = {k.removeprefix(BEST_NETWORK): t for k, t in report.payload.items() if k.startswith(BEST_NETWORK)}
    assert all(torch.equal(best[tensor], there[tensor]) for tensor in best)

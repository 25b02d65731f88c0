"""Two workers of which each holds a part of the weights do with every regularizer what one does, or refuse it."""

import conformance_objectives
import pytest
import torch
from rounding import rounding
from sharded_weights import process, trained
from shared_batches import SHARED, in_two_processes, without_batch_statistics
from test_shared_batches import REFUSED as NEVER_SHARED

from selftune.regularization.regularizer import overrides, regularizers

NEEDS_THE_NETWORK = {"ewc", "ordered_low_rank", "sam", "self_distillation_targets"} | {
    name for name in SHARED if overrides(regularizers[name](), "aggregate")
}


@pytest.fixture(scope="module")
def together():
    return in_two_processes(process)


@pytest.mark.full
@pytest.mark.parametrize("name", SHARED)
def test_two_workers_are_one(together, name, monkeypatch):
    monkeypatch.setattr(conformance_objectives, "cnn", without_batch_statistics)
    found = [one[name] for one in together]
    assert isinstance(found[0], str) == (name in NEVER_SHARED | NEEDS_THE_NETWORK), found[0]
    if name in NEEDS_THE_NETWORK:
        assert "cannot be used where every worker holds a part of the weights (fsdp): " in found[0]
    if isinstance(found[0], str):
        assert found[0] == found[1]
        return
    assert torch.equal(found[0], found[1])
    expected = trained(name)
    tolerance = rounding(expected.abs().max(), 100, torch.float32)  # hyperparameters are in float32
    torch.testing.assert_close(found[0], expected, rtol=0, atol=tolerance)

"""Two workers that share every batch do with every regularizer what one does, or refuse it."""

import conformance_objectives
import pytest
import torch
from rounding import rounding
from shared_batches import SHARED, in_two_processes, process, trained, without_batch_statistics

REFUSED = {
    "adaptive_mixup",
    "inter_environment_gradient_alignment",
    "intrusion_loss",  # whose partner is adaptive_mixup
    "quantization_noise",
}


@pytest.fixture(scope="module")
def together():
    return in_two_processes(process)


@pytest.mark.full
@pytest.mark.parametrize("name", SHARED)
def test_two_workers_are_one(together, name, monkeypatch):
    monkeypatch.setattr(conformance_objectives, "cnn", without_batch_statistics)
    found = [one[name] for one in together]
    assert isinstance(found[0], str) == (name in REFUSED), found[0]
    if name in REFUSED:
        assert found[0] == found[1]
        assert "cannot be used where several workers share every batch: " in found[0]
        return
    assert torch.equal(found[0]["weights"], found[1]["weights"])
    for key, tensor in trained(name).items():
        tolerance = rounding(tensor.abs().max(), 100, torch.float32)  # hyperparameters are in float32
        torch.testing.assert_close(found[0][key], tensor, rtol=0, atol=tolerance)

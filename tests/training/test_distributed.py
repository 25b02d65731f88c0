"""Two processes that train one network together are one process with the joined batch."""

import tempfile
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from gloo_processes import process, trained
from rounding import rounding


@pytest.fixture(scope="module")
def together():
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(process, (folder,), nprocs=2)
        yield [torch.load(Path(folder) / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("method", ["self_tuning", "implicit"])
def test_two_processes_are_one_with_the_joined_batch(together, method):
    alone = trained(0, 1, method)
    for found in together:
        assert torch.equal(found[method]["values"], together[0][method]["values"])
        assert torch.equal(found[method]["weights"], together[0][method]["weights"])
        for name, tensor in alone.items():
            tolerance = rounding(tensor.abs().max(), 10_000, torch.float32)  # hyperparameters are in float32
            torch.testing.assert_close(found[method][name], tensor, rtol=0, atol=tolerance)

"""Two processes that share every batch are one process with the whole batch, whatever the method."""

import tempfile
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from joined_batches import process, trained
from method_runs import METHODS
from rounding import rounding


@pytest.fixture(scope="module")
def together():
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(process, (folder, list(METHODS)), nprocs=2)
        yield [torch.load(Path(folder) / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("label", METHODS)
def test_two_processes_are_one(together, label):
    alone, found = trained(label), [one[label] for one in together]
    for name, tensor in alone.items():
        assert torch.equal(found[0][name], found[1][name]) or name == "measures"
        tolerance = rounding(tensor.abs().max(), 100, torch.float32)  # hyperparameters are in float32
        torch.testing.assert_close(found[0][name], tensor, rtol=0, atol=tolerance)

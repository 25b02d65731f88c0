"""Two processes of which each holds a part of the weights are one process with all of them."""

import tempfile
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from full_matrix import first_of
from rounding import rounding
from sharded_training import NORMS, OPTIMIZATIONS, process, trained

LABELS = [*OPTIMIZATIONS, *NORMS]
USUAL = 1
PRECISION = {"bfloat16": torch.bfloat16}


@pytest.fixture(scope="module")
def together(request):
    labels = LABELS if request.config.getoption("--full") else LABELS[:USUAL]
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(process, (folder, labels), nprocs=2)
        yield [torch.load(Path(folder) / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("label", first_of(LABELS, USUAL))
def test_two_processes_are_one(together, label):
    alone, found = trained(label), [one[label] | one[label]["network"] for one in together]
    for name, tensor in (alone["network"] | {"losses": alone["losses"]}).items():
        assert torch.equal(found[0][name], found[1][name])
        tolerance = rounding(tensor.abs().max(), 100, PRECISION.get(label, torch.float32))
        torch.testing.assert_close(found[0][name], tensor, rtol=0, atol=tolerance)


def test_each_holds_its_share_of_the_weights_and_of_what_the_optimizer_remembers(together):
    alone, found = trained(LABELS[0])["held"], [one[LABELS[0]]["held"] for one in together]
    assert found[0]["weights"] + found[1]["weights"] == alone["weights"] + 1  # both hold the one without axes
    assert found[0]["optimizer"] + found[1]["optimizer"] == alone["optimizer"]
    assert max(found[0].values()) < 0.51 * max(alone.values())

"""Two processes that share every batch are one process with the whole batch, whatever the method."""

import tempfile
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from full_matrix import first_of
from joined_batches import CLASSES, LANGUAGE, NORMS, TOKENS, process, trained
from method_runs import METHODS
from rounding import rounding

USUAL = ["self_tuning", "implicit", "inexact_line_search", LANGUAGE]
LABELS = [*USUAL, *(label for label in METHODS if label not in USUAL)]


@pytest.fixture(scope="module")
def together(request):
    labels = [*(LABELS if request.config.getoption("--full") else USUAL), NORMS]
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(process, (folder, labels), nprocs=2)
        yield [torch.load(Path(folder) / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("label", first_of(LABELS, len(USUAL)))
def test_two_processes_are_one(together, label):
    alone, found = trained(label), [one[label] for one in together]
    for name, tensor in alone.items():
        assert torch.equal(found[0][name], found[1][name])
        tolerance = rounding(tensor.abs().max(), 100, torch.float32)  # hyperparameters are in float32
        torch.testing.assert_close(found[0][name], tensor, rtol=0, atol=tolerance)


def test_of_words_losses_come_together_and_not_the_scores_of_all_classes(together):
    found = together[0][LANGUAGE]["largest"]
    assert 0 < found <= 31 * TOKENS  # the whole validation batch
    assert found < 17 * TOKENS * CLASSES


def test_norms_take_statistics_of_their_part_and_end_with_those_of_the_first(together):
    one, other = (found[NORMS] for found in together)
    assert torch.equal(one["weights"], other["weights"])  # running statistics are among them
    assert torch.equal(one["losses"], other["losses"])
    assert not torch.allclose(one["weights"], trained(NORMS)["weights"])

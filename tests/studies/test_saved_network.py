import pytest
import torch
from small_files import files_up_to
from torch import nn

from selftune.studies.saved_network import TUNED, read_network, save_network


def test_a_network_is_kept_as_tensors_and_as_a_module(tmp_path):
    network = nn.Linear(3, 2)
    save_network(tmp_path, TUNED, network)
    assert torch.equal(read_network(tmp_path, TUNED)["weight"], network.weight)
    assert torch.equal(torch.load(tmp_path / "network.pt", weights_only=False).weight, network.weight)


@pytest.mark.parametrize("size", [4096, 44_000])  # too small for the tensors, or for the module alone
def test_a_full_disk_is_named_and_what_was_there_stays(size, tmp_path):
    save_network(tmp_path, TUNED, nn.Linear(3, 2))
    with files_up_to(size), pytest.raises(OSError, match=r"File too large: '.*network\.(safetensors|pt)'"):
        save_network(tmp_path, TUNED, nn.Linear(100, 108))
    assert torch.load(tmp_path / "network.pt", weights_only=False).in_features == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["network.pt", "network.safetensors"]

"""The trained networks of a study's folder: a file that selftune reads, and a module for use elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from selftune.storage.files import DamagedFile, replacing
from selftune.storage.state_file import load_state, save_state
from selftune.studies.call import CALL
from selftune.studies.mistakes import UserError

TUNED = "network"
KIND = "network"


def save_network(folder: Path, name: str, network: nn.Module) -> None:
    """Writes ``<name>.safetensors``, which selftune reads, and the module itself, a pickle, as ``<name>.pt``."""
    save_state(folder / f"{name}.safetensors", network.state_dict(), KIND)
    with replacing(folder / f"{name}.pt") as temporary:
        torch.save(network, temporary)


def read_network(folder: Path, name: str) -> dict[str, Any]:
    """The state of a network that ``save_network`` wrote; no code of the folder's runs.

    Raises:
        UserError: if there is none.
        DamagedFile: if it is not what was written.
    """
    path = folder / f"{name}.safetensors"
    try:
        state: dict[str, Any] = load_state(path, KIND)
    except FileNotFoundError as error:
        raise UserError(f"{path}: is missing; put back a copy of it, or run the study anew") from error
    return state


def load_network(folder: Path) -> nn.Module:
    """The tuned network of a study's folder, built as the study file says, in evaluation mode.

    Raises:
        DamagedFile: if the network is missing, not what was written, or not that of the study file, or if this is
            not valid here.
    """
    from selftune.studies.study_file import load_study

    if (folder / CALL).is_file():
        raise DamagedFile("the network was not sent: only the call of selftune.tune that made it can build it")
    try:
        state, strategy = read_network(folder, TUNED), load_study(folder / "study.yaml").strategy
        network = strategy.as_network(folder).untrained()
    except UserError as error:
        raise DamagedFile(f"the network was not sent: {error.lines[0]}") from error
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise DamagedFile(f"{folder / TUNED}.safetensors: is the network of another study file") from error
    return network.eval()

"""network.pt: the trained plain network as a whole module, and what it takes to load it elsewhere."""

from __future__ import annotations

import pickle
from importlib.metadata import packages_distributions, version
from pathlib import Path

import torch
from torch import nn


def load_network(folder: Path) -> nn.Module:
    """The network that ``torch.save(module, folder / "network.pt")`` wrote.

    The file is a pickle, which can run any code when it is read: only load folders that you or yours wrote.

    Raises:
        ValueError: if the file holds no module, or one whose class is not installed here.
    """
    path = Path(folder) / "network.pt"
    try:
        network = torch.load(path, map_location="cpu", weights_only=False)
    except (AttributeError, ImportError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} cannot be loaded ({error})") from error
    if not isinstance(network, nn.Module):
        raise ValueError(f"{path} holds a {type(network).__name__} instead of a network: save the module itself")
    return network


def requirements_of(network: nn.Module) -> list[str]:
    """The installed distributions that define the network's layers, pinned.

    >>> [line.split("==")[0] for line in requirements_of(nn.Linear(2, 1))]
    ['torch']
    """
    packages = {type(module).__module__.split(".")[0] for module in network.modules()} | {"torch"}
    providers = packages_distributions()
    names = {name for package in packages for name in providers.get(package, [])}
    return [f"{name}=={version(name).split('+')[0]}" for name in sorted(names)]

"""What it takes to load a trained network elsewhere."""

from __future__ import annotations

from importlib.metadata import packages_distributions, version

from torch import nn


def requirements_of(network: nn.Module) -> list[str]:
    """The installed distributions that define the network's layers, pinned.

    >>> [line.split("==")[0] for line in requirements_of(nn.Linear(2, 1))]
    ['torch']
    """
    packages = {type(module).__module__.split(".")[0] for module in network.modules()} | {"torch"}
    providers = packages_distributions()
    names = {name for package in packages for name in providers.get(package, [])}
    return [f"{name}=={version(name).split('+')[0]}" for name in sorted(names)]

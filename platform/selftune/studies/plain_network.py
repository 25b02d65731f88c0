"""Plain networks: of the tensors that came out of training, with what regularizers made part of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import nn

from selftune.lower_level.objective import NetworkObjective
from selftune.methods import Report
from selftune.methods.reports import TrainingFinished
from selftune.networks.inventory import undisturbed
from selftune.networks.network_state import load_state
from selftune.regularization.regularizer import Regularizer
from selftune.shapes import Tensor


def network_of(objective: NetworkObjective, regularizers: Iterable[Regularizer], report: Report) -> nn.Module:
    """The plain network that the last report of a trainer carries, with what regularizers made part of it."""
    assert isinstance(report, TrainingFinished)
    return network_from(objective, regularizers, report.network)


def network_from(
    objective: NetworkObjective, regularizers: Iterable[Regularizer], tensors: Mapping[str, Tensor]
) -> nn.Module:
    """The plain network with these tensors, by name, in evaluation mode."""
    with undisturbed():
        network = untrained(objective, regularizers)
    load_state(network, tensors)
    return network.eval()


def untrained(objective: NetworkObjective, regularizers: Iterable[Regularizer]) -> nn.Module:
    """A new network, with what regularizers make part of it."""
    network = objective.network()
    for regularizer in regularizers:
        regularizer.extend(network)
    return network

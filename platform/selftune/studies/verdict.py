"""What went wrong in a study that goes on, in words: faulty trainers, networks worse than a constant answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from selftune.data.nested import rows_of, size_of
from selftune.listener import Listener
from selftune.lower_level.losses import as_losses
from selftune.lower_level.objective import NetworkObjective
from selftune.methods import HyperStep
from selftune.tracking.summary import read_summary, write_summary

HELD = "start values held"
"""What the networks of the comparison are called."""


class TrainerFaults(Listener):
    """Notes every trainer that is lost or outvoted in the summary at once, so that a resumed study still knows.

    One that is outvoted again and again is noted the first time, and when something follows from it.

    Args:
        folder: of the study.
        label: what the networks are called.
    """

    def __init__(self, folder: Path, label: str) -> None:
        self.folder = folder
        self.label = label

    def lost(self, member: int, reason: str) -> None:
        self._note(f"{self.label}: trainer {member} stopped: {reason}")

    def hyper_step(self, step: HyperStep) -> None:
        for member, fault in step.faults.items():
            if fault.first or fault.remark:
                self._note(f"{self.label}: {fault.sentence(member, step.number)}")

    def _note(self, sentence: str) -> None:
        summary = read_summary(self.folder)
        noted = summary.get("warnings", [])
        if sentence not in noted:
            write_summary(self.folder, {**summary, "warnings": [*noted, sentence]})


def noted_warnings(folder: Path) -> list[str]:
    """What the summary of a study warns of so far."""
    return read_summary(folder).get("warnings", [])


def constant_measures(objective: NetworkObjective) -> dict[str, float]:
    """Measures of the best constant answer on the splits that judge, named as a network's are; empty without one.

    >>> from torch import nn
    >>> from selftune import Classification, Optimization
    >>> data = torch.zeros(4, 2), torch.tensor([0, 1, 1, 1])
    >>> objective = Classification(lambda: nn.Linear(2, 2), data, data, data, Optimization(batch_size=2))
    >>> constant_measures(objective)["test_accuracy"]
    0.75
    """
    answer = objective.constant_answer()
    if answer is None:
        return {}
    found: dict[str, float] = {}
    for split in ("validation", "test"):
        totals: dict[str, list[float]] = {}
        data = objective.splits()[split]
        for rows in torch.split(torch.arange(size_of(data)), objective.evaluation_batch_size):
            batch = rows_of(data, rows)
            outputs = objective.outputs(lambda inputs: answer.expand(len(inputs), *answer.shape), batch)
            measures = {"loss": objective.judge(outputs, batch), **objective.measure(outputs, batch)}
            for name, values in measures.items():
                total, count = (float(part) for part in as_losses(values).totals())
                before = totals.get(name, [0.0, 0.0])
                totals[name] = [before[0] + total, before[1] + count]
        found |= {f"{split}_{name}": total / count for name, (total, count) in totals.items()}
    return found


def warnings_of(objective: NetworkObjective, results: Mapping[str, Mapping[str, float]]) -> list[str]:
    """One sentence for every network that is worse than the best constant answer.

    Args:
        results: measures by what the network is called.
    """
    constant = constant_measures(objective)
    return [sentence for label, measures in results.items() for sentence in _worse(label, measures, constant)]


def _worse(label: str, measures: Mapping[str, float], constant: Mapping[str, float]) -> Iterator[str]:
    accuracies = [name for name in constant if name.endswith("accuracy")]
    for name in accuracies:
        if measures.get(name, 1.0) < constant[name]:
            yield (
                f"{label}: {_words(name)} {measures[name]:.4f} is worse than always naming the most frequent class"
                f" of the training split, {constant[name]:.4f}; a regularizer may be too strong"
            )
            return
    if measures.get("validation_loss", -torch.inf) > constant.get("validation_loss", torch.inf):
        yield (
            f"{label}: validation loss {measures['validation_loss']:.4g} is worse than one constant answer's,"
            f" {constant['validation_loss']:.4g}; a regularizer may be too strong"
        )


def _words(name: str) -> str:
    return name.replace("_", " ")

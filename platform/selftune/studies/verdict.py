"""Whether networks that come out are better than a constant answer, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from selftune.objective import NetworkObjective


def constant_measures(objective: NetworkObjective) -> dict[str, float]:
    """Measures of the best constant answer on the splits that judge, named as a network's are; empty without one.

    >>> from torch import nn
    >>> from selftune.objective import Classification, Optimization
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
        batch = objective.splits()[split]
        outputs = objective.outputs(lambda inputs: answer.expand(len(inputs), *answer.shape), batch)
        measures = {"loss": objective.validation_loss(outputs, batch["labels"])}
        measures |= objective.metrics(outputs, batch["labels"])
        found |= {f"{split}_{name}": float(values.mean()) for name, values in measures.items()}
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

"""The table in docs/regularizers-that-fit.md; run as a script, this prints it."""

from pathlib import Path

import torch
from torch import nn

from selftune import (
    BinaryClassification,
    Classification,
    LanguageModelling,
    MultiLabelClassification,
    Optimization,
    Regression,
    SettingError,
)
from selftune.regularization.composition import Regularizers
from selftune.regularization.regularizer import regularizers

PAGE = Path(__file__).parent.parent / "docs" / "regularizers-that-fit.md"


def perceptron(outputs):
    return lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, outputs))


def language_model():
    return nn.Sequential(nn.Embedding(7, 6), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 7))


def objectives():
    batches = Optimization(batch_size=8)
    inputs, tokens = torch.randn(24, 6), torch.randint(7, (24, 9))
    labels = {
        Classification: (perceptron(3), torch.arange(24) % 3),
        BinaryClassification: (perceptron(1), torch.arange(24) % 2),
        MultiLabelClassification: (perceptron(3), torch.eye(3).repeat(8, 1)),
        Regression: (perceptron(1), torch.randn(24)),
    }
    made = [cls(build, *[(inputs, labels)] * 3, batches) for cls, (build, labels) in labels.items()]
    return [*made, LanguageModelling(language_model, *[tokens] * 3, batches)]


def fits(name, objective):
    try:
        Regularizers([regularizers[name]()], objective, {"progress"})
    except SettingError:
        return False
    return True


def table():
    tried = objectives()
    lines = [
        "| regularizer | " + " | ".join(type(objective).__name__ for objective in tried) + " |",
        "| --- |" + " --- |" * len(tried),
    ]
    for name in sorted(regularizers.names()):
        found = [fits(name, objective) for objective in tried]
        if any(found):
            lines.append(f"| `{name}` | " + " | ".join("yes" if yes else "" for yes in found) + " |")
    return "\n".join(lines)


def test_the_page_says_which_regularizers_fit():
    assert table() in PAGE.read_text(encoding="utf-8"), "run this file as a script and put what it prints there"


if __name__ == "__main__":
    print(table())

"""An LSTM on text: the seven hyperparameters of the STN paper's language model, tuned online from 0.05 each.

    python benchmarks/text.py path/to/shakespeare.txt [--steps 820] [--seeds 3] [--unit words]

The network is that of AWD-LSTM, as the task ``language_model`` has it; what it is regularized by are input, hidden
and output dropout (locked over a sequence), embedding dropout, weight drop, AR and TAR. For every seed the same
network is trained for as many steps with the start values held. It is trained on the first 2,000 words, so that it
overfits within so few steps, and judged by pieces that follow. Without a path the text is generated, which shows
that all of it runs, and no more.

The windows start from a state of zeros: no state is carried from one batch to the next.
"""

from __future__ import annotations

import argparse
import re
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from networks import AWDLSTM
from torch import Tensor

from selftune import LanguageModelling, Optimization, Tune
from selftune.listener import Listener
from selftune.methods import Budget, HyperStep, Replay, Response, Segment
from selftune.regularization.regularizer import Regularizer, regularizers
from selftune.training import TrainerFactory, run_in_process
from selftune.training.method_record import methods

START = 0.05


@dataclass(frozen=True)
class Size:
    """How much text, and how large a network.

    Args:
        train, validation, test: tokens.
        batch, validation_batch: windows of ``context`` tokens.
        vocabulary: words; all others are one. Of characters there are as many as the text has.
    """

    train: int = 2_000
    validation: int = 2_000
    test: int = 4_000
    vocabulary: int = 300
    context: int = 20
    batch: int = 20
    validation_batch: int = 40
    embedding: int = 32
    hidden: int = 64
    layers: int = 2
    learning_rate: float = 0.02


SETTINGS: dict[str, Any] = {
    "learning_rate": 0.02,
    "warmup_steps": 200,
    "train_steps": 2,
    "tune_scale": False,
    "scale": 0.5,
    "response": Response(learning_rate=2e-3),
}


def generated(length: int = 40_000) -> str:
    """Words of a small grammar, for where there is no text."""
    generator = torch.Generator().manual_seed(0)
    words = ["the", "cat", "dog", "king", "queen", "sees", "loves", "fears", "and", "a", "old", "young", "."]
    follows = torch.randint(len(words), (len(words), 3), generator=generator)
    at, text = 0, []
    for pick in torch.randint(3, (length,), generator=generator).tolist():
        text.append(words[at])
        at = int(follows[at, pick])
    return " ".join(text)


def tokens_of(text: str, unit: str, size: Size) -> tuple[Tensor, int]:
    """Token numbers of the text's beginning, and how many different ones there are; 0 is every rare word."""
    parts = re.findall(r"\w+|[^\w\s]|\n", text.lower()) if unit == "words" else list(text)
    needed = size.train + size.validation + size.test
    if len(parts) < needed:
        raise SystemExit(f"the text has {len(parts)} {unit}, of which {needed} are needed")
    parts = parts[:needed]
    common = Counter(parts[: size.train]).most_common(size.vocabulary - 1)
    numbers = {part: number for number, (part, _) in enumerate(common, start=1)}
    return torch.tensor([numbers.get(part, 0) for part in parts]), len(numbers) + 1


def objective_of(text: str, unit: str, size: Size) -> LanguageModelling:
    """The next token, on pieces of the text that follow each other."""
    tokens, vocabulary = tokens_of(text, unit, size)
    pieces = tokens.split([size.train, size.validation, size.test])
    return LanguageModelling(
        lambda: AWDLSTM(vocabulary, size.embedding, size.hidden, size.layers),
        *pieces,
        Optimization(batch_size=size.batch, optimizer="adam", learning_rate=size.learning_rate, clip_norm=1.0),
        validation_batch_size=size.validation_batch,
        context=size.context,
    )


def seven(layers: int) -> list[Regularizer]:
    """The regularizers of the language model, whose seven hyperparameters start at 0.05."""
    hidden = {"hidden": [f"layers.{number}" for number in range(1, layers)]} if layers > 1 else {}
    parts = {"input": ["layers.0"], **hidden, "output": ["decoder"]}
    return [
        regularizers["variational_dropout"](parts=parts, rate=Tune(START)),
        regularizers["embedding_dropout"](rate=Tune(START)),
        regularizers["weight_drop"](rate=Tune(START)),
        regularizers["activation_regularization"](strength=Tune(START)),
        regularizers["temporal_activation_regularization"](strength=Tune(START)),
    ]


class Values(Listener):
    """The hyperparameters that training ended with."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self.last: dict[str, float] = {}

    def hyper_step(self, step: HyperStep) -> None:
        self.last = dict(zip(self.names, step.hyperparameters.tolist(), strict=True))


def run(
    objective: LanguageModelling, layers: int, steps: int, seed: int, tuned: bool, **settings: Any
) -> tuple[dict[str, float], dict[str, float]]:
    """Measures of the network at the end, and the hyperparameters then."""
    trainer = TrainerFactory(objective, seven(layers), seed=seed, steps=steps)(0)
    start = trainer.space.constrain(trainer.space.start)
    method: Any = Replay([Segment(steps, start)], steps)
    if tuned:
        form = methods["self_tuning"].network
        assert form is not None
        method = form.make(Budget(steps=steps), form.settings(**{**SETTINGS, **settings}), 1)
    began, values = time.perf_counter(), Values(trainer.space.names)
    report = run_in_process(method, {0: trainer}, values)[0]
    return {**report.metrics, "seconds": time.perf_counter() - began}, values.last


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, nargs="?")
    parser.add_argument("--unit", choices=("words", "characters"), default="words")
    parser.add_argument("--steps", type=int, default=820)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    text = generated() if arguments.text is None else arguments.text.read_text()
    size = Size()
    objective = objective_of(text, arguments.unit, size)
    print("| seed | test loss, values held | test loss, tuned | difference | seconds | values at the end |")
    print("| --- | --- | --- | --- | --- | --- |")
    differences = []
    for seed in range(arguments.seeds):
        held, _ = run(objective, size.layers, arguments.steps, seed, tuned=False)
        tuned, end = run(objective, size.layers, arguments.steps, seed, tuned=True)
        differences.append(tuned["test_loss"] - held["test_loss"])
        shown = ", ".join(f"{name} {value:.2f}" for name, value in end.items())
        print(
            f"| {seed} | {held['test_loss']:.4f} | {tuned['test_loss']:.4f} | {differences[-1]:+.4f}"
            f" | {held['seconds']:.0f}, {tuned['seconds']:.0f} | {shown} |",
            flush=True,
        )
    print(f"\nmean difference {statistics.fmean(differences):+.4f}, largest {max(differences):+.4f}")


if __name__ == "__main__":
    main()

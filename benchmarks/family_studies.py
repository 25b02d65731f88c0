"""What tuning changes in the packaged study of every family: tuned against the start values held, seed by seed.

Both train for equally many steps from the same weights and batches. Beside loss and accuracy on the test split,
every study is judged by what it is about: labels memorized, old digits remembered, RankMe, ranks of the weights.

    python benchmarks/family_studies.py --seeds 6
    python benchmarks/family_studies.py low_rank_digits
"""

from __future__ import annotations

import argparse
import statistics

import torch
from selftune.objectives.functional import rank_me

from selftune.methods import Method, Replay, Segment
from selftune.studies.packaged import find_study
from selftune.studies.study import Study
from selftune.studies.study_file import load_study
from selftune.training import Trainer, run_in_process


@torch.no_grad()
def memorized(study: Study, trainer: Trainer) -> dict[str, float]:
    return {"wrong labels memorized": float(study.objective.memorized_fraction(trainer.plain_network()))}


@torch.no_grad()
def remembered(study: Study, trainer: Trainer) -> dict[str, float]:
    """Test accuracy on the classes of every stage."""
    test = trainer.lower.splits["test"]
    right = trainer.plain_network()(test["inputs"]).argmax(dim=1) == test["labels"]
    return {
        f"test accuracy on {group[0]} to {group[-1]}": float(
            right[torch.isin(test["labels"], torch.tensor(group))].float().mean()
        )
        for group in study.objective.groups
    }


@torch.no_grad()
def embedding_rank(study: Study, trainer: Trainer) -> dict[str, float]:
    embeddings = trainer.plain_network()(trainer.lower.splits["test"]["inputs"])
    return {"RankMe of test images": float(rank_me(embeddings))}


@torch.no_grad()
def weight_ranks(study: Study, trainer: Trainer) -> dict[str, float]:
    """Singular values above a hundredth of the largest."""
    network = trainer.plain_network()
    found = {}
    for layer in study.objective.layers():
        values = torch.linalg.svdvals(network.get_parameter(f"{layer}.weight"))
        found[f"rank of {layer}"] = float((values > 0.01 * values[0]).sum())
    return found


STUDIES = {
    "noisy_digits": memorized,
    "grokking": None,
    "rotated_digits": None,
    "rotated_digits_fish": None,
    "self_supervised_digits": embedding_rank,
    "split_digits": remembered,
    "low_rank_digits": weight_ranks,
}
SMALLER_IS_BETTER = ("loss", "memorized", "rank of")


def trained(study: Study, method: Method, seed: int) -> dict[str, float]:
    """Measures on the test split at the end."""
    trainer = study.strategy.trainers(seed)(0)
    report = run_in_process(method, {0: trainer})[0]
    measures = {k.replace("_", " "): v for k, v in report.metrics.items() if k.startswith("test_")}
    special = STUDIES[study.study]
    return measures | (special(study, trainer) if special else {})


def rows(name: str, seeds: int) -> list[str]:
    """Rows of the table: means over the seeds, and in how many of them tuning was better."""
    study = load_study(find_study(name))
    steps = study.budget.steps
    start = Segment(steps, study.space.constrain(study.space.start))
    held = [trained(study, Replay([start], steps), seed) for seed in range(seeds)]
    tuned = [trained(study, study.strategy.method(), seed) for seed in range(seeds)]
    found = []
    for measure in held[0]:
        before, after = ([run[measure] for run in runs] for runs in (held, tuned))
        sign = -1 if any(word in measure for word in SMALLER_IS_BETTER) else 1
        better = sum(sign * b > sign * a for a, b in zip(before, after, strict=True))
        means = " | ".join(f"{statistics.fmean(values):.3f}" for values in (before, after))
        found.append(f"| {name} | {measure} | {means} | {better} of {seeds} |")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", metavar="STUDY", help=f"of {', '.join(STUDIES)}; by default all")
    parser.add_argument("--seeds", type=int, default=6)
    arguments = parser.parse_args()
    unknown = set(arguments.studies) - set(STUDIES)
    if unknown:
        parser.error(f"unknown studies {', '.join(sorted(unknown))}")
    print(f"| study, mean of {arguments.seeds} seeds | measure | start values held | tuned | tuned is better |")
    print("| --- | --- | --- | --- | --- |")
    for name in arguments.studies or STUDIES:
        print("\n".join(rows(name, arguments.seeds)), flush=True)


if __name__ == "__main__":
    main()

"""Well-tuned Simple Nets Excel on Tabular Datasets" (arXiv 2106.11189): an MLP with a cocktail of thirteen
regularizers, whose strengths a search finds for every table, beats gradient boosting. Here one run finds the
strengths while it trains, against searches that have as many training steps in all:

- ``plain``: the network without regularizers, as many steps as all runs of a search together
- ``held``: the cocktail at its start values, the same number of steps
- ``tuned``: the cocktail from the same start values, tuned online by self_tuning, the same number of steps
- ``tuned_starts``: tuned online too, but as many short runs as a search has, from its random samples
- ``random``, ``tpe``: searches over the same strengths, drawn from their priors, of ``--trials`` runs of
  ``--steps`` steps; the first run of each has the start values
- ``tpe_again``: the values that ``tpe`` found held for as many steps as all its runs had, at twice the price
- ``boosting``: scikit-learn's HistGradientBoostingClassifier; ``boosting_tuned``: stopped early, learning rate and
  leaves chosen on the validation split

The networks of a cell start from the same weights and see the same batches; architecture and settings are the same
for all tables. Whatever a method trains is measured on the validation split every 25 steps. What was best there is
what the method would hand out; only that is measured on the test split.

    python benchmarks/simple_networks.py --records simple_networks --seeds 3
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from cells import Cell, CellRecords, add_arguments, chosen
from paired_tables import paired
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import log_loss
from small_tables import TABLES, objective

from selftune.methods import Report
from selftune.methods.reports import Diverged
from selftune.methods.work_orders import EvaluateNetwork, FollowSchedule
from selftune.studies.study import Study
from selftune.studies.study_file import parse_study
from selftune.training import Trainer
from selftune.training.team_run import TeamRun

COCKTAIL: dict[str, dict[str, Any]] = {
    "dropout": {
        "parts": {"input": ["perceptron.hidden1"], "hidden": ["perceptron.hidden2", "perceptron.output"]},
        "rate": {"start": "auto"},
    },
    "gaussian_input_noise": {"sigma": {"start": "auto"}},
    "weight_decay": {"strength": {"start": "auto"}},
    "mixup": {"alpha": {"start": "auto"}},
    "label_smoothing": {"epsilon": {"start": "auto"}},
    "dropconnect": {"rate": {"start": "auto"}},
    "activation_regularization": {"strength": {"start": 0.01}},
    "l1": {"strength": {"start": 1e-5}},
    "nuclear_norm": {"strength": {"start": 3e-4}},
    "confidence_penalty": {"strength": {"start": 0.03}},
    "logit_decorrelation": {"strength": {"start": 3e-4}},
    "early_learning": {"strength": {"start": 0.1}},
    "multiplicative_gradient_noise": {"sigma": {"start": 0.3}},
    "input_scaling": {"magnitude": {"start": 0.1}},
}
NOTHING = {"weight_decay": {"strength": {"start": 1e-9}}}  # a study has a regularizer; this one does nothing
METHOD = {"name": "self_tuning", "learning_rate": 0.02, "response": {"learning_rate": 0.005}}
EVERY = 25  # training steps between two looks at the validation split
WORST = 1e6  # what a search is told of a run that diverged
STARTUP = 4  # random samples before TPE begins; its default of 10 is for longer searches

Found = dict[str, Any]
"""What a method hands out: measures of its network on both splits, and how it came to it."""
NONE: Found = {"validation_loss": float("inf"), "test_loss": float("inf"), "test_accuracy": 0.0}


def study_of(table: str, folder: Path, seed: int, steps: int, regularizers: dict[str, Any] = COCKTAIL) -> Study:
    """An MLP on a table, with the cocktail or other regularizers."""
    content = {
        "study": table,
        "objective": {**objective(table, folder, seed), "hidden": [64, 64], "learning_rate": 0.002},
        "regularizers": regularizers,
        "method": {**METHOD, "warmup_steps": min(200, steps // 8)},
        "budget": {"steps": steps},
    }
    return parse_study(yaml.safe_dump(content, sort_keys=False))


def starting_at(values: dict[str, float]) -> dict[str, Any]:
    """The cocktail with other start values, by the names that the space gives them."""
    found: dict[str, Any] = copy.deepcopy(COCKTAIL)
    for name, value in values.items():
        where, _, part = name.rstrip("]").partition("[")
        regularizer, key = where.split(".")
        tune = found[regularizer][key]
        parts = tune["start"] if isinstance(tune["start"], dict) else {}
        tune["start"] = {**parts, part: value} if part else value
    return found


# What trains ------------------------------------------------------------------------------------------


def held(trainer: Trainer, values: torch.Tensor, steps: int) -> Iterator[Report]:
    """Plain training with constrained ``values``, a report whenever the network is to be looked at."""
    for number in range(steps // EVERY):
        yield trainer.execute(FollowSchedule(number=2 * number, segments=((EVERY, values),)))


def tuned(run: TeamRun) -> Iterator[Report]:
    """Training under the study's method, a report whenever the network is to be looked at."""
    run.join()
    seen = 0
    while not run.done:
        run.round()
        if run.training_step >= seen + EVERY:
            seen = run.training_step
            yield run.last[0]


def best_of(study: Study, trainer: Trainer, reports: Iterator[Report]) -> Found:
    """The network that was best on the validation split while training went on; ``NONE`` if there was none."""
    best, network = NONE, None
    for number, report in enumerate(reports):
        if isinstance(report, Diverged):
            break
        look = trainer.execute(EvaluateNetwork(number=2 * number + 1, network=True))
        if look.measures["validation_loss"] < best["validation_loss"]:
            best, network = {**look.measures, "training_step": report.training_step}, look.network
    if network is None:
        return best
    plain = study.objective.network()
    plain.load_state_dict(network)
    return {**best, **trainer.lower.evaluate(plain.eval(), "test")}


def held_network(study: Study, seed: int, steps: int, values: Mapping[str, float] | None = None) -> Found:
    """Plain training with the start values, or with other ones by name."""
    space = study.space
    vector = torch.tensor([values[name] for name in space.names]) if values else space.constrain(space.start)
    trainer = study.strategy.trainers(seed)(0)
    return best_of(study, trainer, held(trainer, vector, steps))


def tuned_network(study: Study, seed: int) -> Found:
    trainer = study.strategy.trainers(seed)(0)
    run = TeamRun(study.strategy.method(), {0: trainer})
    found = best_of(study, trainer, tuned(run))
    values = (study.space.constrain(study.space.start), run.method.hyperparameters)
    start, end = (dict(zip(study.space.names, map(float, vector), strict=True)) for vector in values)
    return {**found, "start": start, "end": end}


def searched(
    study: Study, seed: int, trials: int, sampler: str, train: Callable[[dict[str, float]], Found]
) -> Found:
    """The best of the runs that a sampler of Optuna asks for; the first has the start values."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = study.space
    priors = {name: h.domain.prior().to_optuna() for h in space.tuned for name in h.names}
    if sampler == "random":
        search = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
    else:
        search = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP))
    start = dict(zip(space.names, space.constrain(space.start).tolist(), strict=True))
    best = NONE
    for number in range(trials):
        if number == 0:
            found = train(start)
            inside = {name: min(max(value, priors[name].low), priors[name].high) for name, value in start.items()}
            search.add_trial(
                optuna.trial.create_trial(
                    params=inside, distributions=priors, value=min(found["validation_loss"], WORST)
                )
            )
            values = start
        else:
            trial = search.ask(priors)
            values = dict(trial.params)
            found = train(values)
            search.tell(trial, min(found["validation_loss"], WORST))
        if found["validation_loss"] < best["validation_loss"]:
            best = {**found, "trial": number, "values": values}
    return best


def boosted(study: Study, seed: int, candidates: Sequence[dict[str, Any]]) -> Found:
    """scikit-learn's gradient boosting; of several candidates the best on the validation split."""
    splits = study.objective.splits()
    parts = {name: (split["inputs"].numpy(), split["labels"].numpy()) for name, split in splits.items()}
    best: Found = {"validation_loss": float("inf")}
    for settings in candidates:
        model = HistGradientBoostingClassifier(random_state=seed, **settings)
        validation = parts["validation"] if settings.get("early_stopping") else (None, None)
        model.fit(*parts["train"], X_val=validation[0], y_val=validation[1])
        losses = {
            name: float(log_loss(parts[name][1], model.predict_proba(parts[name][0]), labels=model.classes_))
            for name in ("validation", "test")
        }
        if losses["validation"] < best["validation_loss"]:
            best = {
                "validation_loss": losses["validation"],
                "test_loss": losses["test"],
                "test_accuracy": float(model.score(*parts["test"])),
                "settings": settings,
            }
    return best


EARLY = [
    {
        "early_stopping": True,
        "max_iter": 1000,
        "n_iter_no_change": 20,
        "learning_rate": rate,
        "max_leaf_nodes": leaves,
    }
    for rate in (0.03, 0.1, 0.3)
    for leaves in (4, 8, 31)
]


# Cells ------------------------------------------------------------------------------------------------

METHODS = ("boosting", "boosting_tuned", "plain", "held", "random", "tpe", "tpe_again", "tuned", "tuned_starts")


def measured(cell: Cell, records: CellRecords, trials: int, steps: int) -> Found:
    """What a method hands out on a table."""
    folder = records.folder / "tables"
    table, method, seed = str(cell["table"]), str(cell["method"]), int(cell["seed"])
    long, short = (study_of(table, folder, seed, number) for number in (trials * steps, steps))
    if method == "boosting":
        return boosted(long, seed, [{}])
    if method == "boosting_tuned":
        return boosted(long, seed, EARLY)
    if method == "plain":
        return held_network(study_of(table, folder, seed, trials * steps, NOTHING), seed, trials * steps)
    if method == "held":
        return held_network(long, seed, trials * steps)
    if method == "tpe_again":
        (search,) = records.read([{**cell, "method": "tpe"}])
        return held_network(long, seed, trials * steps, search["result"]["values"])
    if method == "tuned":
        return tuned_network(long, seed)
    if method == "tuned_starts":

        def tuned_from(values: dict[str, float]) -> Found:
            return tuned_network(study_of(table, folder, seed, steps, starting_at(values)), seed)

        return searched(short, seed, trials, "random", tuned_from)
    return searched(short, seed, trials, method, lambda values: held_network(short, seed, steps, values))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=8, help="runs of a search")
    parser.add_argument("--steps", type=int, default=250, help="training steps of each")
    add_arguments(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cells: list[Cell] = [
        {"table": table, "method": method, "seed": seed}
        for seed in range(arguments.seeds)
        for table in TABLES
        for method in METHODS
    ]
    shared = {"trials": arguments.trials, "steps": arguments.steps, "cocktail": COCKTAIL, "method": METHOD}
    records, failed = CellRecords(arguments.records, shared), []
    if not arguments.print_only:
        failed = records.run(
            chosen(cells, arguments.only), lambda cell: measured(cell, records, arguments.trials, arguments.steps)
        )
    print(records.state(cells) + "\n")
    print(paired(records.read(cells), METHODS, "tuned"))
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()

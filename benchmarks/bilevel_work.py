"""Upper-level loss against lower-level work, and against seconds, of bilevel methods on smooth problems.

    python benchmarks/bilevel_work.py [--quick] [--problem NAME ...] [--method NAME ...] [--shift X ...]
        [--seeds N] [--gap SHARE] [--longest SECONDS] [--output FOLDER]

A shift moves every start value by so much in the unconstrained space: -3 starts strengths 20 times weaker. Seeds
0 ... N-1 decide the data of a problem: its matrices, splits, crops or noise.

Work counts gradients, Hessian and mixed products of the lower level. The loss is the true upper level at the
current hyperparameters (of black-box searches: at their best sample so far), re-solved outside the counted work.

Target of a problem: the smallest loss that any method reaches within the budget, plus 1 % of the way down to it
from the start; a constant added to a loss changes nothing. ``up`` counts the iterates that certainly raised the
true loss. The ratio to HOAG takes the smallest loss of any HOAG sequence instead: HOAG always reaches that target.
Everything runs in one process, on one thread.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from selftune.objectives.tasks.field_of_experts_denoising import FieldOfExpertsDenoising
from selftune.objectives.tasks.logistic_regression import LogisticRegression
from selftune.objectives.tasks.quadratic_bilevel import QuadraticBilevel
from selftune.objectives.tasks.ridge import Ridge
from selftune.objectives.tasks.total_variation_denoising import TotalVariationDenoising

from selftune.hypergradients.lower_solvers import AcceleratedGradient, LowerSolver, Newton
from selftune.hypergradients.oracle import Oracle
from selftune.hyperparameters import Positive
from selftune.lower_level.smooth_objective import SmoothObjective
from selftune.methods import Implicit, ImplicitSettings, InexactLineSearch, InexactLineSearchSettings, Method
from selftune.training import SmoothTrainer

Make = Callable[[int], Method]


@dataclass(frozen=True)
class Problem:
    """An objective by its seed, the solver that every method uses for it, and a budget of work."""

    make: Callable[[int], SmoothObjective]
    solver: str
    work: int


@dataclass(frozen=True)
class Case:
    """A problem with a seed and a shifted start."""

    problem: Problem
    seed: int = 0
    shift: float = 0.0

    def objective(self) -> SmoothObjective:
        return self.problem.make(self.seed)


def problems(quick: bool) -> dict[str, Problem]:
    few = 4 if quick else 1
    pictures = {"train_crops": 2, "validation_crops": 1, "test_crops": 1, "crop": 32}

    def logistic(groups: str) -> Callable[[int], SmoothObjective]:
        return lambda seed: LogisticRegression(groups=groups, split_seed=seed)

    def denoising(task: type, **settings: Any) -> Callable[[int], SmoothObjective]:
        return lambda seed: task(**pictures, **settings, seed=seed)

    return {
        "quadratic_bilevel": Problem(lambda seed: QuadraticBilevel(seed=seed), "newton", 6000 // few),
        "ridge": Problem(lambda seed: Ridge(split_seed=seed), "newton", 12000 // few),
        "logistic_one": Problem(logistic("one"), "newton", 6000 // few),
        "logistic_per_class": Problem(logistic("per_class"), "newton", 12000 // few),
        "logistic_per_feature": Problem(logistic("per_feature"), "newton", 20000 // few),
        "total_variation": Problem(denoising(TotalVariationDenoising), "accelerated_gradient", 8000 // few),
        "field_of_experts": Problem(
            denoising(FieldOfExpertsDenoising, experts=4), "accelerated_gradient", 12000 // few
        ),
    }


def cases(named: dict[str, Problem], shifts: list[float], seeds: int) -> dict[str, Case]:
    found = {}
    for name, problem in named.items():
        for seed, shift in itertools.product(range(seeds), shifts):
            label = name + (f" {shift:+g}" if shift else "") + (f" seed {seed}" if seeds > 1 else "")
            found[label] = Case(problem, seed, shift)
    return found


def gradient_methods() -> dict[str, Make]:
    makes: dict[str, Make] = {
        "inexact_line_search": lambda work: InexactLineSearch(work, settings=InexactLineSearchSettings())
    }
    for sequence in ("exponential", "quadratic", "cubic", "exact"):
        settings = ImplicitSettings(sequence=sequence)
        makes[f"hoag_{sequence}"] = lambda work, settings=settings: Implicit(work, settings=settings)
    for error in (1e-2, 1e-4):
        settings = ImplicitSettings(sequence="fixed", error=error, update="adam", learning_rate=0.1)
        makes[f"adam_{error:.0e}"] = lambda work, settings=settings: Implicit(work, settings=settings)
    return makes


SEARCHES = ("tpe", "random", "grid")
_SAMPLE_ERROR = 1e-3
_LARGEST_GRID = 3  # dimensions


@dataclass
class Curve:
    """True loss after so much work and so many seconds."""

    work: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    doubt: list[float] = field(default_factory=list)
    ended: str = ""

    def ups(self) -> int:
        points = list(zip(self.loss, self.doubt, strict=True))
        return sum(b - a > c + d + 1e-12 * abs(a) for (a, c), (b, d) in itertools.pairwise(points))

    def first(self, target: float) -> tuple[float, float]:
        """(work, seconds) of the first loss at most ``target``."""
        for work, seconds, loss in zip(self.work, self.seconds, self.loss, strict=True):
            if loss <= target:
                return work, seconds
        return math.inf, math.inf


class TrueLoss:
    """The upper level at tight solutions of the lower one, each from the last one."""

    def __init__(self, objective: SmoothObjective, solver: str) -> None:
        self.oracle = Oracle(objective)
        self.solver: LowerSolver = Newton() if solver == "newton" else AcceleratedGradient()
        self.x = self.oracle.start_x()

    def __call__(self, u: torch.Tensor) -> tuple[float, float]:
        """The level, and how wrong it may be."""
        try:
            solution = self.solver.solve(self.oracle, u, self.x, 1e-9)
        except (ArithmeticError, ValueError):  # hyperparameters that overflowed
            return math.inf, 0.0
        self.x = solution.x
        level, gradient = self.oracle.upper_value_and_grad(solution.x, u)
        return level, float(gradient.norm()) * solution.error


def run_method(case: Case, make: Make, longest: float) -> Curve:
    objective, solver = case.objective(), case.problem.solver
    trainer = SmoothTrainer(objective, solver=solver)
    method = make(case.problem.work)
    method.join(0, trainer.space)
    method._u += case.shift  # in place: an update rule holds it too
    points = [(0, 0.0, method._u.clone())]
    seconds, ended = 0.0, ""
    while method.stopped is None and seconds < longest:
        for member, order in method.ask().items():
            started = time.perf_counter()
            try:
                report = trainer.execute(order)
            except ArithmeticError as error:
                ended = f"diverged: {error}"
                break
            method.tell(member, report)
            seconds += time.perf_counter() - started
            if not torch.equal(method._u, points[-1][2]):
                points.append((method._work, seconds, method._u.clone()))
        if ended:
            break
    true = TrueLoss(objective, solver)
    curve = Curve(ended=ended or method.stopped or "time")
    for spent, at, u in points:
        curve.work.append(spent)
        curve.seconds.append(at)
        loss, doubt = true(u)
        curve.loss.append(loss)
        curve.doubt.append(doubt)
    return curve


def run_search(case: Case, name: str, longest: float) -> Curve:
    """A black-box search of the unconstrained box; every sample is solved from the objective's own start."""
    objective, work = case.objective(), case.problem.work
    oracle = Oracle(objective)
    solver: LowerSolver = Newton() if case.problem.solver == "newton" else AcceleratedGradient()
    start = oracle.start_u() + case.shift
    low, high = _box(oracle, start)
    true = TrueLoss(objective, case.problem.solver)
    curve = Curve([0], [0.0], [true(start)[0]], [0.0], "budget")
    best, seconds = math.inf, 0.0
    for u, tell in _samples(name, low, high, work):
        started = time.perf_counter()
        loss = oracle.upper(solver.solve(oracle, u, oracle.start_x(), _SAMPLE_ERROR).x, u)
        tell(loss)
        seconds += time.perf_counter() - started
        if loss < best:
            best = loss
            curve.work.append(oracle.counts.work)
            curve.seconds.append(seconds)
            curve.loss.append(min(curve.loss[-1], true(u)[0]))
            curve.doubt.append(0.0)
        if oracle.counts.work >= work or seconds > longest:
            break
    return curve


def _box(oracle: Oracle, start: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    low, high = [], []
    for h in oracle.space.tuned:
        sweep = h.domain.sweep
        ends = [math.log(end) for end in sweep] if isinstance(h.domain, Positive) else list(sweep or (-3.0, 3.0))
        low += [ends[0]] * h.size
        high += [ends[1]] * h.size
    return torch.tensor(low).to(start), torch.tensor(high).to(start)


def _samples(
    name: str, low: torch.Tensor, high: torch.Tensor, work: int
) -> Iterator[tuple[torch.Tensor, Callable[[float], Any]]]:
    if name == "grid":
        side = {1: 33, 2: 9, 3: 6}[len(low)]
        axes = [torch.linspace(float(a), float(b), side) for a, b in zip(low, high, strict=True)]
        points = torch.cartesian_prod(*axes).reshape(-1, len(low)).to(low)
        order = torch.randperm(len(points), generator=torch.Generator().manual_seed(0))
        for index in order:
            yield points[index], lambda loss: None
        return
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    kind = optuna.samplers.TPESampler if name == "tpe" else optuna.samplers.RandomSampler
    study = optuna.create_study(sampler=kind(seed=0))
    ends = list(zip(low.tolist(), high.tolist(), strict=True))
    while True:
        trial = study.ask()
        u = [trial.suggest_float(str(index), *end) for index, end in enumerate(ends)]
        yield torch.tensor(u).to(low), lambda loss, trial=trial: study.tell(trial, loss)


def target_of(curves: dict[str, Curve], gap: float) -> float:
    best = min(min(curve.loss) for curve in curves.values())
    start = next(iter(curves.values())).loss[0]
    return best + gap * (start - best)


def table(results: dict[str, dict[str, Curve]], gap: float) -> str:
    lines = [
        f"Target: the best loss of any method plus {gap:.1%} of the way down from the start.",
        "",
        "| problem | method | work to target | seconds | best loss | up | ended |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    ratios: dict[tuple[str, str], tuple[float, float]] = {}
    for problem, curves in results.items():
        target = target_of(curves, gap)
        for method, curve in curves.items():
            work, seconds = curve.first(target)
            lines.append(
                f"| {problem} | {method} | {_number(work, '.0f')} | {_number(seconds, '.2f')} |"
                f" {min(curve.loss):.6g} | {curve.ups()} | {curve.ended} |"
            )
        hoag = {name: curve for name, curve in curves.items() if name.startswith("hoag")}
        adam = {name: curve for name, curve in curves.items() if name.startswith("adam")}
        for other, rivals in (("HOAG", hoag), ("Adam", adam)):
            if rivals and "inexact_line_search" in curves:
                reached = target_of(rivals, gap)
                ours = curves["inexact_line_search"].first(reached)[0]
                ratios[problem, other] = (ours, min(curve.first(reached)[0] for curve in rivals.values()))
    for other in ("HOAG", "Adam"):
        lines += _ratios(other, {p: pair for (p, name), pair in ratios.items() if name == other})
    return "\n".join(lines)


def _ratios(other: str, ratios: dict[str, tuple[float, float]]) -> list[str]:
    if not ratios:
        return []
    lines = [
        "",
        f"| work to {other}'s target | inexact_line_search | best {other} | ratio |",
        "| --- | --- | --- | --- |",
    ]
    quotients = []
    for problem, (ours, theirs) in ratios.items():
        quotient = ours / theirs if theirs > 0 else math.nan
        shown = "-" if math.isnan(quotient) else "never" if math.isinf(quotient) else f"{quotient:.2f}"
        if 0 < quotient < math.inf:
            quotients.append(quotient)
        lines.append(f"| {problem} | {_number(ours, '.0f')} | {_number(theirs, '.0f')} | {shown} |")
    if quotients:
        mean = math.exp(sum(map(math.log, quotients)) / len(quotients))
        lines += ["", f"Geometric mean {mean:.2f}, largest {max(quotients):.2f}."]
    left = len(ratios) - len(quotients)
    if left:
        lines += [
            "",
            f"{left} of {len(ratios)} rows are not in the mean: a method never arrived, or began there.",
        ]
    return lines


def _number(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else "never"


def picture(problem: str, curves: dict[str, Curve], target: float, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    best = min(min(curve.loss) for curve in curves.values())
    figure, axes = plt.subplots(1, 2, figsize=(12, 4.5), sharey=True, layout="constrained")
    for name, curve in curves.items():
        gaps = [max(loss - best, 1e-12) for loss in curve.loss]
        style = {"linewidth": 2.5, "color": "black"} if name.startswith("inexact") else {"linewidth": 1.2}
        for axis, along in zip(axes, (curve.work, curve.seconds), strict=True):
            axis.step(along, gaps, where="post", label=name, **style)
    for axis, label in zip(axes, ("lower-level gradients and products", "seconds"), strict=True):
        axis.axhline(max(target - best, 1e-12), color="grey", linestyle=":")
        axis.set(xlabel=label, yscale="log")
    axes[0].set_ylabel("true loss above the best")
    axes[1].legend(fontsize=7)
    figure.suptitle(problem)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a quarter of the work, no black-box searches")
    parser.add_argument("--problem", nargs="+", choices=problems(quick=True), help="only these")
    parser.add_argument("--method", nargs="+", help="only methods whose name starts with one of these")
    parser.add_argument("--shift", type=float, nargs="+", default=[0.0], help="of the start values")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds of each problem")
    parser.add_argument("--gap", type=float, default=0.01, help="of the target, as a share of the way down")
    parser.add_argument("--longest", type=float, default=60.0, help="seconds per run")
    parser.add_argument("--output", type=Path, help="folder for table.md, curves.json and a picture per problem")
    arguments = parser.parse_args()
    results: dict[str, dict[str, Curve]] = {}
    chosen = {
        n: p for n, p in problems(arguments.quick).items() if not arguments.problem or n in arguments.problem
    }
    for name, case in cases(chosen, arguments.shift, arguments.seeds).items():
        curves: dict[str, Curve] = {}
        for method, make in gradient_methods().items():
            if _wanted(method, arguments.method):
                curves[method] = run_method(case, make, arguments.longest)
        dimension = len(Oracle(case.objective()).space)
        for search in () if arguments.quick else SEARCHES:
            if _wanted(search, arguments.method) and (search != "grid" or dimension <= _LARGEST_GRID):
                curves[search] = run_search(case, search, arguments.longest)
        results[name] = curves
    text = table(results, arguments.gap)
    print(text)
    if arguments.output:
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / "table.md").write_text(text + "\n")
        saved = {name: {m: asdict(c) for m, c in curves.items()} for name, curves in results.items()}
        (arguments.output / "curves.json").write_text(json.dumps(saved))
        for name, curves in results.items():
            picture(
                name, curves, target_of(curves, arguments.gap), arguments.output / f"{name.replace(' ', '_')}.png"
            )


def _wanted(name: str, prefixes: list[str] | None) -> bool:
    return prefixes is None or any(name.startswith(prefix) for prefix in prefixes)


if __name__ == "__main__":
    main()

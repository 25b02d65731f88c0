"""Tuning from Python: no study file, no Ray, nothing but torch and numpy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, overload

from selftune.errors import SettingError, suggestion
from selftune.fields import settings_of
from selftune.lower_level.objective import NetworkObjective
from selftune.lower_level.smooth_objective import SmoothObjective
from selftune.methods import Budget
from selftune.methods.team_method import check_team
from selftune.regularization.regularizer import Regularizer, built_regularizers
from selftune.storage.files import replacing
from selftune.studies.call import call_of, carry_out, claim
from selftune.studies.mistakes import Mistakes
from selftune.studies.result import Result
from selftune.studies.rows import MAXIMUM_ROWS
from selftune.studies.smooth_result import SmoothResult
from selftune.studies.stderr_progress import progress_on_stderr
from selftune.studies.strategies import strategy_for
from selftune.studies.study import Study, Trainers
from selftune.studies.tuning_result import TuningResult
from selftune.training.method_record import fitting, methods

LOSS = "validation_loss"


@overload
def tune(
    objective: NetworkObjective,
    regularizers: Mapping[str, Mapping[str, Any]] | Iterable[Regularizer],
    *,
    steps: int | None = None,
    seconds: float | None = None,
    patience: int | None = None,
    metric: str = LOSS,
    trainers: int = 1,
    seed: int = 0,
    device: str = "cpu",
    output: str | Path | None = None,
    progress: bool | None = None,
    method: str = "self_tuning",
    **settings: Any,
) -> Result: ...
@overload
def tune(
    objective: SmoothObjective,
    *,
    method: str,
    steps: int | None = None,
    work: int | None = None,
    trainers: int = 1,
    output: str | Path | None = None,
    progress: bool | None = None,
    **settings: Any,
) -> SmoothResult: ...
def tune(
    objective: NetworkObjective | SmoothObjective,
    regularizers: Mapping[str, Mapping[str, Any]] | Iterable[Regularizer] = (),
    *,
    steps: int | None = None,
    seconds: float | None = None,
    work: int | None = None,
    patience: int | None = None,
    metric: str = LOSS,
    trainers: int = 1,
    seed: int = 0,
    device: str = "cpu",
    output: str | Path | None = None,
    progress: bool | None = None,
    method: str = "self_tuning",
    **settings: Any,
) -> Result | SmoothResult:
    """Trains networks while a bilevel method moves their regularization, in this process; or a smooth problem.

    Args:
        objective: what is trained, for example a ``Classification``; or a ``SmoothProblem`` or another
            ``SmoothObjective``, with ``method="inexact_line_search"`` or ``"implicit"``, which takes no
            regularizers, seed or device.
        regularizers: settings by the regularizer's name as in a study file, or regularizers themselves;
            what is a ``Tune`` is tuned.
        steps, seconds: the budget, one of them: training steps of every trainer, or seconds.
        work: the budget of smooth problems, in lower-level gradients and products of the team, unless ``steps``
            counts accepted steps; 20,000 if neither is given.
        patience: hyper-steps without a better metric after which training stops early; None for never.
        metric: what says which network is the best: ``validation_loss``, or another measure of the validation
            split, such as ``validation_accuracy``, of which larger values are better.
        trainers: networks trained side by side, whose hypergradients are averaged.
        seed: everything random follows from it.
        device: a torch device.
        output: folder for the trajectory, ``schedule.json``, the network's weights, and for checkpoints, from
            which the same call goes on when it is repeated; a folder of another call is refused.
            ``selftune compare`` ranks such folders, ``selftune.replay`` trains with their schedules.
        progress: whether stderr gets what of the network is reached and responds, and how far training is: a live
            display on a terminal, else a line now and then. None shows it where somebody looks: on a terminal and
            in a notebook.
        method: ``self_tuning`` tunes whatever is online; ``implicit``, ``penalty`` and ``inexact_line_search``
            what is smooth beside; ``held`` holds the start values.
        settings: of the method, see ``SelfTuningSettings``, ``OnlineImplicitSettings``, ``PenaltySettings``,
            ``NetworkLineSearchSettings`` and ``HeldSettings``; of smooth problems ``InexactLineSearchSettings``
            and ``ImplicitSettings``, and ``solver``.

    Raises:
        SettingError: if a setting is wrong; its key names it.
        NoTrainerLeft: if training diverges.
        LowerLevelError: if a smooth lower level is not what its constants say.

    >>> import torch
    >>> from selftune import Classification, Optimization, Tune, tune
    >>> torch.manual_seed(0).initial_seed()
    0
    >>> x, y = torch.randn(96, 8), torch.randint(3, (96,))
    >>> split = [(x[i : i + 32], y[i : i + 32]) for i in (0, 32, 64)]
    >>> network = lambda: torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    >>> objective = Classification(network, *split, Optimization(batch_size=16))
    >>> result = tune(objective, {"weight_decay": {"strength": Tune(1e-3)}}, steps=30, warmup_steps=10)
    >>> list(result.hyperparameters), len(result.trajectory)
    (['weight_decay.strength'], 4)
    >>> result.network(x).shape
    torch.Size([96, 3])
    """
    strategy = strategy_for(objective)
    known = methods.names()
    if method not in known:
        raise SettingError("method", f"unknown name {method!r}; {suggestion(str(method), known)}")
    form = methods[method].form_for(objective)
    draws = form is None or form.draws
    strategy.refuse_unused(
        regularizers=regularizers or None,
        seconds=seconds,
        work=work,
        patience=patience,
        metric=None if metric == LOSS else metric,
        seed=None if draws else seed or None,
        device=None if device == "cpu" else device,
    )
    if form is None:
        names = " or ".join(fitting(objective))
        raise SettingError("method", f"{method} does not fit {strategy.described_as}; use {names}")
    if "horizon" in settings:
        raise SettingError(
            "horizon",
            "is a section of study files; train with result.schedule and with"
            " result.schedule.held() by selftune.replay",
        )
    check_team(trainers, form.group_size, key="trainers")
    given: dict[str, Any] = {"steps": steps, "seconds": seconds, "work": work}
    if all(value is None for value in given.values()):
        given |= strategy.budget
    try:
        study = Study(
            "tune",
            objective,
            Budget(**given, patience=patience),
            built_regularizers(regularizers),
            settings_of(form.settings, settings),
            Trainers(trainers, **strategy.resources(objective)),
            seed=seed,
            metric=metric,
            device=device,
        )
    except Mistakes as error:
        raise error.mistakes[0].at_call() from None
    return _tuned(study, None if output is None else Path(output), progress)  # type: ignore[return-value]


def _tuned(study: Study, output: Path | None, progress: bool | None) -> TuningResult:
    """Runs a study in this process."""
    strategy = study.strategy
    if output is not None:
        claim(output, call_of(study.objective, **strategy.call()))
    machine, factory = strategy.method(), strategy.trainers()
    team = {member: factory(member) for member in range(study.trainers.number)}
    shown = progress_on_stderr(progress, "tune", study.budget, type(strategy))
    if shown is not None and (report := strategy.report(MAXIMUM_ROWS)):
        shown.say(report)
    if output is not None and (report := strategy.report()):
        with replacing(output / "conversion.txt") as temporary:
            temporary.write_text(report + "\n", encoding="utf-8")
    reports, taken = carry_out(machine, team, output, shown)
    result, spent = strategy.result(machine, reports, taken)
    if output is not None:
        from selftune.studies.result_folder import keep_result  # needs pyarrow, as the trajectory does

        keep_result(output, result, **spent)
    return result

"""What a folder of ``tune`` was called with, so that another call never takes its result for its own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from selftune.errors import SettingError
from selftune.listener import Listener, Listeners, Remembered
from selftune.lower_level.objective import NetworkObjective
from selftune.lower_level.smooth_objective import SmoothObjective
from selftune.methods import HyperStep, Report
from selftune.methods.team_method import TeamMethod
from selftune.regularization.regularizer import Regularizer
from selftune.storage.files import replacing
from selftune.storage.state_file import check_available
from selftune.studies.digests import plain_text
from selftune.studies.strategies import strategy_for
from selftune.training.runner import run_in_process
from selftune.training.team_run import Executes

CALL = "call.json"
_LEFT = ("checkpoints", "study.yaml", "ray")  # by runs that have no such file: studies, or earlier versions


def claim(folder: Path, call: Mapping[str, str]) -> None:
    """Makes a folder that of a call, or finds that it is already.

    Raises:
        SettingError: with the key ``output``, if the folder holds something else or checkpoints cannot be written
            for want of a package; nothing is written then.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> claim(folder, {"seed": "0"})
    >>> claim(folder, {"seed": "0"})
    >>> claim(folder, {"seed": "1"})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    selftune.errors.SettingError: output: ... was made by a call with another seed; give another folder, ...
    """
    check_available("output")
    path = folder / CALL
    if not path.exists():
        if folder.exists() and not folder.is_dir():
            raise SettingError("output", f"{folder} is no folder; give another one")
        if any((folder / name).exists() for name in _LEFT) or any(folder.glob("trajectory.*")):
            raise SettingError(
                "output", f"{folder} holds a run, but not what it was called with; give another folder"
            )
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(dict(call), indent=1) + "\n", encoding="utf-8")
        return
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SettingError("output", f"{path} is damaged; give another folder") from error
    other = [name for name in {**known, **call} if known.get(name) != call.get(name)]
    if other:
        raise SettingError(
            "output",
            f"{folder} was made by a call with another {' and another '.join(other)}; give another folder, or"
            " repeat that call",
        )


def call_of(
    objective: NetworkObjective | SmoothObjective,
    regularizers: Iterable[Regularizer] | None = None,
    **others: object,
) -> dict[str, str]:
    """What decides the result of a call, by argument: texts, or digests of what is long.

    Args:
        regularizers: None where there can be none.
    """
    call = {"objective": strategy_for(objective).digest(objective)}
    if regularizers is not None:
        call["regularizers"] = "; ".join(
            f"{regularizer.name} {plain_text(regularizer.settings)} {plain_text(regularizer.parts)}"
            f"{' per example' if regularizer.per_example else ' per class' if regularizer.per_class else ''}"
            for regularizer in sorted(regularizers, key=lambda r: r.name)
        )
    return {**call, **{name: plain_text(value) for name, value in others.items()}}


def carry_out(
    machine: TeamMethod,
    team: Mapping[int, Executes],
    output: str | Path | None = None,
    progress: Listener | None = None,
) -> tuple[dict[int, Report], list[HyperStep]]:
    """Runs a method in this process: the last reports by trainer, and all its hyper-steps.

    Args:
        output: a claimed folder, which gets the trajectory, and checkpoints from which a second call goes on.
        progress: shows how far it is.
    """
    memory = Remembered()
    listeners: list[Listener] = [memory] if progress is None else [memory, progress]
    if output is None:
        reports = run_in_process(machine, team, Listeners(listeners))
        return machine.results(reports), memory.steps
    from selftune.tracking.trajectory import TrajectoryWriter, read_trajectory

    folder = Path(output)
    listeners.insert(0, TrajectoryWriter(folder))
    reports = run_in_process(machine, team, Listeners(listeners), folder / "checkpoints")
    steps = memory.steps
    recorded = read_trajectory(folder)
    if len(recorded) > len(steps):  # an earlier call took the first ones
        before = recorded.hyper_steps(machine.hyperparameters.dtype)[: len(recorded) - len(steps)]
        steps = before + steps
    return machine.results(reports), steps

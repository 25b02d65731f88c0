"""The output folder of a study: made, refused and opened again."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from selftune.storage.files import DamagedFile, is_leftover, replacing
from selftune.studies.call import CALL
from selftune.studies.mistakes import Mistakes, UserError
from selftune.studies.original_study import NAME as STARTED
from selftune.studies.original_study import PROCESS, check_unchanged, read_original, write_original
from selftune.studies.saved_network import TUNED, read_network
from selftune.studies.study import Study
from selftune.studies.study_file import load_study
from selftune.studies.yaml_file import parse_yaml, read_text
from selftune.tracking.journal import has_table
from selftune.tracking.summary import Summary, read_summary
from selftune.tracking.trajectory import TRAJECTORY

STUDY_FILE = "study.yaml"
WINNER = "winner.yaml"
"""Of a sweep: the study file with the winner's values, without the section ``sweep``."""
CHECKPOINTS = "checkpoints"
RUNS = Path("runs")
_NOTHING = (STARTED, "lost+found")
"""What a folder may hold before its study file: how that is started, and what a new disk has at its root."""


def new_folder(study: Study, output: Path | None, local: bool) -> Path:
    """Makes the folder of a study that is about to start: ``output``, or ``runs/<study>-<n>`` with a free n.

    Raises:
        UserError: if ``output`` holds something else, or cannot be written; nothing is changed then.
    """
    try:
        folder = free_folder(study.study) if output is None else _empty_folder(output, study)
        write_original(folder, study.text, local)
        with replacing(folder / STUDY_FILE) as temporary:
            temporary.write_text(study.text, encoding="utf-8")
    except OSError as error:
        place = error.filename or output or RUNS
        raise UserError(
            f"{place}: cannot be written: {(error.strerror or str(error)).lower()};"
            " choose another folder with --output"
        ) from error
    return folder


def free_folder(name: str) -> Path:
    """Makes ``runs/<name>-<n>``, with the first n that is free."""
    RUNS.mkdir(exist_ok=True)
    number = 1
    while True:
        folder = RUNS / f"{name}-{number}"
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            number += 1


def empty_folder(folder: Path, what: str) -> Path:
    """Makes a folder, unless it is there and empty.

    What a run has left that was killed while it made the folder does not count.

    Args:
        what: would have to be in it, so that it could be gone on with.

    Raises:
        UserError: if it is a file, or holds something.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; choose a folder with --output")
    if folder.exists() and any(not _is_nothing(path) for path in folder.iterdir()):
        raise UserError(f"{folder}: is not empty and holds no {what}; choose another folder with --output")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _is_nothing(path: Path) -> bool:
    return path.name in _NOTHING or is_leftover(path)


def goes_on(folder: Path, text: str, file: Path, local: bool) -> bool:
    """Whether a folder holds a study or sweep that was begun; if so, it is to go on as the study file says now.

    Args:
        folder: that of ``run --restart``.
        text: the study file's; what may differ from what the folder holds takes its place there.
        file: its name.
        local: whether it is to run in this process instead of on Ray.

    Raises:
        UserError: if the folder holds another one, or runs it elsewhere; nothing is changed then.
        DamagedFile: if a file is not what was written.
    """
    if not (folder / STUDY_FILE).is_file():
        return False
    if is_local(folder) != local:
        advice = "leave out --local" if local else "give --local"
        raise UserError(f"{folder}: the study of this folder was started {_where(not local)}; {advice}")
    check_unchanged(folder, text, tuned="tuned" in read_summary(folder), file=file)
    if read_text(folder / STUDY_FILE) != text:
        with replacing(folder / STUDY_FILE) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return True


def _where(local: bool) -> str:
    return "in a process, without Ray" if local else "on Ray"


def _empty_folder(folder: Path, study: Study) -> Path:
    file = folder / STUDY_FILE
    if file.is_file():
        if file.read_text(encoding="utf-8", errors="replace") != study.text:
            raise UserError(f"{folder}: holds another study; choose another folder with --output")
        if read_summary(folder).get("status") == "finished":
            raise UserError(
                f"{folder}: holds this study, finished; see it with `selftune report {folder}`,"
                " or choose another folder with --output"
            )
        raise UserError(
            f"{folder}: holds this study, unfinished; continue it with `selftune resume {folder}`,"
            " or choose another folder with --output"
        )
    return empty_folder(folder, "study")


def open_folder(folder: Path) -> tuple[Study, Summary]:
    """The study of an output folder and how far it got.

    Raises:
        UserError: if the folder holds no study, or a study file that is not valid any more, or that was edited.
        DamagedFile: if a file is not what was written.
    """
    file = folder / STUDY_FILE
    if not file.is_file():
        if (folder / CALL).is_file():
            raise UserError(
                f"{folder}: was made by a call of selftune.tune in Python, whose network and data are known there"
                " alone; repeat that call to go on, or train with its schedule by"
                f" selftune.replay(objective, regularizers, {str(folder)!r})"
            )
        what = "holds no study" if folder.is_dir() else "is not a folder"
        raise UserError(f"{folder}: {what}; give the output folder of `selftune run`")
    try:
        swept = "sweep" in parse_yaml(read_text(file))
    except Mistakes as error:
        raise error.in_file(str(file)) from error
    if swept:
        raise UserError(
            f"{folder}: holds a sweep; the study of its best trial is {folder / WINNER}, which"
            " `selftune run` trains again"
        )
    study, summary = load_study(file), read_summary(folder)
    check_unchanged(folder, study.text, tuned="tuned" in summary)
    return study, summary


def load_network(folder: Path) -> nn.Module:
    """The network of a study's or sweep's folder, built as the (winner's) study file says, in evaluation mode.

    Raises:
        DamagedFile: if the network is missing, not what was written, or not that of the study file, or if this is
            not valid here.
    """
    if (folder / CALL).is_file():
        raise DamagedFile("the network was not sent: only the call of selftune.tune that made it can build it")
    try:
        file = folder / (WINNER if (folder / WINNER).is_file() else STUDY_FILE)
        state, strategy = read_network(folder, TUNED), load_study(file).strategy
        network = strategy.as_network(folder).untrained()
    except UserError as error:
        raise DamagedFile(f"the network was not sent: {error.lines[0]}") from error
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise DamagedFile(f"{folder / TUNED}.safetensors: is the network of another study file") from error
    return network.eval()


def is_local(folder: Path) -> bool:
    """Whether the study of a folder runs in-process rather than on Ray, as it was started.

    Raises:
        UserError: if the folder does not say.
    """
    return bool(read_original(folder)["runs"] == PROCESS)


def check_recorded(folder: Path) -> None:
    """Refuses a folder whose summary is gone although its study has recorded something, or whose study was edited.

    Raises:
        UserError: with the way to get it back.
        DamagedFile: if a file is not what was written.
    """
    if (folder / STARTED).exists() and (file := folder / STUDY_FILE).is_file():
        try:
            check_unchanged(folder, read_text(file), tuned=False)
        except Mistakes as error:
            raise UserError(error.in_file(str(file)).lines[0]) from error
    if not read_summary(folder) and (folder / STARTED).exists() and has_table(folder, TRAJECTORY):
        raise UserError(f"{folder / 'summary.json'}: is missing; `selftune resume {folder}` makes it again")

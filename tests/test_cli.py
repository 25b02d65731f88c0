import errno
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from selftune.cli import main
from selftune.studies.folder import new_folder
from selftune.studies.original_study import write_original
from selftune.studies.packaged import packaged_studies
from selftune.studies.study_file import parse_study
from selftune.tracking.summary import read_summary, write_summary
from selftune.tracking.trajectory import TrajectoryWriter, read_trajectory

STUDY = """\
study: tiny
objective: {task: digits, hidden: [16], train_examples: 200}
regularizers:
  dropout: {rate: {start: 0.1}}
  weight_decay: {parts: layer, strength: {start: 1e-4}}
method: {name: self_tuning, warmup_steps: 10, checkpoint_every: 2}
budget: {steps: 60}
"""

SELFTUNE = [sys.executable, "-m", "selftune.cli"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(STUDY)
    return tmp_path


def local(*arguments):
    return main(["run", "tiny.yaml", "--local", "--no-mlflow", *arguments])


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for command in ("run", "check", "resume", "replay", "report", "sync"):
        assert f"\n    {command} " in out
    assert "selftune run digits" in out


def test_version(capsys):
    from importlib.metadata import version

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"selftune {version('selftune')}\n"


def test_the_module_runs_as_a_command():
    done = subprocess.run([*SELFTUNE, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("selftune ")


@pytest.mark.parametrize(
    "arguments", [[], ["tun"], ["run"], ["replay", "x", "--seeds", "0"], ["run", "digits", "--x"]]
)
def test_wrong_arguments(arguments, capsys):
    assert main(arguments) == 2
    assert "usage: selftune" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["check", "absent.yaml"], "absent.yaml: there is no such file"),
        (["check", "digit"], "digit: is neither a file nor a packaged study; did you mean digits?"),
        (
            ["check", "empty.yaml"],
            "empty.yaml: is empty; a study needs at least objective, regularizers and budget",
        ),
        (["check", "."], ".: cannot be read: is a directory"),
        (["run", "tiny.yaml", "--steps", "0"], "tiny.yaml: budget.steps: must be at least 1, got 0"),
        (["run", "tiny.yaml", "--seed", "-1"], "tiny.yaml: seed: must be at least 0 and below 2 ** 63, got -1"),
        (["resume", "absent"], "absent: is not a folder; give the output folder of `selftune run`"),
        (["replay", "absent"], "absent: is not a folder; give the output folder of `selftune run`"),
        (["report", "absent"], "absent: is not a folder; give the output folder of a study"),
        (["sync", "absent"], "absent: holds no study; give the output folder of a study"),
        (["report", "tiny.yaml"], "tiny.yaml: is not a folder; give the output folder of a study"),
        (["sync", "tiny.yaml"], "tiny.yaml: holds no study; give the output folder of a study"),
    ],
)
def test_requests_that_cannot_be_met(arguments, line, place, capsys):
    (place / "empty.yaml").write_text("")
    before = sorted(place.iterdir())
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", line + "\n")
    assert sorted(place.iterdir()) == before


@pytest.mark.parametrize("command", ["resume", "report", "compare", "replay", "sync"])
@pytest.mark.parametrize("content", [b"", b"{", b"\x7f" * 40])
def test_a_damaged_summary_is_one_sentence(place, capsys, command, content):
    folder = place / "out"
    new_folder(parse_study(STUDY), folder, local=True)
    (folder / "summary.json").write_bytes(content)
    assert main([command, "out"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("out/summary.json: is damaged")


@pytest.mark.parametrize("command", ["resume", "report", "replay", "sync"])
@pytest.mark.parametrize("name", ["started.json", "study.yaml"])
@pytest.mark.parametrize("content", [b"", b"\x7f" * 40])
def test_a_damaged_study_is_one_sentence(place, capsys, command, name, content):
    folder = place / "out"
    new_folder(parse_study(STUDY), folder, local=True)
    (folder / name).write_bytes(content)
    assert main([command, "out"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"out/{name}: ")


def test_a_folder_that_cannot_be_written_gets_no_report(place, capsys, monkeypatch):
    def refused(*arguments):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "out/plots")

    monkeypatch.setattr("selftune.tracking.report.write_report", refused)
    assert main(["report", "out"]) == 2
    assert capsys.readouterr().err == (
        "out: the report cannot be written: permission denied; copy the folder to a place of your own\n"
    )


def test_a_study_that_has_not_begun_has_no_report(place, capsys):
    (place / "out").mkdir()
    (place / "out" / "study.yaml").write_text(STUDY)
    assert main(["report", "out"]) == 2
    assert capsys.readouterr().err == (
        "out: nothing has been recorded yet; continue the study with `selftune resume out`\n"
    )


def test_checking_is_fast(place):
    """Ray, and what torch imports to compile, take seconds: a mistake has to show at once."""
    code = (
        "import sys; from selftune.cli import main; main(['check', 'tiny.yaml']);"
        "print([name for name in ('ray', 'mlflow', 'matplotlib', 'torch._dynamo') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", sorted(packaged_studies()))
def test_packaged_studies_are_right(name, capsys):
    assert main(["check", name]) == 0
    assert capsys.readouterr().out.startswith(f"{name}: right; it tunes ")


def test_check_says_what_is_tuned(place, capsys):
    assert main(["check", "tiny.yaml"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "tiny.yaml: right; it tunes 3 hyperparameters:",
        "  dropout.rate from 0.1, a number in [0, 0.95]",
        "  weight_decay.strength[hidden1] from 0.0001, a positive number",
        "  weight_decay.strength[output] from 0.0001, a positive number",
        "layers that respond to them:",
        "  layer    type    path           reason",
        "  hidden1  Linear  linear rank 1",
        "  output   Linear  linear rank 1",
        "parameters of the network:",
        "  dropout reaches 160 of 1,210 parameters (13 %)",
        "  weight_decay reaches 1,184 of 1,210 parameters (98 %)",
        "  1,210 of 1,210 parameters respond (100 %)",
    ]
    assert [path.name for path in place.iterdir()] == ["tiny.yaml"]


def test_from_run_to_replay(place, capsys):
    assert local() == 0
    out = capsys.readouterr().out
    assert "tiny: 60/60 training steps" in out
    assert "weight_decay.strength[output]" in out
    assert "start values held" in out
    assert "report  runs/tiny-1/report.html" in out

    assert local("--output", "runs/tiny-1") == 2
    assert "holds this study, finished" in capsys.readouterr().err
    assert main(["resume", "runs/tiny-1"]) == 0
    assert "nothing to resume" in capsys.readouterr().out

    assert main(["report", "runs/tiny-1"]) == 0
    assert capsys.readouterr().out.strip() == "runs/tiny-1/report.html"

    assert main(["replay", "runs/tiny-1"]) == 0
    out = capsys.readouterr().out
    assert "end values held" in out
    assert "bit for bit" in out


def test_seed_and_steps_are_kept_with_the_folder(place):
    assert local("--seed", "3", "--steps", "30", "--output", "out") == 0
    assert read_summary(place / "out")["training_steps"] == 30
    kept = (place / "out" / "study.yaml").read_text()
    assert "seed: 3" in kept
    assert "steps: 30" in kept


def test_a_study_that_fails(place, capsys):
    (place / "tiny.yaml").write_text(STUDY.replace("hidden: [16]", "hidden: [16], learning_rate: 1e9"))
    assert local() == 1
    err = capsys.readouterr().err
    assert err.startswith("selftune: trainer 0 stopped: the training loss is ")
    assert err.endswith("what was recorded until then is in runs/tiny-1\n")
    assert len(err.splitlines()) == 1


def columns(folder):
    table = pq.read_table(folder / "trajectory.parquet")
    return table.drop_columns(["seconds"])  # of this machine's clock


def test_a_full_disk(place, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "network.pt")

    monkeypatch.setattr("selftune.studies.strategies.network.network_of", full)
    assert local() == 1
    err = capsys.readouterr().err
    assert "No space left on device: 'network.pt'; mend that and go on with `selftune resume runs/tiny-1`" in err
    assert read_summary(place / "runs" / "tiny-1")["status"] == "failed"
    monkeypatch.undo()
    monkeypatch.chdir(place)
    assert main(["resume", "runs/tiny-1", "--no-mlflow"]) == 0


@pytest.fixture
def small_disk(place):
    """A disk of two megabytes, in the folder ``small``."""
    (place / "small").mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place / "small")]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this user may not mount a disk")
    yield place / "small"
    subprocess.run(["umount", "--lazy", str(place / "small")], check=True)


def test_a_disk_that_is_really_full_loses_nothing(place, small_disk, capsys, monkeypatch):
    told, ballast = TrajectoryWriter.hyper_step, small_disk / "ballast"

    def filling(self, step):
        told(self, step)
        if step.number == 6:
            with suppress(OSError), ballast.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(64))

    monkeypatch.setattr(TrajectoryWriter, "hyper_step", filling)
    assert local("--output", "small/out") == 1
    said = capsys.readouterr().err
    assert "No space left on device: '" in said
    assert "mend that and go on with `selftune resume small/out`" in said
    monkeypatch.setattr(TrajectoryWriter, "hyper_step", told)
    ballast.unlink()
    assert len(read_trajectory(small_disk / "out")) >= 7  # what was reported is there
    assert local("--output", "small/out", "--restart") == 0
    assert local("--output", "whole") == 0
    assert columns(small_disk / "out").equals(columns(place / "whole"))


STOPPED = """
import os, signal, sys
from selftune.studies.folder import new_folder
from selftune.studies.study_file import parse_study
from selftune.cli import main
from selftune.tracking.trajectory import TrajectoryWriter
told = TrajectoryWriter.hyper_step
def hyper_step(self, step):
    told(self, step)
    if step.number == {number}:
        os.kill(os.getpid(), signal.{ending})
TrajectoryWriter.hyper_step = hyper_step
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run in the background
sys.exit(main(["run", "tiny.yaml", "--local", "--no-mlflow", "--output", "out"]))
"""


def run_until(number, ending):
    """Runs the study in a process that is stopped right after the given hyper-step."""
    script = STOPPED.format(number=number, ending=ending)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("number", "go_on"),
    [(0, ["resume", "out"]), (6, ["run", "tiny.yaml", "--local", "--output", "out", "--restart"])],
)  # before the first checkpoint, and between two
def test_a_killed_study_goes_on_to_the_same_trajectory(place, number, go_on, capsys):
    assert run_until(number, "SIGKILL").returncode == -signal.SIGKILL
    assert len(read_trajectory(place / "out")) == number + 1  # what was reported stays readable
    assert local("--output", "out") == 2
    assert "continue it with `selftune resume out`" in capsys.readouterr().err
    assert main([*go_on, "--no-mlflow"]) == 0
    assert local("--output", "whole", "--restart") == 0
    assert columns(place / "out").equals(columns(place / "whole"))
    ended, whole = read_summary(place / "out"), read_summary(place / "whole")
    assert ended["tuned"] == whole["tuned"]
    assert ended["fixed"] == whole["fixed"]


def restart(*arguments):
    return local("--output", "out", "--restart", *arguments)


def folder_made_in_part(place):
    (place / "out" / "lost+found").mkdir(parents=True)  # a disk of its own
    (place / "out" / ".study.yaml.99999999.partial").write_text(STUDY[:20])
    write_original(place / "out", STUDY, local=True)


def folder_made(place):
    new_folder(parse_study(STUDY), place / "out", local=True)


def failed(place):
    folder_made(place)
    write_summary(place / "out", {"name": "tiny", "status": "failed", "message": "the disk is full"})


@pytest.mark.parametrize("before", [folder_made_in_part, folder_made, failed])
def test_a_restart_goes_on_with_whatever_the_folder_holds(place, before, capsys):
    before(place)
    assert restart() == 0
    assert read_summary(place / "out")["training_steps"] == 60
    capsys.readouterr()
    assert restart() == 0
    assert capsys.readouterr().out == "out: is finished, there is nothing to resume; see out/report.html\n"


def test_a_restart_takes_the_budget_of_the_file(place):
    folder_made(place)
    (place / "tiny.yaml").write_text(STUDY.replace("steps: 60", "steps: 80"))
    assert restart() == 0
    assert read_summary(place / "out")["training_steps"] == 80


def test_a_restart_does_not_run_another_study_in_the_folder(place, capsys):
    folder_made(place)
    for arguments, line in (
        (["--seed", "3"], "tiny.yaml: seed: was nothing when the study was started, now it is 3; put that back"),
        (["--steps", "50"], "tiny.yaml: budget.steps: was 60 when the study was started, now it is 50; put that"),
    ):
        assert restart(*arguments) == 2
        assert capsys.readouterr().err.startswith(line)
    assert main(["run", "tiny.yaml", "--output", "out", "--restart"]) == 2
    assert "out: the study of this folder was started in a process, without Ray; give --local" in (
        capsys.readouterr().err
    )
    (place / "notes").mkdir()
    (place / "notes" / "a.txt").touch()
    assert local("--output", "notes", "--restart") == 2
    assert "notes: is not empty and holds no study" in capsys.readouterr().err
    assert local("--restart") == 2
    assert "--restart: needs --output DIR" in capsys.readouterr().err
    assert (place / "out" / "study.yaml").read_text() == STUDY
    assert [path.name for path in (place / "notes").iterdir()] == ["a.txt"]


@pytest.mark.parametrize("is_begun", [False, True])
def test_a_restart_of_a_sweep_begins_or_goes_on(place, is_begun, monkeypatch):
    text = STUDY + "sweep: {trials: 2, over: {objective.optimization.learning_rate: {uniform: [0.01, 0.1]}}}\n"
    (place / "tiny.yaml").write_text(text)
    ran = []
    monkeypatch.setattr("selftune.sweeps.run.run_sweep", lambda swept, folder, *_, **more: ran.append(folder))
    for _ in range(1 + is_begun):
        assert main(["run", "tiny.yaml", "--no-mlflow", "--output", "out", "--restart"]) == 1
    assert ran == [Path("out")] * (1 + is_begun)
    assert (place / "out" / "study.yaml").read_text() == text


def test_an_interrupted_study_says_how_to_go_on(place):
    done = run_until(1, "SIGINT")
    assert done.returncode == 130
    assert done.stderr == "selftune: stopped; go on with `selftune resume out`\n"
    assert read_summary(place / "out")["status"] == "interrupted"

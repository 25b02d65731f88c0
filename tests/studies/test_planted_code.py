"""Code that somebody planted in an output folder: no command that reads the folder runs it (docs/security.md)."""

import contextlib
import io
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from selftune.cli import main
from selftune.tracking.trajectory import TrajectoryWriter

STUDY = """\
study: tiny
objective: {task: digits, hidden: [8], train_examples: 100, validation_examples: 100}
regularizers: {dropout: {rate: {start: 0.1}}}
method: {name: self_tuning, warmup_steps: 10, checkpoint_every: 1}
budget: {steps: 30}
"""
COMMANDS = {
    "finished": (["status"], ["report"], ["schedule", "--output", "schedule.json"], ["replay", "--final"]),
    "interrupted": (["status"], ["report"], ["resume", "--no-mlflow"]),
}


class Planted:
    """What runs when it is unpickled: it makes a file."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.fixture(scope="module", params=list(COMMANDS))
def how(request):
    """How a study ended."""
    return request.param


@pytest.fixture(scope="module")
def folder(how, tmp_path_factory):
    """The folder of a study that ended so."""
    folder = tmp_path_factory.mktemp(how)
    (folder / "tiny.yaml").write_text(STUDY)
    hyper_step = TrajectoryWriter.hyper_step

    def interrupt(writer, step):
        hyper_step(writer, step)
        if how == "interrupted" and step.number == 2:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrajectoryWriter, "hyper_step", interrupt)
        out = folder / "out"
        status = main(["run", str(folder / "tiny.yaml"), "--local", "--no-mlflow", "--output", str(out)])
    assert status == (0 if how == "finished" else 130)
    return out


def plant(path, mark, form):
    content = io.BytesIO()
    if form == "pickle":
        pickle.dump(Planted(mark), content)
    elif form == "torch":
        torch.save(Planted(mark), content)
    else:
        np.savez(content, noisy=np.array([Planted(mark)], dtype=object))
    path.write_bytes(content.getvalue())


@pytest.mark.full
@pytest.mark.parametrize("form", ["pickle", "torch", "numpy"])
def test_nothing_that_was_planted_runs(folder, how, tmp_path, monkeypatch, form, capsys):
    monkeypatch.chdir(tmp_path)
    names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    names = [name for name in names if name.name not in ("study.yaml", "report.html") and name.suffix != ".svg"]
    assert {path.suffix for path in names} >= {".safetensors", ".json"}
    mark = tmp_path / "ran"
    torch.save(Planted(mark), tmp_path / "proof.pt")
    torch.load(tmp_path / "proof.pt", weights_only=False)
    assert mark.exists()  # else the test shows nothing
    mark.unlink()
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    for command, *options in COMMANDS[how]:
        assert main([command, str(copy), *options]) == 0  # they read what is there
    for name in names:
        shutil.rmtree(copy)
        shutil.copytree(folder, copy)
        plant(copy / name, mark, form)
        for command, *options in COMMANDS[how]:
            with contextlib.suppress(SystemExit):
                main([command, str(copy), *options])
            assert not mark.exists(), f"{command} ran what was in {name}"
    capsys.readouterr()

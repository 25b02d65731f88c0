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

STUDY = """\
study: tiny
objective: {task: digits, hidden: [8], train_examples: 100, validation_examples: 100}
regularizers: {dropout: {rate: {start: 0.1}}}
method: {name: self_tuning, warmup_steps: 10, checkpoint_every: 1}
budget: {steps: 30}
"""
COMMANDS = (
    ["status"],
    ["report"],
    ["schedule", "--output", "schedule.json"],
    ["replay", "--final"],
    ["resume"],
)


class Planted:
    """What runs when it is unpickled: it makes a file."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "tiny.yaml").write_text(STUDY)
    assert main(["run", str(folder / "tiny.yaml"), "--local", "--no-mlflow", "--output", str(folder / "out")]) == 0
    (folder / "out" / "study.yaml").write_text(STUDY.replace("steps: 30", "steps: 40"))  # more to do for `resume`
    return folder / "out"


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
def test_nothing_that_was_planted_runs(folder, tmp_path, monkeypatch, form, capsys):
    monkeypatch.chdir(tmp_path)
    names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    names = [name for name in names if name.name not in ("study.yaml", "report.html") and name.suffix != ".svg"]
    assert {path.suffix for path in names} >= {".safetensors", ".parquet", ".json", ".pt"}
    mark = tmp_path / "ran"
    torch.save(Planted(mark), tmp_path / "proof.pt")
    torch.load(tmp_path / "proof.pt", weights_only=False)
    assert mark.exists()  # else the test shows nothing
    mark.unlink()
    for name in names:
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        plant(copy / name, mark, form)
        for command, *options in COMMANDS:
            with contextlib.suppress(SystemExit):
                main([command, str(copy), *options])
            assert not mark.exists(), f"{command} ran what was in {name}"
    capsys.readouterr()

"""What README and docs show works: studies load, commands parse, Python compiles, links lead somewhere."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from selftune import quantities, regularizers
from selftune.cli import _parser
from selftune.studies.study_file import parse_study
from selftune.sweeps.sweep_file import is_sweep, parse_sweep

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


OWN_LOOPS = ("README.md", "own-loop.md")
"""Pages with loops around a model, an optimizer and loaders that the reader has."""


def blocks(language):
    """Every block of a language, with the page and the line where it starts."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, found.start()) + 2
            yield pytest.param(found[1], id=f"{page.name}:{line}")


def commands():
    for block in blocks("console"):
        for line in block.values[0].splitlines():
            if line.startswith("$ selftune "):
                yield pytest.param(line.removeprefix("$ selftune "), id=f"{block.id}: {line[2:40]}")


def anchors(page):
    """The fragments that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("text", [b for b in blocks("yaml") if b.values[0].startswith("study:")])
def test_studies_load(text):
    assert len((parse_sweep if is_sweep(text) else parse_study)(text).space)


@pytest.mark.parametrize("line", commands())
def test_commands_parse(line):
    _parser().parse_args(shlex.split(line, comments=True))


@pytest.mark.parametrize("text", blocks("python"))
def test_python_compiles(text):
    compile(text, "a page", "exec")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    prose = re.sub(r"^```.*?^```$|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if "://" in target:
            continue
        path, _, fragment = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        assert not fragment or fragment in anchors(file), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page):
    for name in re.findall(
        r"`(?:[\w./]*python )?((?:benchmarks|docs|search_spaces|tests)/[\w./-]+)", page.read_text()
    ):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize(
    "text", [b for b in blocks("python") if b.id.startswith(OWN_LOOPS) and "OnlineTuner(" in b.values[0]]
)
def test_loops_of_ones_own_run(text):
    if "def loop(config" in text:
        pytest.skip("runs in a trial of Ray Tune: tests/schedulers/test_loop.py")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    data = TensorDataset(torch.randn(64, 6), torch.randint(3, (64,)))
    known = {
        "model": model,
        "optimizer": optimizer,
        "loader": [batch for _ in range(60) for batch in DataLoader(data, 16)],
        "validation_loader": DataLoader(TensorDataset(torch.randn(32, 6), torch.randint(3, (32,))), 16),
        "schedule": torch.optim.lr_scheduler.StepLR(optimizer, 100),
    }
    exec(text, known)
    assert len(known["tuner"].trajectory) == 8


PROGRAMS = (
    "aggregation.md",
    "augmentation.md",
    "from-optuna.md",
    "implicit.md",
    "nonsmooth.md",
    "own-objective.md",
    "own-regularizer.md",
    "thousands-of-weights.md",
    "tune-one-network.md",
    *(pytest.param(page, marks=pytest.mark.full) for page in ("objectives.md", "stochastic.md", "training.md")),
)
"""Pages whose blocks of Python, one after the other, are one program."""


@pytest.mark.timeout(400)
@pytest.mark.parametrize("page", PROGRAMS)
def test_the_program_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for registry in (regularizers, quantities):  # what the page registers is gone afterwards
        assert registry.names()
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    known = {"__name__": "a_page"}
    for found in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        lines = "\n" * (text.count("\n", 0, found.start()) + 1)  # errors name lines of the page
        exec(compile(lines + found[1], page, "exec", dont_inherit=True), known)


def test_the_page_on_own_training_is_one_program_that_tunes():
    text = (ROOT / "docs" / "own-training.md").read_text(encoding="utf-8")
    known = {}
    exec("".join(re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)), known)
    assert len(known["tuner"].trajectory) > 3
    assert known["tuner"].hyperparameters["dropout.rate"] != 0.1
    assert known["again"].metrics["test_loss"] < 2.3


def test_files_on_the_page_about_the_code_exist():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w/]+(?:/|\.py))`", text))
    assert len(named) > 40
    engine = ROOT / "platform" / "selftune"
    assert not {name for name in named if not (ROOT / name).exists() and not (engine / name).exists()}


def test_the_page_about_the_code_names_every_room():
    engine = ROOT / "platform" / "selftune"
    rooms = {f"{path.name}/" for path in engine.iterdir() if (path / "__init__.py").exists()}
    rooms |= {path.name for path in engine.glob("*.py")} - {"__init__.py"}
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert not {room for room in rooms if f"`{room}`" not in text}


def test_the_site_is_built_strictly(tmp_path):
    """No link or anchor that leads nowhere, no page that the navigation lacks."""
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path)]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True)
    assert not built.returncode, built.stderr
    assert (tmp_path / "index.html").exists()


def test_there_is_something_to_check():
    assert len(list(blocks("yaml"))) >= 3
    assert len(list(commands())) >= 8
    assert len(list(blocks("python"))) >= 3

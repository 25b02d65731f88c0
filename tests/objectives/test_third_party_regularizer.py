"""A regularizer of somebody's package, as docs/own-regularizer.md shows it: one file and one entry point."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "own-regularizer.md").read_text(encoding="utf-8")
OWN = PAGE[PAGE.index("## A function\n") : PAGE.index("## A class\n")]

STUDY = """\
study: squeezed
objective: {{task: digits, hidden: [8]}}
{regularizers}
method: {{name: self_tuning, warmup_steps: 5}}
budget: {{steps: 15}}
"""

TUNE = """\
{call}
values = result.hyperparameters
print(*values)
assert 0 < values["logit_squeezing.strength"] != 0.01
"""


def blocks(language):
    """The code of the page, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", OWN, re.MULTILINE | re.DOTALL)


def entry_points(toml):
    """The text that installing a package with this table leaves behind."""
    found = re.fullmatch(r'\[project\.entry-points\."([\w.]+)"\]\n(\w+) = "([\w.:]+)"\n', toml)
    return "[{}]\n{} = {}\n".format(*found.groups())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs Python where the package is installed."""
    folder = tmp_path_factory.mktemp("installed")
    (folder / "logit_squeezing.py").write_text(blocks("python")[0])
    metadata = folder / "somebodys_package-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: somebodys-package\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(entry_points(*blocks("toml")))

    def run(*arguments):
        environment = {**os.environ, "PYTHONPATH": str(folder)}
        done = subprocess.run(
            [sys.executable, *arguments], env=environment, cwd=folder, capture_output=True, text=True, timeout=100
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run.folder = folder
    return run


def test_the_file_is_the_one_that_the_page_names():
    assert blocks("python")[0].startswith("# logit_squeezing.py\n")


def test_the_command_line_lists_and_shows_it(run):
    listed = run("-m", "selftune.cli", "list", "regularizers", "--needs", "logits")
    assert re.search(r"^ *logit_squeezing +penalty, supervision: Half the", listed, re.MULTILINE)
    shown = run("-m", "selftune.cli", "show", "logit_squeezing")
    assert "Reference: Adversarial Logit Pairing (arXiv 1803.06373)" in shown
    assert "strength = 0.01" in shown
    assert "As a function: logit_squeezing.logit_squeezing" in shown
    assert blocks("yaml")[0].replace("\n", "\n  ").strip() in shown


def test_a_study_file_names_it(run):
    study = run.folder / "squeezed.yaml"
    study.write_text(STUDY.format(regularizers=blocks("yaml")[0]))
    run("-m", "selftune.cli", "run", str(study), "--local", "--no-mlflow", "--output", "out")
    run("-m", "selftune.cli", "replay", "out")
    assert "logit_squeezing.strength" in (run.folder / "out" / "schedule.json").read_text()


def test_tune_takes_it(run):
    assert run("-c", TUNE.format(call=blocks("python")[1])).split() == ["logit_squeezing.strength"]

"""What `selftune list` shows, and that its index says what the registries say."""

import json
import os
import subprocess
import sys

import pytest

from selftune.cli import main
from selftune.studies import listing_index
from selftune.studies.listing_index import listing, registered
from selftune.studies.mistakes import UserError

LOADED = "print('\\nloaded:', *{name.partition('.')[0] for name in sys.modules})"


def run(*arguments, path=""):
    """Output and errors of the command in a process of its own, and the packages that it imported."""
    script = f"import sys\nfrom selftune.cli import main\nmain({[*arguments]!r})\n{LOADED}"
    environment = {**os.environ, "PYTHONPATH": str(path)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120
    )
    text, _, loaded = done.stdout.rpartition("loaded:")
    return text, done.stderr, set(loaded.split())


@pytest.fixture
def install(tmp_path):
    """Installs a distribution: the text of its entry points, and its modules."""

    def install(entry_points, **modules):
        for name, text in modules.items():
            (tmp_path / f"{name}.py").write_text(text)
        metadata = tmp_path / "somebodys_package-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: somebodys-package\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(entry_points)
        return tmp_path

    return install


def test_the_index_says_what_the_registries_say():
    found = listing_index.read()
    assert found is not None, "the source has changed since the index was made: run `make docs`"
    assert found == registered(), "run `make docs`"
    assert listing_index.INDEX.read_text(encoding="utf-8") == listing_index.made(), "run `make docs`"
    assert listing_index.SHOWN.read_text(encoding="utf-8") == listing_index.made_shown(), "run `make docs`"


@pytest.mark.parametrize(
    "arguments",
    [
        *[
            ("list",),
            ("list", "tasks"),
            ("list", "--needs", "logit"),
            ("--help",),
            ("run", "--help"),
            ("--version",),
        ],
        *[
            ("show", "mixup"),
            ("show", "self_tuning"),
            ("show", "mixp"),
            ("status", "nowhere"),
            ("stop", "nowhere"),
        ],
    ],
    ids=" ".join,
)
def test_answers_at_once(arguments):
    text, errors, loaded = run(*arguments)
    assert text or errors
    assert not loaded & {"torch", "numpy", "pydantic", "ray", "mlflow"}


def test_how_a_run_stands_is_said_at_once(tmp_path):
    (tmp_path / "study.yaml").write_text("study: mine\n")
    text, _, loaded = run("status", str(tmp_path))
    assert text.strip() == f"{tmp_path}: new"
    assert not loaded & {"torch", "numpy", "pydantic", "ray", "mlflow", "pyarrow"}


def test_installed_packages_are_listed(install):
    task = 'class Mine:\n    """A task of somebody\'s, of one sentence.\n\n    And more."""\n'
    path = install("[selftune.tasks]\nmine = somebodys_task:Mine\n", somebodys_task=task)
    text, errors, _ = run("list", "tasks", path=path)
    assert not errors
    assert "mine" in text
    assert "A task of somebody's, of one sentence." in text
    assert "digits" in text
    assert "And more." in run("show", "mine", path=path)[0]


def test_one_that_cannot_be_loaded_is_one_sentence(install):
    path = install("[selftune.tasks]\nmine = somebodys_missing:Mine\n")
    text, errors, _ = run("list", path=path)
    assert not text.strip()
    assert errors.count("\n") == 1
    assert "mine = somebodys_missing:Mine of the package somebodys-package cannot be loaded" in errors


@pytest.mark.parametrize(
    ("part", "value"),
    [("entry points", []), ("modules", {}), ("sources", ["selftune.hypergradients.linear_solvers.*"])],
)
def test_an_index_of_another_state_is_not_believed(monkeypatch, tmp_path, part, value):
    index = json.loads(listing_index.INDEX.read_text(encoding="utf-8"))
    (tmp_path / "listing.json").write_text(json.dumps({**index, part: value}))
    monkeypatch.setattr(listing_index, "INDEX", tmp_path / "listing.json")
    assert listing_index.read() is None
    assert listing() == registered()


MODULE = """\
import torch

@penalty(family="supervision", needs={"logits": "logits"})
def doubled(logits):
    \"\"\"Twice the logits.

    In other words, 2 x.
    \"\"\"
    return 2 * logits

@register
class Tripled(Base):
    \"\"\"Three times.\"\"\"

    family = "structure"

    def penalty(self, step):
        return helper(step)

def helper(step):
    return 3  # helper
"""


@pytest.mark.parametrize(
    ("old", "new", "differs"),
    [
        ("import torch", "import math", False),
        ("return 2 * logits", "return logits + logits", False),
        ("return helper(step)", "return 3", False),
        ("return 3  # helper", "return 2 + 1", False),
        ("Twice the", "Two times the", True),
        ("In other words", "That is", True),
        ('family="supervision"', 'family="structure"', True),
        ('"logits": "logits"', '"logits": "outputs"', True),
        ("def doubled", "def twice", True),
        ("class Tripled", "class Thrice", True),
        ("(Base)", "(Other)", True),
        ("@register\n", "", True),
        ('family = "structure"', 'family = "dynamics"', True),
        ("Three times", "Thrice", True),
    ],
)
def test_what_a_module_declares(old, new, differs):
    assert MODULE.count(old) == 1
    changed = listing_index.digest(MODULE.replace(old, new))
    assert (changed != listing_index.digest(MODULE)) is differs


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({"group": "methods"}, {"self_tuning", "penalty", "implicit", "inexact_line_search"}),
        ({"needs": "domains", "kind": "penalty"}, {"fishr", "correlation_alignment"}),
        ({"group": "diagnostics", "family": "representation"}, {"rank_me"}),
    ],
)
def test_filters(filters, names):
    assert names <= {entry.name for entry in listing().chosen(**filters)}
    assert len(listing().chosen(**filters)) < len(listing().entries)


@pytest.mark.parametrize(
    ("filters", "sentence"),
    [
        ({"group": "regularizer"}, "unknown group 'regularizer'; did you mean regularizers?"),
        ({"kind": "penlty"}, "unknown kind 'penlty'; did you mean penalty?"),
        ({"needs": "logit"}, "unknown quantity 'logit'; did you mean logits or"),
    ],
)
def test_wrong_filters(filters, sentence):
    with pytest.raises(UserError) as caught:
        listing().chosen(**filters)
    assert str(caught.value).startswith(sentence)


def test_list_prints_counts_by_kind_and_family(capsys):
    assert main(["list", "regularizers"]) == 0
    count = capsys.readouterr().out.splitlines()[-1]
    assert count.startswith(f"{len(listing().chosen('regularizers'))} regularizers; ")
    assert " penalty" in count
    assert " supervision" in count
    assert main(["list", "--kind", "nothing"]) == 2

"""What installed packages add through entry points, with the metadata of a real distribution."""

import os
import subprocess
import sys

import pytest

from selftune.registries.registry import EntryPointError, Registry, UnknownName

MODULE = """\
from selftune.objectives.tasks.quadratic_bilevel import QuadraticBilevel

class Mine(QuadraticBilevel):
    pass
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a distribution: its modules, and the text of its entry points."""

    def install(entry_points, **modules):
        for name, text in modules.items():
            (tmp_path / f"{name}.py").write_text(text)
            monkeypatch.delitem(sys.modules, name, raising=False)
        metadata = tmp_path / "somebodys_package-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: somebodys-package\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(entry_points)
        monkeypatch.syspath_prepend(str(tmp_path))
        return tmp_path

    return install


def test_a_class_is_known_by_the_name_of_its_entry_point(install):
    install("[answers]\nmine = somebodys_module:Mine\nother = somebodys_module:Holder.Other\n",
            somebodys_module="class Mine: pass\nclass Holder:\n    class Other: pass\n")  # fmt: skip
    registry = Registry("answer", "answers")
    assert registry.names() == ["mine", "other"]
    assert registry["mine"].__name__ == "Mine"
    assert registry["other"].__qualname__ == "Holder.Other"
    with pytest.raises(UnknownName, match="did you mean mine"):
        registry["min"]


def test_a_module_that_registers_works_as_well_and_both_at_once(install):
    install("[answers]\nany = somebodys_other\nmine = somebodys_other:Mine\n",
            somebodys_other="from builtins import registry\n@registry.adding\nclass Mine: pass\n")  # fmt: skip
    import builtins

    registry = Registry("answer", "answers")
    registry.adding = lambda cls: registry.register("mine", cls)
    builtins.registry = registry
    try:
        assert registry.names() == ["mine"]
    finally:
        del builtins.registry


def test_modules_of_groups_beside_register_what_goes_with_their_own_entries(install):
    install("[others]\nthing = somebodys_beside:Thing\nmore = somebodys_beside\n",
            somebodys_beside="from builtins import registry as r\nr.register('mine', 1)\nThing = 2\n")  # fmt: skip
    import builtins

    registry = Registry("answer", "answers", beside=("others",))
    builtins.registry = registry
    try:
        assert registry.names() == ["mine"]
    finally:
        del builtins.registry


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("somebodys_broken:Mine", "has no attribute 'Mine'"),
        ("somebodys_missing:Mine", "No module named 'somebodys_missing'"),
        ("somebodys_missing", "No module named 'somebodys_missing'"),
    ],
)
def test_one_that_cannot_be_loaded_is_named(install, value, reason):
    install(f"[answers]\nmine = {value}\n", somebodys_broken="")
    with pytest.raises(EntryPointError) as caught:
        Registry("answer", "answers").names()
    assert caught.value.key == "answers"
    assert f"mine = {value} of the package somebodys-package cannot be loaded" in caught.value.message
    assert reason in caught.value.message


def test_two_packages_cannot_share_a_name(install):
    install("[answers]\nmine = somebodys_pair:One\n", somebodys_pair="class One: pass\n")
    registry = Registry("answer", "answers")
    registry.register("mine", object())
    with pytest.raises(EntryPointError, match="two entries register the answer name 'mine'"):
        registry.names()


def test_studies_and_the_command_line_find_it(install):
    folder = install("[selftune.tasks]\nmine = somebodys_task:Mine\n", somebodys_task=MODULE)
    study = folder / "mine.yaml"
    study.write_text(
        "study: mine\nobjective: {task: mine, parameter_count: 12}\nmethod: {name: inexact_line_search}\n"
        "budget: {steps: 3}\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-m", "selftune.cli", "check", str(study)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "it tunes 10 hyperparameters" in done.stdout

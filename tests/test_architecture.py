"""Rules of the house that import-linter and mypy cannot see: whether they see every file."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = {
    "selftune": ROOT / "platform" / "selftune",
    "selftune.objectives": ROOT / "objectives",
    "selftune.search_spaces": ROOT / "search_spaces",
    "selftune.k8s": ROOT / "k8s",
}


CONFIGURATION = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]


def modules():
    """Every module of the three folders, packages too."""
    for name, folder in FOLDERS.items():
        for file in folder.rglob("*.py"):
            parts = file.relative_to(folder).with_suffix("").parts
            yield ".".join([name, *parts]).removesuffix(".__init__")


def in_contracts():
    """What the contracts of import-linter are about: rooms, and modules that are in no room."""
    for contract in CONFIGURATION["importlinter"]["contracts"]:
        for line in (*contract.get("source_modules", ()), *contract.get("layers", ())):
            yield from re.split(r"\s*[|:]\s*", line)


def test_every_module_is_in_an_import_contract():
    named = {*in_contracts()}
    known = {*modules()}
    assert not named - known, "contracts name modules that do not exist"
    covered = {module for module in known if any(f"{module}.".startswith(f"{room}.") for room in named)}
    assert known - covered == {"selftune"}, "name them in a contract of [tool.importlinter]"


@pytest.mark.parametrize("room", ["objectives", "search_spaces", "k8s"])
def test_type_checker_and_import_linter_see_the_folders_that_lie_outside_of_the_engine(room):
    assert CONFIGURATION["mypy"]["files"] == ["platform/selftune"]
    assert CONFIGURATION["importlinter"]["root_packages"] == ["selftune"]
    assert (FOLDERS["selftune"] / room).resolve() == FOLDERS[f"selftune.{room}"], "they follow this link"


def test_every_package_is_listed_for_installation():
    listed = CONFIGURATION["setuptools"]["packages"]
    found = {
        ".".join([name, *init.parent.relative_to(folder).parts])
        for name, folder in FOLDERS.items()
        for init in folder.rglob("__init__.py")
    }
    assert set(listed) == found


def tolerances_in(file):
    """Numbers so small that an assertion with them depends on how a processor rounds."""
    asserted = (node.test for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Assert))
    compared = (part for test in asserted for part in ast.walk(test) if isinstance(part, ast.Compare))
    for side in (side for part in compared for right in part.comparators for side in ast.walk(right)):
        if isinstance(side, ast.Constant) and isinstance(side.value, float) and 0 < side.value < 1e-13:
            yield f"line {side.lineno}: {side.value}"


@pytest.mark.parametrize("file", sorted((ROOT / "tests").rglob("test_*.py")), ids=lambda f: f.stem)
def test_tolerances_follow_from_the_scale_of_what_is_compared(file):
    assert not list(tolerances_in(file)), "take rounding() or squared_rounding() of tests/rounding.py"


def imports():
    """Which module imports which when it runs, inside of functions too; what only types need is left out."""
    files = {
        ".".join([name, *file.relative_to(folder).with_suffix("").parts]).removesuffix(".__init__"): file
        for name, folder in FOLDERS.items()
        for file in folder.rglob("*.py")
    }

    def found(body):
        for node in body:
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
                continue
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    yield inner if inner in files else node.module
            elif isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            else:
                yield from found(ast.iter_child_nodes(node))

    return {name: {*found(ast.parse(file.read_text()).body)} & {*files} for name, file in files.items()}


def test_no_import_goes_in_a_circle():
    graph = {module: found - {"selftune", module} for module, found in imports().items()}
    graph.pop("selftune")  # its names lead everywhere, when they are asked for
    while ends := {module for module, found in graph.items() if not found & graph.keys()}:
        graph = {module: found for module, found in graph.items() if module not in ends}
    while starts := graph.keys() - {one for found in graph.values() for one in found}:
        graph = {module: found for module, found in graph.items() if module not in starts}
    assert not graph, "modules that import each other"

"""Rules of the house that import-linter cannot see, because the package lives in three folders."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = {
    "selftune": ROOT / "platform" / "selftune",
    "selftune.objectives": ROOT / "objectives",
    "selftune.search_spaces": ROOT / "search_spaces",
}


def imported_by(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("file", sorted(FOLDERS["selftune"].rglob("*.py")), ids=lambda f: f.stem)
def test_the_engine_never_imports_the_catalogue(file):
    assert not [name for name in imported_by(file) if name.startswith("selftune.objectives")]


def test_every_package_is_listed_for_installation():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
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

"""The index of ``selftune list`` and ``selftune show``, which answer without importing torch.

``make docs`` writes it from the registries: ``listing.json``, and ``shown.json`` with what ``show`` prints. It is
believed only where the installed packages register just what it was made for, and where the source declares
what it declared then; else the registries are asked.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from selftune.studies.listing import Listed, Listing, unknown

INDEX = Path(__file__).with_name("listing.json")
SHOWN = Path(__file__).with_name("shown.json")

_ROOTS = ("selftune.objectives", "selftune")  # packages with folders of their own
_ENTRY_POINTS = tuple(
    f"selftune.{group}" for group in ("tasks", "regularizers", "diagnostics", "solvers", "methods")
)


def listing() -> Listing:
    """What the installed packages register: from the index where it holds, which needs no torch.

    Raises:
        SettingError: if an entry point of another package cannot be loaded.
    """
    return read() or registered()


def registered() -> Listing:
    """The same from the registries; imports whatever registers something."""
    from selftune.regularization.quantity import quantities
    from selftune.studies.catalogue import entries

    return Listing(tuple(entry.listed for entry in entries()), tuple(quantities.names()))


def shown(name: str) -> list[list[str]]:
    """The lines that ``selftune show`` prints of the entries of a name: a task and a regularizer may share one.

    Raises:
        UserError: if there is none.
    """
    if read() is not None:
        texts: dict[str, list[list[str]]] = json.loads(SHOWN.read_text(encoding="utf-8"))
        if name not in texts:
            raise unknown(name, texts)
        return texts[name]
    from selftune.studies.catalogue import described, find

    return [described(entry) for entry in find(name)]


def read() -> Listing | None:
    """What the index says; None where it was made for other packages or another state of the source."""
    index = json.loads(INDEX.read_text(encoding="utf-8"))
    if index["entry points"] != _entry_points() or index["modules"] != _declarations(index["sources"]):
        return None
    listed = [
        Listed(group, name, kind, family, text, tuple(needs))
        for group, name, kind, family, text, needs in index["entries"]
    ]
    return Listing(tuple(listed), tuple(index["quantities"]))


def made() -> str:
    """The text of the index, from the registries."""
    found, sources = registered(), _sources()
    parts: dict[str, Any] = {
        "entry points": _entry_points(),
        "sources": sources,
        "modules": _declarations(sources),
        "quantities": list(found.quantities),
        "entries": [astuple(entry) for entry in found.entries],
    }
    return "{\n" + ",\n".join(f'"{key}": {_one_a_line(part)}' for key, part in parts.items()) + "\n}\n"


def made_shown() -> str:
    """The text of ``shown.json``, from the registries."""
    from selftune.studies.catalogue import described, entries

    texts: dict[str, list[list[str]]] = {}
    for entry in entries():
        texts.setdefault(entry.name, []).append(described(entry))
    return f"{_one_a_line(texts)}\n"


def _sources() -> list[str]:
    """What decides the entries: ``package.*``, where they are defined, and the modules of their base classes."""
    from selftune.studies.catalogue import definitions

    packages = {one.__module__.rpartition(".")[0] for one in definitions()}
    bases = {base.__module__ for one in definitions() if isinstance(one, type) for base in inspect.getmro(one)}
    apart = {module for module in bases if module.rpartition(".")[0] not in packages}
    return sorted({f"{package}.*" for package in packages} | {one for one in apart if one.startswith("selftune.")})


def _one_a_line(part: Mapping[str, Any] | Sequence[Any]) -> str:
    """JSON with an element a line, so that changes to different files do not meet in one."""
    if isinstance(part, Mapping):
        lines = (f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in part.items())
        return "{\n" + ",\n".join(lines) + "\n}"
    return "[\n" + ",\n".join(json.dumps(one, ensure_ascii=False) for one in part) + "\n]"


def _entry_points() -> list[str]:
    """What installed packages register, as ``group: name = value``."""
    return sorted(f"{e.group}: {e.name} = {e.value}" for group in _ENTRY_POINTS for e in entry_points(group=group))


def _declarations(sources: Iterable[str]) -> dict[str, str]:
    """A digest of what every module declares: of these sources, and of all that entry points name."""
    registering = {value.rpartition(" = ")[2].partition(":")[0] for value in _entry_points()}
    patterns = [*(source.replace(".", "/") for source in sources)]
    patterns += [f"{package.replace('.', '/')}/**/*" for package in sorted(registering)]
    files: dict[str, Path] = {}
    for pattern in patterns:
        files |= _modules(pattern)
    return {module: digest(files[module].read_text(encoding="utf-8")) for module in sorted(files)}


def _modules(pattern: str) -> dict[str, Path]:
    """The files of selftune's modules that fit a pattern of paths, ``selftune/methods/*``, by dotted names.

    Their packages are found, not imported: that would import torch.
    """
    root = next((root for root in _ROOTS if pattern.startswith(f"{root.replace('.', '/')}/")), None)
    spec = None if root is None else find_spec(root)
    if root is None or spec is None or not spec.submodule_search_locations:
        return {}
    top = Path(spec.submodule_search_locations[0])
    found = top.glob(f"{pattern[len(root) + 1 :]}.py")
    return {".".join((root, *path.relative_to(top).with_suffix("").parts)): path for path in found}


def digest(source: str) -> str:
    """A digest of what a module declares."""
    lines = source.splitlines()
    return hashlib.sha256("\n".join(_declared(ast.parse(source).body, lines)).encode()).hexdigest()[:12]


def _declared(nodes: Iterable[ast.stmt], lines: Sequence[str]) -> Iterator[str]:
    """The lines that decide what a module registers and says of it: no imports, no bodies of functions."""
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom) or _is_text(node):
            continue
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from lines[node.lineno - 1 : node.end_lineno]
            continue
        bases = node.bases if isinstance(node, ast.ClassDef) else []
        for part in (*node.decorator_list, *bases):
            yield from lines[part.lineno - 1 : part.end_lineno]
        if node.decorator_list or isinstance(node, ast.ClassDef):
            yield node.name
            yield from (ast.get_docstring(node) or "").splitlines()
        if isinstance(node, ast.ClassDef):
            yield from _declared(node.body, lines)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


if __name__ == "__main__":
    INDEX.write_text(made(), encoding="utf-8")
    SHOWN.write_text(made_shown(), encoding="utf-8")

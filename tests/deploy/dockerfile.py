"""A Dockerfile's steps without a container engine: the same commands, in a folder that stands for the root.

Paths of the image are mapped into the folder wherever they occur. What needs the base image itself, such as
packages of Debian, is not run.
"""

import fnmatch
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple


class Instruction(NamedTuple):
    """One instruction of a Dockerfile, without comments and continued lines."""

    name: str
    text: str


class Stage(NamedTuple):
    """What follows a FROM."""

    name: str
    instructions: list[Instruction]

    def all(self, name: str) -> list[str]:
        """The texts of all instructions of a kind."""
        return [instruction.text for instruction in self.instructions if instruction.name == name]


def stages(file: Path) -> tuple[dict[str, str], list[Stage]]:
    """The arguments before the first FROM, and the stages."""
    text = re.sub(r"^\s*#.*\n", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    instructions = [Instruction(*line.split(maxsplit=1)) for line in lines if line.strip()]
    arguments: dict[str, str] = {}
    found: list[Stage] = []
    for instruction in instructions:
        if instruction.name == "FROM":
            found.append(Stage(instruction.text.partition(" AS ")[2], []))
        elif found:
            found[-1].instructions.append(instruction)
        else:
            name, _, value = instruction.text.partition("=")
            arguments[name] = value
    return arguments, found


class Tree:
    """A folder that stands for the root of an image, and what a build knows: its arguments and variables.

    Arguments:
        root: The folder. Users without rights have to reach it.
        context: The folder that is built from, beside whose Dockerfile is its list of what is left out.
        own: Paths of the image that lie in the folder. All others are this machine's.
    """

    def __init__(self, root: Path, context: Path, own: tuple[str, ...]) -> None:
        self.root = root
        self.context = context
        self.variables: dict[str, str] = {}
        self._own = re.compile(rf"(?<![\w./-])(?:{'|'.join(map(re.escape, own))})(?![\w-])")

    def mapped(self, text: str) -> str:
        """A text whose paths of the image lead into the folder."""
        return self._own.sub(lambda found: f"{self.root}{found[0]}", text)

    def substituted(self, text: str) -> str:
        """A text with the values of ``$NAME`` and ``${NAME}``."""
        return re.sub(r"\$\{?(\w+)\}?", lambda found: self.variables.get(found[1], ""), text)

    def run(self, stage: Stage, ignored: list[str], arguments: dict[str, str]) -> None:
        """Runs what a stage says.

        Raises:
            subprocess.CalledProcessError: A step failed.
            NotImplementedError: There is an instruction that this class does not know.
        """
        for name, text in stage.instructions:
            if name == "ARG":
                argument, given, value = text.partition("=")
                if argument in arguments or given:
                    self.variables[argument] = arguments.get(argument, value)
            elif name == "ENV":
                self.variables.update(environment(self.substituted(text)))
            elif name == "COPY":
                self._copy(*self.substituted(text).split(), ignored=ignored)
            elif name == "RUN":
                environ = {**os.environ, **self.variables}
                subprocess.run(["sh", "-c", self.mapped(text)], check=True, env=environ, cwd=self.root)
            else:
                raise NotImplementedError(f"{name} {text}")

    def _copy(self, source: str, target: str, ignored: list[str]) -> None:
        to = Path(self.mapped(target))
        for file in sorted(self.context.joinpath(source).rglob("*")) if source == "." else [self.context / source]:
            relative = file.relative_to(self.context)
            if file.is_file() and not is_ignored(str(relative), ignored):
                place = to / relative if source == "." else to
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(file, place)


def environment(text: str) -> dict[str, str]:
    """The variables of an ENV instruction, none of whose values has a space."""
    return dict(part.split("=", 1) for part in text.split())


def is_ignored(path: str, patterns: list[str]) -> bool:
    """Whether a file is left out: the last pattern that fits it, or a folder of it, decides."""
    parents = [path, *(str(parent) for parent in Path(path).parents if str(parent) != ".")]
    answer = False
    for pattern in patterns:
        bare = pattern.removeprefix("!")
        anywhere = bare.removeprefix("**/")
        fits = [fnmatch.fnmatch(Path(part).name if anywhere != bare else part, anywhere) for part in parents]
        if any(fits):
            answer = not pattern.startswith("!")
    return answer


def ignore_list(file: Path) -> list[str]:
    """The patterns of a .dockerignore file."""
    lines = (line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]

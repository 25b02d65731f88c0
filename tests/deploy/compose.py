"""A compose file without a container engine: what it says with its variables, and where its services are.

Every service has an address of its own in compose's network. Here all are on the loopback interface, so that each
of their ports becomes a free one.
"""

import re
from pathlib import Path

import yaml
from services.processes import free_port

HOSTS = ("postgresql", "object-store", "mlflow", "ray-head")
"""Services that others name."""


class MissingVariable(Exception):
    """What ``${NAME:?sentence}`` says where NAME is not set, or empty."""


def interpolated(text: str, variables: dict[str, str]) -> str:
    """The text of a compose file with the values of ``${NAME}``, ``${NAME:-default}`` and ``${NAME:?sentence}``.

    Raises:
        MissingVariable: One has to be set.
    """

    def value(found: re.Match[str]) -> str:
        name, kind, rest = found["name"], found["kind"], found["rest"]
        if found[0] == "$$":
            return "$"
        if variables.get(name):
            return variables[name]
        if kind == ":-":
            return rest
        raise MissingVariable(rest or f"{name} is not set")

    return re.sub(r"\$\$|\$\{(?P<name>\w+)(?:(?P<kind>:[-?])(?P<rest>[^}]*))?\}", value, text)


def services(file: Path, variables: dict[str, str]) -> dict[str, dict]:
    """The services of a compose file. Comments are no place for variables."""
    text = re.sub(r"^\s*#.*\n", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return yaml.safe_load(interpolated(text, variables))["services"]


class Loopback:
    """Where services listen on this machine: a free port for each port that they name."""

    def __init__(self) -> None:
        self._ports: dict[str, int] = {}

    def known(self, port: int | str, here: int) -> None:
        """A port of compose's network is this one here."""
        self._ports[str(port)] = here

    def port(self, port: int | str) -> int:
        """The port that stands for one of compose's network."""
        return self._ports.setdefault(str(port), free_port())

    def mapped(self, text: str) -> str:
        """A text whose hosts and ports are this machine's."""
        if text.startswith("--allowed-hosts="):
            return text
        text = text.replace("0.0.0.0", "127.0.0.1")
        text = re.sub(
            rf"\b(?:{'|'.join((*HOSTS, '127.0.0.1'))}):(\d+)\b",
            lambda found: f"127.0.0.1:{self.port(found[1])}",
            text,
        )
        return re.sub(r"^(--(?:[\w-]+-)?port=)(\d+)$", lambda found: f"{found[1]}{self.port(found[2])}", text)

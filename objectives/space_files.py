"""The named search spaces: for every family of regularizers a file with the priors of its entries.

``make docs`` writes them into search_spaces/spaces from what the entries declare.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from selftune.hyperparameters import Distribution
from selftune.regularization.regularizer import regularizers

_OWN = "selftune.objectives."  # entries of other packages are theirs to describe
_HEAD = (
    "# What a search draws the hyperparameters of this family's regularizers from: the priors of their domains.",
    "# For a study, take those whose regularizers are in it. Written by `make docs`.",
)


def folder() -> Path:
    """Where the files are.

    Raises:
        ImportError: if the package of packaged studies is not installed.
    """
    spec = find_spec("selftune.search_spaces")
    if spec is None or spec.origin is None:
        raise ImportError("the package selftune.search_spaces is missing; install selftune anew")
    return Path(spec.origin).parent / "spaces"


def priors(family: str) -> dict[str, Distribution]:
    """The priors of a family's hyperparameters, by their path in a study file.

    >>> priors("supervision")["regularizers.mixup.alpha"]
    LogUniform(low=0.05, high=8.0)
    """
    return {
        f"regularizers.{name}.{hyperparameter.name}": hyperparameter.domain.prior()
        for name in regularizers.names()
        if regularizers[name].family == family and regularizers[name].__module__.startswith(_OWN)
        for hyperparameter in regularizers[name].hyperparameters
        if hyperparameter.swept
    }


def families() -> tuple[str, ...]:
    """The families of the catalogue, each a space."""
    return tuple(
        sorted(
            {
                regularizers[name].family
                for name in regularizers.names()
                if regularizers[name].__module__.startswith(_OWN)
            }
        )
    )


def text(family: str) -> str:
    """The text of a family's file.

    >>> print(text("dynamics").splitlines()[2])
    regularizers.entropic_transport_cost.strength: {log_uniform: [0.001, 100.0]}
    """
    return "\n".join([*_HEAD, *(f"{key}: {_written(one)}" for key, one in priors(family).items())]) + "\n"


def _written(distribution: Distribution) -> str:
    ((name, values),) = distribution.to_mapping().items()
    return f"{{{name}: [{', '.join(_scalar(value) for value in values)}]}}"


def _scalar(value: Any) -> str:
    """A value as every reader of YAML takes it: 1.0e-05 is a number to all, 1e-05 a text to some."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    number = repr(value)
    mantissa, exponent, rest = number.partition("e")
    return f"{mantissa}.0e{rest}" if exponent and "." not in mantissa else number


def main() -> None:
    """Writes the files."""
    folder().mkdir(exist_ok=True)
    for old in folder().glob("*.yaml"):
        if old.stem not in families():
            old.unlink()
    for family in families():
        (folder() / f"{family}.yaml").write_text(text(family), encoding="utf-8")


if __name__ == "__main__":
    main()

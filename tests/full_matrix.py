"""Parameters of tests: a few that always run, and the rest of the matrix, which ``--full`` adds."""

import pytest


def first_of(values, always=1):
    """The first ``always`` values as they are; the others marked ``full``."""
    values = list(values)
    return [*values[:always], *(pytest.param(value, marks=pytest.mark.full) for value in values[always:])]

"""Tests of the smooth tasks share the problems of tests/hypergradients."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "hypergradients"))

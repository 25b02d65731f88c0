"""Settings of all tests, and which of them compare numbers."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

settings.register_profile("selftune", deadline=None, derandomize=True)  # a busy machine is no failure
settings.load_profile("selftune")
# Ray gives its workers a niceness of 15, at which they starve beside other tests.
os.environ.setdefault("RAY_worker_niceness", "0")
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))

NUMERICAL_ROOMS = ("conformance", "hypergradients", "hyperparameters", "methods", "objectives", "training")
"""Folders whose tests are marked ``numerical``: another processor may round their results otherwise."""


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="the full matrix: also what is marked full")
    parser.addoption("--integration", action="store_true", help="only what is marked integration")


def pytest_collection_modifyitems(config, items):
    integration = config.getoption("--integration")
    full = integration or config.getoption("--full")
    taken, left_out = [], []
    for item in items:
        if integration and not item.get_closest_marker("timeout"):  # the last one also clears away what all shared
            item.add_marker(pytest.mark.timeout(900))
        of_this_run = bool(item.get_closest_marker("integration")) == integration
        (taken if of_this_run and (full or not item.get_closest_marker("full")) else left_out).append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = taken
    here = Path(__file__).parent
    for item in items:
        if item.path.relative_to(here).parts[0] in NUMERICAL_ROOMS:
            item.add_marker(pytest.mark.numerical)

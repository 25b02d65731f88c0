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

_WITHOUT_GPU = pytest.StashKey[int]()
"""How many tests of GPUs there are, where there is none."""

NUMERICAL_ROOMS = ("conformance", "hypergradients", "hyperparameters", "methods", "objectives", "training")
"""Folders whose tests are marked ``numerical``: another processor may round their results otherwise."""


@pytest.fixture
def double():
    """Closed forms are compared in double precision, with seeded draws."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="the full matrix: also what is marked full")
    parser.addoption("--integration", action="store_true", help="only what is marked integration")
    parser.addoption("--gpu", action="store_true", help="only tests/gpu, on a GPU; says so where there is none")


def pytest_collection_modifyitems(config, items):
    integration, gpu = config.getoption("--integration"), config.getoption("--gpu")
    full = integration or gpu or config.getoption("--full")
    taken, left_out = [], []
    for item in items:
        if integration and not item.get_closest_marker("timeout"):  # the last one also clears away what all shared
            item.add_marker(pytest.mark.timeout(900))
        of_this_run = bool(item.get_closest_marker("integration")) == integration
        # what is not marked cuda in tests/gpu runs in the ordinary suite, too, without a GPU
        of_this_run &= _room(item) == "gpu" if gpu else not item.get_closest_marker("cuda")
        (taken if of_this_run and (full or not item.get_closest_marker("full")) else left_out).append(item)
    if gpu and not torch.cuda.is_available():
        config.stash[_WITHOUT_GPU] = len(taken)
        left_out, taken = [*left_out, *taken], []
    config.hook.pytest_deselected(items=left_out)
    items[:] = taken
    for item in items:
        if _room(item) in NUMERICAL_ROOMS:
            item.add_marker(pytest.mark.numerical)


def _room(item):
    return item.path.relative_to(Path(__file__).parent).parts[0]


def pytest_sessionfinish(session):
    if _WITHOUT_GPU in session.config.stash and session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
        session.exitstatus = pytest.ExitCode.OK


def pytest_terminal_summary(terminalreporter, config):
    if _WITHOUT_GPU in config.stash:
        number = config.stash[_WITHOUT_GPU]
        terminalreporter.write_line(f"torch finds no GPU here: {number} tests of tests/gpu were skipped")

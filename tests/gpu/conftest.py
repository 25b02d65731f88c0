"""Where tests of devices run: on a GPU with ``--gpu``, else on the emulated device, or on the CPU."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the runs that the tests share

from emulated_device import DEVICE, Watch, emulated_device


@pytest.fixture
def gpu(request):
    """Whether the tests run on a GPU."""
    return request.config.getoption("--gpu")


@pytest.fixture
def device(gpu):
    """A device that computes by itself."""
    return "cuda" if gpu else "cpu"


@pytest.fixture
def place(gpu):
    """A device apart from the host, by its name, and a watch that notes what passes between both.

    Where there is no GPU it is emulated.
    """
    if gpu:
        watch = Watch("cuda")
        with watch:
            yield SimpleNamespace(device="cuda", watch=watch)
    else:
        with emulated_device() as watch:
            yield SimpleNamespace(device=DEVICE.type, watch=watch)

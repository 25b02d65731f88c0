"""What is loaded when: the core must run on a machine that has only torch and numpy."""

import subprocess
import sys

import pytest

import selftune

OPTIONAL = (
    *(
        "ray",
        "mlflow",
        "optuna",
        "pydantic",
        "rich",
        "yaml",
        "pyarrow",
        "matplotlib",
        "jinja2",
        "sklearn",
        "pandas",
    ),
    *("pandas", "lightning", "pytorch_lightning", "transformers", "accelerate"),
)

TUNE = """
import torch
from selftune import Classification, Optimization, Tune, replay, tune
data = torch.randn(32, 4), torch.randint(3, (32,))
network = lambda: torch.nn.Sequential(torch.nn.Linear(4, 3))
objective = Classification(network, data, data, data, Optimization(batch_size=16))
regularizers = {"weight_decay": {"strength": Tune(1e-3)}}
result = tune(objective, regularizers, steps=20, warmup_steps=10, progress=True)
replay(objective, regularizers, result.schedule.stretched(10))
repr(result), result._repr_html_()
"""


def loaded_by(code):
    script = f"import sys\n{code}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["selftune", "selftune.cli"])
def test_importing_loads_nothing_heavy(module):
    assert not loaded_by(f"import {module}") & {*OPTIONAL, "torch", "numpy"}


def test_tuning_needs_torch_and_numpy_only():
    assert not loaded_by(TUNE) & set(OPTIONAL)


@pytest.mark.parametrize(
    "module",
    [
        "hyperparameters",
        "methods",
        "hypergradients",
        "training",
        "regularization",
        "lower_level",
        "registries.diagnostics",
    ],
)
def test_the_core_loads_nothing_optional(module):
    assert not loaded_by(f"import selftune.{module}") & set(OPTIONAL)


def test_public_names():
    assert set(selftune.__all__) <= set(dir(selftune))
    assert selftune.Tune(0.1).start == 0.1
    with pytest.raises(AttributeError, match="no attribute 'tun'"):
        _ = selftune.tun

"""What every smooth task promises in a study: it is found by name, reproducible, picklable, and starts well."""

from __future__ import annotations

import pickle

import pytest
import torch

from selftune.errors import SettingError
from selftune.hypergradients.lower_solvers import AcceleratedGradient
from selftune.hypergradients.oracle import Oracle
from selftune.hyperparameters import Space
from selftune.lower_level.objective import tasks
from selftune.studies.mistakes import Mistakes
from selftune.studies.settings import build_settings

SMALL = {"train_crops": 2, "validation_crops": 1, "test_crops": 1, "crop": 12}
TASKS = {
    "quadratic_bilevel": {},
    "ridge": {},
    "logistic_regression": {"groups": "per_class"},
    "total_variation_denoising": SMALL,
    "field_of_experts_denoising": SMALL,
}


@pytest.fixture(params=TASKS)
def name(request):
    return request.param


def build(name, **settings):
    return tasks[name](**{**TASKS[name], **settings})


def test_a_study_builds_it(name):
    objective = build_settings(tasks[name], dict(TASKS[name]))
    assert isinstance(objective, tasks[name])


def test_wrong_types_and_unknown_keys_are_named(name):
    with pytest.raises(Mistakes, match="dtype: must be 'float64' or 'float32', got 'float16'"):
        build_settings(tasks[name], {"dtype": "float16"})
    with pytest.raises(Mistakes, match="devise: unknown key; did you mean device"):
        build_settings(tasks[name], {"devise": "cpu"})


def test_a_missing_device_is_refused(name):
    with pytest.raises(SettingError, match="device: 'cuda:9' cannot be used"):
        build(name, device="cuda:9")


def test_all_hyperparameters_are_tuned_smooth_and_shared(name):
    objective = build(name)
    assert all(h.tuned and h.smooth and h.shared for h in objective.hyperparameters)
    assert all(
        h.domain.is_interior(value) for h in objective.hyperparameters for value in h.tensor.reshape(-1).tolist()
    )
    names = Space(objective.hyperparameters).names
    assert len(set(names)) == len(names)


def test_the_same_settings_give_the_same_problem(name):
    first, second = (Oracle(build(name)) for _ in range(2))
    torch.manual_seed(3)
    third = Oracle(pickle.loads(pickle.dumps(build(name))))
    x, u = first.start_x(), first.start_u()
    for other in (second, third):
        assert torch.equal(other.start_x(), x)
        assert torch.equal(other.grad_x(x, u), first.grad_x(x, u))
        assert other.upper(x, u) == first.upper(x, u)


def test_another_seed_gives_another_problem(name):
    seed = "split_seed" if name in ("ridge", "logistic_regression") else "seed"
    first, second = Oracle(build(name)), Oracle(build(name, **{seed: 5}))
    x, u = torch.linspace(-1, 1, first.n, dtype=torch.float64), first.start_u()
    assert first.upper(x, u) != second.upper(x, u)


def test_float32_is_float32_throughout(name):
    oracle = Oracle(build(name, dtype="float32"))
    x, u = oracle.start_x(), oracle.start_u()
    assert x.dtype == u.dtype == torch.float32
    assert oracle.grad_x(x, u).dtype == oracle.hvp(x, u)(x + 1).dtype == oracle.JT(x, u, x).dtype == torch.float32


def test_the_start_is_solved_quickly(name):
    oracle = Oracle(tasks[name]() if name != "field_of_experts_denoising" else build(name))
    solution = AcceleratedGradient().solve(oracle, oracle.start_u(), oracle.start_x(), 1e-3)
    assert solution.reason == "tolerance"
    assert solution.iterations < 1000


def test_metrics_are_numbers(name):
    objective = build(name)
    oracle = Oracle(objective)
    x, u = oracle.start_x(), oracle.start_u()
    measured = objective.metrics(oracle.unravel(x), oracle.values(u))
    assert all(isinstance(value, float) for value in measured.values())
    assert bool(measured) == (name != "quadratic_bilevel")


@pytest.mark.parametrize(
    ("name", "settings", "key"),
    [
        ("quadratic_bilevel", {"parameter_count": 0}, "parameter_count"),
        ("quadratic_bilevel", {"hyperparameter_count": 0}, "hyperparameter_count"),
        ("quadratic_bilevel", {"hyperparameter_count": 30}, "hyperparameter_count"),
        ("quadratic_bilevel", {"condition": 0.5}, "condition"),
        ("quadratic_bilevel", {"noise": -1.0}, "noise"),
        ("ridge", {"train_examples": 1}, "train_examples"),
        ("ridge", {"train_examples": 300}, "train_examples"),
        ("logistic_regression", {"validation_examples": 0}, "train_examples"),
        ("logistic_regression", {"train_examples": 1797}, "train_examples"),
        ("total_variation_denoising", {"train_crops": 0}, "train_crops"),
        ("total_variation_denoising", {"test_crops": -1}, "test_crops"),
        ("total_variation_denoising", {"crop": 4}, "crop"),
        ("total_variation_denoising", {"crop": 2000}, "crop"),
        ("total_variation_denoising", {"noise": 0.0}, "noise"),
        ("field_of_experts_denoising", {"experts": 0}, "experts"),
        ("field_of_experts_denoising", {"filter_size": 1}, "filter_size"),
        ("field_of_experts_denoising", {"filter_size": 13}, "filter_size"),
    ],
)
def test_settings_out_of_range_are_named(name, settings, key):
    with pytest.raises(SettingError) as error:
        build(name, **settings)
    assert error.value.key == key

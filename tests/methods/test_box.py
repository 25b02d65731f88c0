"""The box: limits on one side, for one part, and where scales end when nobody says anything."""

import math

import pytest
import torch
from selftune.objectives.tasks.quadratic_bilevel import QuadraticBilevel
from selftune.objectives.tasks.ridge import RidgeRegression

from selftune.errors import SettingError
from selftune.hyperparameters import Hyperparameter, Interval, Positive, Space, Unit
from selftune.methods import Implicit, ImplicitSettings, InexactLineSearch, InexactLineSearchSettings
from selftune.methods.box import box_of
from selftune.studies.mistakes import Mistakes
from selftune.studies.study_file import parse_study
from selftune.training import SmoothTrainer

SETTINGS = {InexactLineSearch: InexactLineSearchSettings, Implicit: ImplicitSettings}


def space(domain, start, parts=()):
    return Space([Hyperparameter("h", domain, start, parts, tuned=True, shared=True)])


@pytest.mark.parametrize(
    ("domain", "start", "low", "high"),
    [
        (Positive(), 1.0, -30, 30),
        (Positive(), 1e-20, -30 - 20 * math.log(10), 30),
        (Positive(), 1e20, -30, 30 + 20 * math.log(10)),
        (Unit(), 0.5, -30, 30),
        (Interval(), 1e6, -math.inf, math.inf),
        (Interval(0.0), 1e6, -30, math.inf),
        (Interval(high=0.0), -1e6, -30, math.inf),  # runs backwards
    ],
)
def test_without_a_word_a_coordinate_ends_where_its_scale_is_flat(domain, start, low, high):
    found = [float(side) for side in box_of(space(domain, start))]
    assert found == pytest.approx([low, high])


@pytest.mark.parametrize(
    ("domain", "start", "pair", "value"),
    [
        (Positive(), 1.0, (None, 2.0), 2.0),
        (Positive(), 1.0, (0.5, None), 0.5),
        (Interval(), 1.0, (None, 2.0), 2.0),
        (Interval(high=3.0), 1.0, (None, 2.0), 2.0),
        (Interval(high=3.0), 1.0, (0.5, None), 0.5),
        (Unit(), 0.5, (0.0, 0.75), 0.75),  # zero is the domain's own end
    ],
)
def test_a_limit_on_one_side_leaves_the_other(domain, start, pair, value):
    tuned = space(domain, start)
    low, high = box_of(tuned, limits={"h": pair})
    free_low, free_high = box_of(tuned)
    changed = [side for side, free in ((low, free_low), (high, free_high)) if side != free]
    assert len(changed) == 1
    assert float(tuned.constrain(changed[0])) == pytest.approx(value)


def test_a_part_goes_before_its_hyperparameter_and_both_before_the_bound():
    low, high = box_of(
        space(Positive(), (0.5, 0.5, 0.5), ("a", "b", "c")), 9.0, {"h": (0.1, 1.0), "h[b]": (None, 2.0)}
    )
    assert low.exp().tolist() == pytest.approx([0.1, math.exp(-9), 0.1])
    assert high.exp().tolist() == pytest.approx([1.0, 2.0, 1.0])


def run(problem, kind, work=400, **settings):
    trainer = SmoothTrainer(problem)
    method = kind(work, settings=SETTINGS[kind](**settings))
    method.join(0, trainer.space)
    seen = []
    while not method.stopped:
        for member, order in method.ask().items():
            method.tell(member, trainer.execute(order))
            seen.append(method.hyperparameters)
    return method, torch.stack(seen)


@pytest.mark.parametrize("kind", SETTINGS)
@pytest.mark.parametrize("update", ["hoag", "adam"])
def test_every_step_stays_inside(kind, update):
    inputs = torch.randn(24, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    splits = zip(inputs.split(8), (inputs @ torch.ones(3).double()).split(8), strict=True)
    problem = RidgeRegression(*splits, start=0.1)  # without noise, weaker is better
    free = {} if kind is InexactLineSearch else {"update": update, "learning_rate": 0.5}
    limits = {"ridge.strength": (0.05, None), "ridge.strength[1]": (0.02, 0.2)}
    method, seen = run(problem, kind, limits=limits, **free)
    lowest = torch.tensor([0.05, 0.02, 0.05], dtype=torch.float64)
    highest = torch.tensor([math.inf, 0.2, math.inf], dtype=torch.float64)
    assert ((seen >= lowest * (1 - 1e-12)) & (seen <= highest)).all()
    torch.testing.assert_close(seen[-1][:2], lowest[:2], rtol=0.02, atol=0)
    if kind is InexactLineSearch:
        assert method.stopped == "stationary"


def test_an_optimum_far_out_on_a_linear_scale_is_not_cut_off():
    problem = QuadraticBilevel(parameter_count=4, hyperparameter_count=2)
    problem.b1 = 1e3 * problem.b1
    far = problem.optimum()
    assert far.abs().max() > 100
    method, _ = run(problem, InexactLineSearch, work=2000, tolerance=1e-2)
    torch.testing.assert_close(method.hyperparameters, far, rtol=1e-3, atol=0.1)


@pytest.mark.parametrize(
    ("settings", "key", "words"),
    [
        ("limits: {ridge.strenth: [0.1, 1]}", "method.limits.ridge.strenth", "did you mean ridge.strength?"),
        ("limits: {ridge.strength: [1, 0.1]}", "method.limits.ridge.strength", "needs low < high"),
        ("limits: {ridge.strength: [-1, 1]}", "method.limits.ridge.strength", "a positive number"),
        ("limits: {ridge.strength: [0.2, 1]}", "method.limits", "it starts at 0.1; start inside"),
        ("bound: 1", "method.bound", "from 0.367879 to 2.71828, but it starts at 0.1"),
    ],
)
def test_limits_that_make_no_sense_are_refused_before_anything_starts(settings, key, words):
    text = "study: s\nobjective: {task: ridge, groups: one}\nbudget: {steps: 3}\n"
    with pytest.raises(Mistakes) as caught:
        parse_study(text + f"method: {{name: inexact_line_search, {settings}}}\n")
    (mistake,) = caught.value.mistakes
    assert mistake.key == key
    assert words in mistake.message


def test_a_study_file_takes_limits():
    text = "study: s\nobjective: {task: ridge, groups: one}\nbudget: {steps: 3}\n"
    for name in ("inexact_line_search", "implicit"):
        study = parse_study(text + f"method: {{name: {name}, limits: {{ridge.strength: [1.0e-6, null]}}}}\n")
        method = study.strategy.method()
        method.join(0, study.space)
        assert float(method._box[0].exp()) == pytest.approx(1e-6)


@pytest.mark.parametrize("pair", [(1.0,), "ab", (True, None), (math.nan, 1.0), 3])
def test_what_is_no_pair_is_refused(pair):
    with pytest.raises(SettingError, match="must be two numbers") as caught:
        InexactLineSearchSettings(limits={"h": pair})
    assert caught.value.key == "limits.h"

"""A comparison is checked before anything runs, and is the same cells every time."""

import pytest
import yaml

from selftune.errors import SettingError
from selftune.studies.mistakes import Mistakes
from selftune.sweeps.comparison.comparison import comparison_of
from selftune.sweeps.comparison.comparison_settings import ComparisonSettings

STUDY = """\
study: tiny
objective: {task: digits, hidden: [8], train_examples: 100}
regularizers:
  dropout: {rate: {start: 0.1}}
  weight_decay: {strength: {start: 1.0e-4}}
method: {name: self_tuning, warmup_steps: 10}
budget: {steps: 100}
seed: 5
"""


def compared(*methods, text=STUDY, **settings):
    settings = {"steps": 400, "seeds": 2} | settings
    return comparison_of(text, ComparisonSettings(methods=methods, **settings))


def test_all_methods_have_one_seed_before_the_next():
    assert [cell.name for cell in compared("held", "tpe").cells] == ["held-5", "tpe-5", "held-6", "tpe-6"]


def test_a_searcher_that_learns_nothing_within_the_budget_is_said_to():
    sentence = "tpe: its first 10 trials are random, and the budget lasts for 4, so that it is random search"
    assert compared("random", "tpe").notes == [sentence]
    assert not compared("random", "tpe", steps=1200).notes


def test_every_start_is_the_same_for_all():
    comparison = compared("self_tuning", "tpe", starts=3)
    starts = [cell for cell in comparison.cells if cell.by_start]
    assert [cell.name for cell in starts] == ["self_tuning-starts", "random-starts"]
    online, random = ([dict(sorted(one.items())) for one in cell.swept.settings.first] for cell in starts)
    assert [list(one.values()) for one in online] == [list(one.values()) for one in random]
    assert len(online) == starts[0].swept.settings.trials == 3
    assert starts[1].swept.settings.seed == 5


@pytest.mark.parametrize(
    ("methods", "sentence"),
    [
        (("tpa",), "methods: unknown method 'tpa'; did you mean tpe?"),
        (("tpe", "tpe"), "methods: tpe is there twice; name it once"),
        ((), "methods: is empty; name at least one method"),
        (("stochastic_bilevel",), "methods: unknown method 'stochastic_bilevel'; known are"),
        (("self_tuning+tpe",), "methods: unknown method 'self_tuning.tpe'"),
        (("penalty",), "methods: with penalty, "),
    ],
)
def test_methods_that_cannot_be_compared(methods, sentence):
    text = STUDY.replace("train_examples: 100", "train_examples: 100, optimizer: adam")
    with pytest.raises(SettingError, match=f"^{sentence}"):
        compared(*methods, text=text)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"steps": 99},
            "budget: lasts for less than one trial of tpe, which is 100 training steps; give at least",
        ),
        ({"steps": 0}, "budget: must be at least 1 training step, got 0"),
        ({"steps": None}, "budget: must be given once, in training steps or in seconds"),
        ({"steps": None, "seconds": -1.0}, "budget: must be a positive number of seconds, got -1"),
        ({"starts": 1}, "starts: must be at least 2, or 0 for none, got 1"),
        ({"seeds": 0}, "seeds: must be at least 1, got 0"),
    ],
)
def test_settings_out_of_range(settings, sentence):
    with pytest.raises(SettingError, match=f"^{sentence}"):
        compared("tpe", **settings)


def test_pairs_of_networks_need_twice_the_budget():
    text = STUDY.replace("steps: 100}", "steps: 300}")
    with pytest.raises(SettingError, match="which is 300 training steps of 2 networks; give at least 600"):
        compared("penalty", text=text)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"sweep": {"trials": 2}}, "sweep: cannot be compared"),
        ({"budget": {"seconds": 5}}, "budget: must be in steps"),
        ({"budget": {"steps": 100, "patience": 3}}, "budget.patience: would end trials at different lengths"),
        ({"method": {"name": "held"}, "regularizers": {"dropout": {"rate": 0.1}}}, "regularizers: tunes nothing"),
    ],
)
def test_studies_that_cannot_be_compared(change, sentence):
    with pytest.raises(Mistakes, match=f"^{sentence}"):
        compared("tpe", text=yaml.safe_dump({**yaml.safe_load(STUDY), **change}))


def test_a_smooth_problem_is_refused():
    text = "study: s\nobjective: {task: ridge}\nmethod: {name: implicit}\nbudget: {steps: 5}\n"
    with pytest.raises(Mistakes, match="is a smooth problem; only studies that train networks"):
        compared("tpe", text=text)

"""Each method's sweep is a study file that reads, and says what that method would do."""

import pytest
import yaml

from selftune.studies.mistakes import Mistakes
from selftune.studies.study_file import parse_study
from selftune.studies.yaml_file import parse_yaml
from selftune.sweeps.comparison.compared_method import compared_method
from selftune.sweeps.comparison.comparison_settings import ComparisonSettings
from selftune.sweeps.comparison.method_sweep import POPULATION, MethodSweeps
from selftune.sweeps.comparison.tuned_space import tuned_keys
from selftune.sweeps.sweep_file import parse_sweep

STUDY = """\
study: tiny
objective: {task: digits, hidden: [8, 8], train_examples: 100}
regularizers:
  dropout: {parts: {input: [hidden1], hidden: [hidden2, output]}, rate: {start: 0.1}}
  weight_decay: {parts: layer, strength: {start: 1.0e-4}}
  label_smoothing: {epsilon: {start: 0.02, domain: {interval: [0, 0.5]}}}
method: {name: self_tuning, warmup_steps: 10, learning_rate: 0.02}
budget: {steps: 300}
"""
RATE, STRENGTH, EPSILON = (
    "regularizers.dropout.rate",
    "regularizers.weight_decay.strength",
    "regularizers.label_smoothing.epsilon",
)


def sweeps_of(text=STUDY, **settings):
    study = parse_study(text)
    settings = ComparisonSettings(methods=("held",), **({"steps": 2400} | settings))
    return MethodSweeps(parse_yaml(text), study, tuned_keys(study), settings)


def written(name, seed=3, text=STUDY, **settings):
    sweeps = sweeps_of(text, **settings)
    made = sweeps.text(compared_method(name, sweeps.study.objective), seed)
    return parse_sweep(made), yaml.safe_load(made)


@pytest.mark.parametrize("name", ["random", "quasi-random", "tpe", "asha", "median", "pbt"])
def test_searches_draw_one_value_per_hyperparameter_and_hold_it(name):
    swept, content = written(name)
    assert content["sweep"]["over"] == {
        RATE: {"uniform": [0.0, 0.95]},
        STRENGTH: {"log_uniform": [1e-6, 0.1]},
        EPSILON: {"uniform": [0.0, 0.5]},
    }
    assert content["method"] == {"name": "held"}
    trial = swept.sample({RATE: 0.2, STRENGTH: 1e-3, EPSILON: 0.1})
    assert not trial.space.tuned
    assert trial.seed == swept.settings.seed == 3
    assert (swept.settings.steps, swept.study.budget.steps) == (2400, 300)


def test_searchers_and_schedulers_are_those_of_the_name():
    for name, searcher, scheduler in [("tpe", "tpe", "none"), ("asha", "random", "asha")]:
        section = written(name)[1]["sweep"]
        assert (section["searcher"], section["scheduler"]) == (searcher, scheduler)


def test_methods_that_tune_online_start_at_the_studys_values_and_then_at_random_ones():
    swept, content = written("self_tuning")
    assert content["sweep"]["over"] == {
        f"{RATE}.start": {"uniform": [0.0, 0.95]},
        f"{STRENGTH}.start": {"log_uniform": [1e-6, 0.1]},
        f"{EPSILON}.start": {"uniform": [0.0, 0.5]},
    }
    assert content["sweep"]["first"] == [
        {f"{RATE}.start": 0.1, f"{STRENGTH}.start": 1e-4, f"{EPSILON}.start": 0.02}
    ]
    assert content["method"] == {"name": "self_tuning", "warmup_steps": 10, "learning_rate": 0.02}
    drawn = swept.sample({f"{RATE}.start": 0.5, f"{STRENGTH}.start": 1e-3, f"{EPSILON}.start": 0.1})
    assert set(drawn.space.names) == set(parse_study(STUDY).space.names)
    assert drawn.space.constrain(drawn.space.start)[0].item() == pytest.approx(0.5)


def test_what_a_method_cannot_move_is_drawn_and_held():
    """The training loss is no differentiable function of dropout's rate."""
    swept, content = written("implicit")
    assert set(content["sweep"]["over"]) == {RATE, f"{STRENGTH}.start", f"{EPSILON}.start"}
    assert content["sweep"]["first"][0][RATE] == 0.1
    assert content["method"] == {"name": "implicit"}
    assert not any(name.startswith("dropout") for name in swept.study.space.names)


def test_a_method_whose_networks_come_in_pairs_counts_both():
    sweeps = sweeps_of()
    penalty = compared_method("penalty", sweeps.study.objective)
    assert sweeps.members(penalty) == 2
    assert sweeps.members(compared_method("tpe", sweeps.study.objective)) == 1


def test_workers_are_those_of_the_study():
    text = STUDY + "trainers: {number: 1, workers: 2}\n"
    for name in ("tpe", "self_tuning"):
        assert written(name, text=text)[0].study.trainers.workers == 2


def test_start_values_are_held_as_the_study_has_them():
    text = STUDY.replace("rate: {start: 0.1}", "rate: {start: {input: 0.1, hidden: 0.3}}")
    swept, content = written("held", text=text)
    assert content["regularizers"]["dropout"]["rate"] == {"start": {"input": 0.1, "hidden": 0.3}}
    assert (content["method"], swept.settings.trials) == ({"name": "held"}, 1)


def test_the_rule_holds_what_rules_say():
    _, content = written("rule")
    assert content["regularizers"]["label_smoothing"]["epsilon"]["start"] == 0.1
    assert content["method"] == {"name": "held"}


def test_a_population_is_as_large_as_the_budget():
    assert written("pbt")[1]["sweep"]["trials"] == 8
    assert written("pb2", steps=None, seconds=60.0)[1]["sweep"]["trials"] == POPULATION


def test_a_scheduler_may_stand_around_a_method_that_tunes_online():
    _, content = written("self_tuning+asha")
    assert content["sweep"]["scheduler"] == "asha"
    assert content["method"]["name"] == "self_tuning"


def test_start_values_may_differ_from_part_to_part():
    text = STUDY.replace("rate: {start: 0.1}", "rate: {start: {input: 0.1, hidden: 0.3}}")
    swept, content = written("self_tuning", text=text)
    first = content["sweep"]["first"][0]
    assert (first[f"{RATE}.start.input"], first[f"{RATE}.start.hidden"]) == (0.1, 0.3)
    assert swept.study.space.names[:2] == ("dropout.rate[input]", "dropout.rate[hidden]")


def test_a_start_value_outside_of_the_prior_widens_it():
    _, content = written("random", text=STUDY.replace("1.0e-4", "1.0e-8"))
    assert content["sweep"]["over"][STRENGTH] == {"log_uniform": [1e-8, 0.1]}


def test_a_study_that_a_method_can_tune_nothing_of():
    text = "\n".join(line for line in STUDY.splitlines() if "weight_decay" not in line and "smoothing" not in line)
    with pytest.raises(Mistakes, match="it can tune nothing of this study"):
        written("implicit", text=text)


def test_searches_try_the_start_values_first():
    _, content = written("tpe")
    assert content["sweep"]["first"] == [{RATE: 0.1, STRENGTH: 1e-4, EPSILON: 0.02}]

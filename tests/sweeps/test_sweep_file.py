import pytest
import yaml

from selftune.studies.mistakes import Mistakes
from selftune.sweeps.sweep_file import is_sweep, parse_sweep

STUDY = {
    "study": "small",
    "objective": {"task": "digits", "hidden": [4]},
    "regularizers": {"dropout": {"rate": 0.1}, "label_smoothing": {"epsilon": 0.02}},
    "budget": {"steps": 400},
}
RATE = {"regularizers.dropout.rate": {"uniform": [0, 0.5]}}


def text(sweep, **changes):
    return yaml.safe_dump({**STUDY, **changes, "sweep": {"trials": 2, **sweep}})


def refused(sweep, **changes):
    with pytest.raises(Mistakes) as error:
        parse_sweep(text(sweep, **changes))
    return [str(mistake) for mistake in error.value.mistakes]


def test_a_study_file_is_a_sweep_if_it_has_the_section():
    assert is_sweep(text({"over": RATE}))
    assert not is_sweep(yaml.safe_dump(STUDY))


def test_every_sample_is_a_study_with_the_values_at_their_keys():
    over = RATE | {
        "objective.optimization.learning_rate": {"log_uniform": [1e-4, 1e-1]},
        "objective.hidden": {"choice": [[4], [8, 8]]},
        "regularizers.mixup.alpha": "domain",
        "seed": {"integer": [0, 5]},
    }
    swept = parse_sweep(text({"over": over}))
    values = swept.space.draw(lambda one: one.distribution.quantile(1.0))
    study = swept.sample(values)
    assert study.objective.optimization.learning_rate == pytest.approx(0.1)
    assert study.objective.network()[0].out_features == 8
    assert {r.name: r.settings for r in study.regularizers} == {
        "dropout": {"rate": 0.5},
        "label_smoothing": {"epsilon": 0.02},
        "mixup": {"alpha": pytest.approx(8.0)},
    }
    assert study.seed == 5
    assert study.method_name == "held", "nothing is tuned inside of the trials"


def test_a_section_and_what_is_in_it_are_swept_in_any_order():
    rate = {"objective.optimization.learning_rate": {"choice": [0.5]}}
    section = {"objective.optimization": {"choice": [{"optimizer": "sgd"}]}}
    for over in (rate | section, section | rate):
        swept = parse_sweep(yaml.safe_dump({**STUDY, "sweep": {"over": over, "trials": 1}}, sort_keys=False))
        optimization = swept.study.objective.optimization
        assert (optimization.optimizer, optimization.learning_rate) == ("sgd", 0.5)


def test_start_values_are_swept_where_the_study_tunes():
    regularizers = {"dropout": {"rate": {"start": 0.1, "domain": {"interval": [0, 0.6]}}}}
    swept = parse_sweep(text({"over": {"regularizers.dropout.rate.start": "domain"}}, regularizers=regularizers))
    values = swept.space.draw(lambda one: one.distribution.quantile(0.75))
    assert values == {"regularizers.dropout.rate.start": pytest.approx(0.45)}, "the study's own, narrower domain"
    study = swept.sample(values)
    assert study.method_name == "self_tuning"
    assert study.regularizers[0].settings["rate"].start == pytest.approx(0.45)


def test_a_named_space_gives_the_keys_of_the_regularizers_that_are_there():
    swept = parse_sweep(text({"space": "supervision", "over": RATE}))
    assert set(swept.space.keys) == {"regularizers.dropout.rate", "regularizers.label_smoothing.epsilon"}
    assert swept.space["regularizers.dropout.rate"].distribution.high == 0.5, "`over` comes before the space"


def test_a_key_is_there_only_under_its_condition():
    optimizer, momentum = "objective.optimization.optimizer", "objective.optimization.momentum"
    over = {momentum: {"uniform": [0, 0.9], "when": {optimizer: "sgd"}}, optimizer: {"choice": ["adam", "sgd"]}}
    space = parse_sweep(text({"over": over})).space
    assert space.keys == (optimizer, momentum), "a key comes after those that it depends on"
    assert space.draw(lambda one: one.distribution.quantile(0.0)) == {optimizer: "adam"}
    assert space.draw(lambda one: one.distribution.quantile(1.0)) == {optimizer: "sgd", momentum: 0.9}


def test_searcher_and_scheduler_have_settings_or_just_a_name():
    swept = parse_sweep(
        text(
            {
                "over": RATE,
                "searcher": {"name": "tpe", "startup_trials": 3},
                "scheduler": "asha",
                "budget": {"steps": 1000},
                "metric": "validation_accuracy",
            }
        )
    )
    settings = swept.settings
    assert (settings.searcher.startup_trials, settings.scheduler.reduction_factor) == (3, 4)
    assert (settings.steps, settings.metric, settings.mode, settings.report_every) == (
        1000,
        "validation_accuracy",
        "max",
        20,
    )


def test_a_sample_that_does_not_fit_together_is_refused_with_a_reason():
    key, batch = "objective.optimization.accumulate", "objective.optimization.schedule"
    over = {key: {"choice": [1, 4]}, batch: {"choice": ["constant", "cosine"]}}
    swept = parse_sweep(text({"over": over}))
    assert swept.refusal({key: 1, batch: "cosine"}) is None
    assert "accumulate" in (swept.refusal({key: 0, batch: "cosine"}) or "")


@pytest.mark.parametrize(
    ("sweep", "changes", "says"),
    [
        ({"over": RATE}, {"regularizers": {"dropout": {"rate": {"start": 0.1}}}}, "is swept and tuned at once"),
        ({"over": RATE}, {"regularizers": {"dropout": {"rate": "tune"}}}, "is swept and tuned at once"),
        (
            {"over": {"regularizers.dropout.rate.start": "domain"}},
            {},
            "start value of what the study fixes",
        ),
        (
            {"over": {"regularizers.dropout.rate": {"uniform": [0, 2]}}},
            {},
            "sweep.over.regularizers.dropout.rate: draws 2",
        ),
        (
            {"over": {"objective.optimization.learning_rate": {"uniform": [-1, 1]}}},
            {},
            "sweep.over.objective.optimization.learning_rate: at ",
        ),
        ({"over": {"objective.hidden": {"choice": [[4], "wide"]}}}, {}, "sweep.over.objective.hidden: at 'wide'"),
        ({"over": {"objective.hiden": {"integer": [1, 2]}}}, {}, "sweep.over.objective.hiden: unknown key"),
        (
            {"over": {"objective.task.name": {"choice": ["a"]}}},
            {},
            "objective.task is 'digits', which has",
        ),
        ({"over": {"trainers.number": {"integer": [1, 2]}}}, {}, "trainers is the same for all trials"),
        ({"over": {"objective.hidden": "domain"}}, {}, "is no hyperparameter of a regularizer"),
        ({"over": {"objective.hidden": {"gaussian": [0, 1]}}}, {}, "unknown distribution"),
        ({"over": {}}, {}, "sweep.over: must map keys"),
        ({}, {}, "sweep.over: is missing"),
        ({"space": "supervison"}, {}, "did you mean supervision?"),
        ({"space": "dynamics"}, {}, "has no key of a regularizer that is in this study"),
        ({"over": RATE, "metric": "validation_los"}, {}, "sweep.metric: no trial reports 'validation_los'"),
        ({"over": RATE, "trial": 3}, {}, "sweep.trial: unknown key; did you mean trials?"),
        ({"over": RATE, "searcher": "tpee"}, {}, "sweep.searcher: unknown name 'tpee'; did you mean tpe?"),
        ({"over": RATE, "searcher": {"name": "tpe", "startup": 3}}, {}, "sweep.searcher.startup: unknown key"),
        ({"over": RATE, "budget": {"steps": 100}}, {}, "sweep.budget.steps: lasts for less than one trial"),
        ({"over": RATE, "budget": {"work": 100}}, {}, "sweep.budget.work: unknown key"),
        ({"over": RATE, "report_every": 401}, {}, "sweep.report_every: must be at most 400"),
        ({"over": RATE, "scheduler": "pbt", "trials": 3}, {}, "give at least 4"),
        ({"over": RATE, "scheduler": "pbt", "searcher": "tpe", "trials": 4}, {}, "must be random or quasi-random"),
        ({"over": RATE, "searcher": "cmaes"}, {}, "needs at least two numbers"),
        (
            {"over": RATE, "first": [{"regularizers.dropout.rate": 0.7}]},
            {},
            "sweep.first.0.regularizers",
        ),
        ({"over": RATE}, {"budget": {"seconds": 3}}, "budget: must be in steps where a study is swept"),
        (
            {"over": RATE | {"seed": {"integer": [0, 1], "when": {"objective.hidden": 1}}}},
            {},
            "sweep.over.seed.when.objective.hidden: is not swept",
        ),
        (
            {"over": RATE | {"objective.hidden": {"choice": [[4]], "when": {"regularizers.dropout.rate": []}}}},
            {},
            "sweep.over.objective.hidden.when.regularizers.dropout.rate: is an empty list",
        ),
        ({"over": RATE, "searcher": 3}, {}, "sweep.searcher: must be a name (random, grid, quasi-random, tpe"),
        ({"over": RATE, "searcher": {"name": "random", "n": 3}}, {}, "searcher.n: unknown key; there are none"),
        ({"over": RATE, "scheduler": ["asha"]}, {}, "sweep.scheduler: must be a name (none, asha"),
        ({"over": RATE, "budget": {}}, {}, "sweep.budget: says nothing; give steps, or seconds"),
        ({"over": {"foo.bar": {"integer": [1, 2]}}}, {}, "sweep.over.foo.bar: foo is an unknown key; known are"),
        ({"over": RATE, "trials": 10**30}, {}, "; whole numbers are smaller than 2**63"),
    ],
)
def test_what_cannot_be_swept_is_refused_in_one_sentence_with_its_key(sweep, changes, says):
    mistakes = refused(sweep, **changes)
    assert len(mistakes) == 1
    assert says in mistakes[0]


def test_without_trials_and_budget_a_search_would_never_end():
    with pytest.raises(Mistakes, match=r"sweep\.trials: is missing"):
        parse_sweep(yaml.safe_dump({**STUDY, "sweep": {"over": RATE}}))


def test_smooth_problems_are_not_swept():
    study = {
        "study": "ridge",
        "objective": {"task": "ridge"},
        "method": {"name": "implicit"},
        "budget": {"steps": 3},
    }
    with pytest.raises(Mistakes, match="is for studies that train networks"):
        parse_sweep(yaml.safe_dump({**study, "sweep": {"over": {"seed": {"integer": [0, 3]}}, "trials": 2}}))

import pytest

from selftune.studies.mistakes import Mistakes
from selftune.studies.study_file import parse_study


def study(objective):
    return parse_study(
        f"study: trained\nobjective: {{train_examples: 100, {objective}}}\n"
        "regularizers: {dropout: {rate: tune}}\nbudget: {steps: 500}\n"
    )


def test_what_is_left_out_is_as_the_task_has_it():
    given = "task: digits, learning_rate: 0.1, optimization: {batch_size: 32, weight_decay: 0.1}"
    optimization = study(given).objective.optimization
    assert (optimization.batch_size, optimization.weight_decay) == (32, 0.1)
    assert (optimization.optimizer, optimization.learning_rate) == ("sgd", 0.1)


def test_another_optimizer_has_a_momentum_of_its_own():
    given = "task: split_digits, train_examples: 500, optimization: {optimizer: nadam}"
    objective = study(given.replace("task", "batch_size: 16, task").replace("train_examples: 500, ", "")).objective
    assert objective.optimization.momentum is None


def test_every_optimizer_can_be_named_beside_the_tasks_own_settings():
    assert study("task: digits, optimizer: rmsprop, learning_rate: 0.001").objective.optimization.momentum is None


@pytest.mark.parametrize(
    ("objective", "key", "message"),
    [
        ("task: digits, optimization: {optimiser: adam}", "optimization.optimiser", "did you mean optimizer"),
        ("task: digits, optimization: 3", "optimization", "must be a mapping"),
        ("task: digits, momentum: 0.5, optimization: {momentum: 0.9}", "optimization.momentum", "given twice"),
        ("task: digits, optimization: {batch_size: 1000}", "batch_size", "100"),
        ("task: digits, optimization: {settings: {a: 1}}", "optimization.settings.a", "no such setting"),
        ("task: digits, optimization: {learning_rate: fast}", "optimization.learning_rate", "must be a number"),
        ("task: digits, optimizer: adamz", "optimizer", "did you mean"),
        ("task: digits, optimization: {schedule: cosin}", "optimization.schedule.name", "did you mean cosine"),
        (
            "task: digits, optimization: {schedule: {name: cosine, warmup_steps: 500}}",
            "optimization.schedule.warmup_steps",
            "below the 500 training steps",
        ),
        ("task: ridge, optimization: {}", "optimization", "unknown key"),
    ],
)
def test_mistakes(objective, key, message):
    with pytest.raises(Mistakes, match=message) as error:
        study(objective)
    assert f"objective.{key}" in [mistake.key for mistake in error.value.mistakes]

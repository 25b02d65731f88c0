"""A study file, ``tune`` and a Tuner of one's own refuse the same, before anything trains."""

import copy
import math

import pytest
import yaml
from fake_tune import FakeTune
from selftune.objectives.tasks.digits import Digits
from selftune.objectives.tasks.ridge import Ridge
from selftune.objectives.tasks.sparse_regression import SparseRegression

from selftune import (
    ImplicitScheduler,
    InexactLineSearchScheduler,
    PenaltyScheduler,
    Response,
    SelfTuningScheduler,
    SettingError,
    Tune,
    tune,
)
from selftune.lower_level.objective import tasks
from selftune.lower_level.smooth_objective import NotStronglyConvex
from selftune.schedulers import trainable
from selftune.studies.mistakes import Mistakes
from selftune.studies.study_file import parse_study
from selftune.training import TrainerFactory
from selftune.training.lower_level import LowerLevel
from selftune.training.smooth_trainer import SmoothTrainerFactory

pytestmark = pytest.mark.usefixtures("node", "local_trainables")

STUDY = {
    "study": "small",
    "objective": {
        "task": "digits",
        "hidden": [8],
        "train_examples": 100,
        "validation_examples": 100,
        "batch_size": 32,
    },
    "regularizers": {"weight_decay": {"strength": {"start": 1e-3}}},
    "method": {"name": "self_tuning", "warmup_steps": 4},
    "trainers": {"number": 1},
    "budget": {"steps": 20},
    "seed": 0,
}
SCHEDULERS = {"self_tuning": SelfTuningScheduler, "implicit": ImplicitScheduler, "penalty": PenaltyScheduler}

BAD = [
    # what has no response, or no derivative
    ({"regularizers.sam": {"rho": {"start": 0.1}}}, "regularizers.sam.rho", "learns no response"),
    (
        {"regularizers.gradient_clipping": {"max_norm": {"start": 1.0}}},
        "regularizers.gradient_clipping.max_norm",
        "learns no response",
    ),
    (
        {"method.name": "implicit", "regularizers.dropout": {"rate": {"start": 0.1}}},
        "regularizers.dropout.rate",
        "not differentiable",
    ),
    (
        {"method.name": "penalty", "trainers.number": 2, "regularizers.max_norm": {"limit": {"start": 2.0}}},
        "regularizers.max_norm.limit",
        "not differentiable",
    ),
    ({"regularizers.weight_decay": {}}, "regularizers", "nothing is tuned"),
    # budgets and teams
    ({"method.warmup_steps": 20}, "method.warmup_steps", "must be below the budget of 20 training steps"),
    ({"budget.steps": math.nan}, "budget.steps", "nan"),
    ({"budget.steps": math.inf}, "budget.steps", "inf"),
    ({"budget.steps": 20.5}, "budget.steps", "must be a whole number"),
    ({"budget.steps": 0}, "budget.steps", "must be at least 1"),
    ({"trainers.number": 0}, "trainers.number", "must be at least 1"),
    ({"method.name": "penalty", "trainers.number": 3}, "trainers.number", "must be a multiple of 2"),
    ({"seed": 2**70}, "seed", "below 2 ** 63"),
    ({"seed": -1}, "seed", "below 2 ** 63"),
    # ranges and names
    ({"objective.batch_size": 1000}, "objective.batch_size", "fewer than a batch"),
    ({"objective.batch_size": 0}, "objective.batch_size", "must be at least 1"),
    ({"objective.optimizer": "rmspop"}, "objective.optimizer", "did you mean rmsprop"),
    ({"objective.learning_rate": math.inf}, "objective.learning_rate", "inf"),
    ({"objective.learning_rate": math.nan}, "objective.learning_rate", "nan"),
    ({"method.learning_rate": math.nan}, "method.learning_rate", "nan"),
    ({"method.optimizer": "adamw"}, "method.optimizer", "'rmsprop'"),
    ({"method.warmup_step": 4}, "method.warmup_step", "did you mean warmup_steps?"),
    ({"method.response": {"rank": 7}}, "method.response.rank", "at most 1"),
    ({"regularizers.weight_decai": {}}, "regularizers.weight_decai", "did you mean weight_decay"),
    ({"regularizers.dropout": {"rate": {"start": 2.0}}}, "regularizers.dropout.rate.start", "must be a number in"),
    # containers
    ({"regularizers.weight_decay": [1e-3]}, "regularizers.weight_decay", "must be a mapping of settings"),
    ({"regularizers": ["weight_decay"]}, "regularizers", "must be a mapping"),
    (
        {"regularizers.weight_decay.parts": {"a": "output"}},
        "regularizers.weight_decay.parts.a",
        "must be a list of layer patterns",
    ),
    (
        {"regularizers.weight_decay.parts": ["output"]},
        "regularizers.weight_decay.parts",
        "must be 'layer' or a mapping",
    ),
]


def changed(changes):
    study = copy.deepcopy(STUDY)
    for path, value in changes.items():
        *sections, last = path.split(".")
        place = study
        for section in sections:
            place = place[section]
        place[last] = value
    return study


def as_python(value):
    """A section of a file as a call has it."""
    if isinstance(value, dict):
        return Tune(value["start"]) if "start" in value else {key: as_python(one) for key, one in value.items()}
    return value


def halves(study):
    """Objective, regularizers, and the settings of the method."""
    settings = {key: value for key, value in study["method"].items() if key != "name"}
    if "response" in settings:
        settings["response"] = Response(**settings["response"])
    objective = {key: value for key, value in study["objective"].items() if key != "task"}
    return lambda: Digits(**objective), as_python(study["regularizers"]), settings


def by_file(study):
    parse_study(yaml.safe_dump(study))


def by_call(study):
    make, regularizers, settings = halves(study)
    tune(
        make(),
        regularizers,
        steps=study["budget"]["steps"],
        trainers=study["trainers"]["number"],
        seed=study["seed"],
        method=study["method"]["name"],
        **settings,
    )


def by_tuner(study):
    make, regularizers, settings = halves(study)
    name, number = study["method"]["name"], study["trainers"]["number"]
    scheduler = SCHEDULERS[name](steps=study["budget"]["steps"], team_size=number, **settings)
    group_size = 2 if name == "penalty" else 1
    factory = TrainerFactory(make(), regularizers, seed=study["seed"], group_size=group_size)
    FakeTune(scheduler, trainable(factory), number).run()


@pytest.fixture
def nothing_trains(monkeypatch):
    def train(*arguments):
        raise AssertionError("a training step was taken")

    monkeypatch.setattr(LowerLevel, "train", train)


@pytest.mark.usefixtures("nothing_trains")
@pytest.mark.parametrize("road", [by_file, by_call, by_tuner])
@pytest.mark.parametrize(("changes", "key", "fragment"), BAD, ids=lambda value: str(value)[:60])
def test_every_road_refuses(changes, key, fragment, road):
    with pytest.raises((SettingError, Mistakes)) as caught:
        road(changed(changes))
    refused = getattr(caught.value, "mistakes", [caught.value])[0]
    assert fragment in refused.message
    if road is by_file:
        assert refused.key == key
    else:  # as the call has it, and a team by its size
        last = key.removesuffix(".start").split(".")[-1]
        assert refused.key.removesuffix(".start").split(".")[-1] in (last, "team_size", "trainers")


@pytest.mark.parametrize("road", [by_file, by_call, by_tuner])
def test_every_road_takes_what_is_right(road):
    road(STUDY)


def test_trainers_of_a_pair_draw_the_same_numbers_or_are_refused():
    scheduler = PenaltyScheduler(steps=20, warmup_steps=4)
    factory = TrainerFactory(halves(STUDY)[0](), {"weight_decay": {"strength": Tune(1e-3)}})
    with pytest.raises(SettingError, match="group_size: must be 2 with the penalty method"):
        FakeTune(scheduler, trainable(factory), 2).run()


# Smooth problems -------------------------------------------------------------------------------------


class Slanted(Ridge):
    """The gradient that it gives is not that of its training loss."""

    def lower_gradient(self, parameters, values):
        return {name: 1.5 * gradient for name, gradient in super().lower_gradient(parameters, values).items()}


class Unbounded(Ridge):
    """Nothing makes its lower level strongly convex."""

    def constants(self, values, slopes):
        raise NotStronglyConvex(0.0)


SMOOTH = [
    (SparseRegression, "newton", "method.solver", "must be proximal_gradient"),
    (Slanted, "newton", "objective", "contradicts lower"),
    (Unbounded, "newton", "objective", "not strongly convex"),
]


def smooth_by_file(kind, solver, monkeypatch):
    monkeypatch.setitem(tasks._entries, "ridge", kind)
    method = {"name": "inexact_line_search", "solver": solver}
    study = {"study": "s", "objective": {"task": "ridge"}, "method": method, "budget": {"steps": 2}}
    parse_study(yaml.safe_dump(study))


def smooth_by_call(kind, solver, monkeypatch):
    tune(kind(), method="inexact_line_search", solver=solver, steps=2)


def smooth_by_tuner(kind, solver, monkeypatch):
    FakeTune(InexactLineSearchScheduler(steps=2), trainable(SmoothTrainerFactory(kind(), solver)), 1).run()


@pytest.mark.parametrize("road", [smooth_by_file, smooth_by_call, smooth_by_tuner])
@pytest.mark.parametrize(("kind", "solver", "key", "fragment"), SMOOTH)
def test_every_road_refuses_a_problem(kind, solver, key, fragment, road, monkeypatch):
    with pytest.raises((SettingError, Mistakes)) as caught:
        road(kind, solver, monkeypatch)
    refused = getattr(caught.value, "mistakes", [caught.value])[0]
    assert fragment in refused.message
    assert refused.key.split(".")[-1] == key.split(".")[-1]
    assert road is not smooth_by_file or refused.key == key


def test_a_tuner_is_refused_a_solver_that_does_not_exist():
    with pytest.raises(SettingError, match="solver: unknown solver 'newtn'; did you mean newton"):
        SmoothTrainerFactory(Ridge(), "newtn")


@pytest.mark.parametrize(
    ("argument", "fragment"),
    [
        ({"patience": 3}, "is for methods that train networks"),
        ({"metric": "validation_accuracy"}, "judged by its validation_loss"),
        ({"seed": 1}, "draws nothing at random"),
        ({"seconds": 1.0}, "give steps or work"),
        ({"device": "cuda"}, "leave it out"),
        ({"regularizers": {"dropout": {}}}, "put the penalty into its lower level"),
    ],
)
def test_what_means_nothing_to_a_problem_is_refused(argument, fragment):
    with pytest.raises(SettingError, match=fragment) as caught:
        tune(Ridge(), method="implicit", **argument)
    assert caught.value.key == next(iter(argument))

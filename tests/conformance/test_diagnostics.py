"""Every diagnostic of the catalogue in a real trainer: measured by name, finite, and the same after a restart."""

import math

import pytest
import torch
from conformance_objectives import OBJECTIVES
from trainers import cycle

from selftune.errors import SettingError
from selftune.hyperparameters import Tune
from selftune.methods.measures import DIAGNOSTIC
from selftune.methods.work_orders import FollowSchedule
from selftune.registries.diagnostics import MEASURED, Measurement, diagnostics
from selftune.regularization.regularizer import regularizers
from selftune.regularization.step_quantities import closure
from selftune.storage.state_file import load_state, save_state
from selftune.training import Trainer

OF_TRAINING = [name for name in diagnostics.names() if diagnostics[name].needs]
OF_FINISHED_RUNS = sorted(set(diagnostics.names()) - set(OF_TRAINING))

NEED_STAGES = {"stage_accuracies", "stage_boundaries"}


def objectives_for(name):
    """Names of the objectives that provide what a diagnostic needs."""
    needs = frozenset(diagnostics[name].needs.values())
    fitting = []
    for key, make in OBJECTIVES.items():
        objective = make()
        if needs <= closure(objective.offers()) | MEASURED and (objective.stages() or not needs & NEED_STAGES):
            fitting.append(key)
    return fitting


def members():
    """Regularizers of which one acts on layers, which must be at rest while diagnostics are taken."""
    return [regularizers["weight_decay"](strength=Tune(1e-3)), regularizers["dropout"](rate=Tune(0.2))]


def trainer_of(objective, name, every=1):
    return Trainer(OBJECTIVES[objective](), members(), steps=40, diagnostics=[Measurement(name, every=every)])


CASES = [(objective, name) for name in OF_TRAINING for objective in objectives_for(name)]


def test_every_diagnostic_of_training_has_an_objective():
    assert {name for _, name in CASES} == set(OF_TRAINING)


@pytest.mark.parametrize(("objective", "name"), CASES)
def test_it_is_measured_by_name_and_finite(objective, name):
    trainer = trainer_of(objective, name)
    report = trainer.execute(cycle(trainer, steps=3))
    assert report.kind == "cycle", report.message
    measured = {key: value for key, value in report.metrics.items() if key.startswith(DIAGNOSTIC)}
    assert set(measured) == {f"{DIAGNOSTIC}{result}" for result in Measurement(name).names}
    assert all(math.isfinite(value) for value in measured.values()), measured


@pytest.mark.parametrize(("objective", "name"), CASES)
def test_measuring_leaves_training_alone(objective, name):
    measured = trainer_of(objective, name)
    plain = Trainer(OBJECTIVES[objective](), members(), steps=40)
    for trainer in (measured, plain):
        for hyper_step in range(2):
            trainer.execute(cycle(trainer, steps=2, hyper_step=hyper_step))
    networks = [trainer.plain_network().state_dict() for trainer in (measured, plain)]
    assert all(torch.equal(tensor, networks[1][key]) for key, tensor in networks[0].items())


@pytest.mark.parametrize(("objective", "name"), CASES)
def test_a_saved_trainer_measures_the_same(objective, name, tmp_path):
    first, second = (trainer_of(objective, name) for _ in range(2))
    for hyper_step in range(2):
        first.execute(cycle(first, steps=3, hyper_step=hyper_step))
    save_state(tmp_path / "state", first.state_dict(), "state")
    second.load_state_dict(load_state(tmp_path / "state", "state"))
    reports = [trainer.execute(cycle(trainer, steps=3, hyper_step=2)).metrics for trainer in (first, second)]
    names = [f"{DIAGNOSTIC}{result}" for result in Measurement(name).names]
    assert [reports[0][key] for key in names] == [reports[1][key] for key in names]


@pytest.mark.parametrize("name", OF_TRAINING)
def test_it_is_measured_every_so_many_hyper_steps(name):
    trainer = trainer_of(objectives_for(name)[0], name, every=2)
    reports = [trainer.execute(cycle(trainer, steps=2, hyper_step=number)) for number in range(3)]
    found = [any(key.startswith(DIAGNOSTIC) for key in report.metrics) for report in reports]
    assert found == [True, False, True]


@pytest.mark.parametrize("name", OF_FINISHED_RUNS)
def test_those_of_finished_runs_say_where_to_call_them(name):
    with pytest.raises(SettingError, match=f"finished runs; call selftune.objectives.functional.{name}"):
        Measurement(name)


def test_a_stage_that_passes_unmeasured_takes_the_first_measurement_after_it():
    trainer = trainer_of("continual_classification", "continual_evaluation")
    first = trainer.lower.batches.stages[0].steps
    replay = FollowSchedule(segments=((first + 2, trainer.space.constrain(trainer.space.start)),))
    assert trainer.execute(replay).kind == "replay"
    report = trainer.execute(cycle(trainer))
    assert report.kind == "cycle", report.message
    assert report.metrics[f"{DIAGNOSTIC}continual_evaluation.forgetting"] == 0.0


def test_a_study_knows_which_result_it_prefers_large():
    better = Measurement("continual_evaluation").better
    assert better["continual_evaluation.average_accuracy"] == "max"
    assert better["continual_evaluation.forgetting"] == "min"
    assert better["continual_evaluation.gap_recovery"] is None
    assert Measurement("linear_stability").better["linear_stability.growth"] == "min"

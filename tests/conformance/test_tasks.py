"""Every task of the catalogue that trains a network: it trains, is tuned, and travels to another process."""

import pickle

import pytest
import torch
from trainers import cycle, weights

from selftune.hyperparameters import Tune
from selftune.lower_level.objective import NetworkObjective, tasks
from selftune.methods.work_orders import FinishTraining
from selftune.regularization.regularizer import regularizers
from selftune.training import Trainer

SETTINGS = {
    "digit_images": {"channels": 4, "train_examples": 64, "validation_examples": 64, "batch_size": 16},
    "digits": {"hidden": (8,)},
    "images": {"width": 2, "batch_size": 8, "validation_batch_size": 8},
    "language_model": {"width": 8, "context": 8, "vocabulary": 20, "batch_size": 8, "validation_batch_size": 8},
    "modular_arithmetic": {"modulus": 11, "hidden": 16},
    "noisy_label_classification": {"hidden": (8,)},
    "repeated_token_pretraining": {"width": 8, "depth": 1, "unique_tokens": 2048},
    "rotated_digits": {"hidden": (8,)},
    "self_supervised_digits": {"hidden": 8, "dimension": 4},
    "singular_density_estimation": {},
    "split_digits": {"hidden": (8,)},
    "table": {"hidden": (8,)},
    "time_series": {"channels": 4, "examples": 120},
}
"""Small settings of every task."""


def is_network(task):
    return isinstance(task, type) and issubclass(task, NetworkObjective)


def test_every_task_that_trains_a_network_is_here():
    assert {name for name in tasks.names() if is_network(tasks[name])} == {*SETTINGS}


@pytest.mark.parametrize("name", list(SETTINGS))
def test_it_trains_and_is_tuned_wherever_it_was_sent(name):
    reports, ends = [], []
    objective = tasks[name](**SETTINGS[name])
    for one in (objective, pickle.loads(pickle.dumps(objective))):
        members = [regularizers["weight_decay"](strength=Tune(1e-3)), regularizers["dropout"](rate=Tune(0.2))]
        trainer = Trainer(one, members, steps=20)
        reports.append(trainer.execute(cycle(trainer, steps=6)))
        assert reports[-1].kind == "cycle", reports[-1].message
        ends.append(weights(trainer))
        measured = trainer.execute(FinishTraining()).metrics
        assert all(torch.tensor(value).isfinite() for value in measured.values())
    hypergradient = reports[0].tensors["hypergradient"]
    assert hypergradient.isfinite().all()
    assert (hypergradient != 0).any()
    assert torch.equal(hypergradient, reports[1].tensors["hypergradient"])
    assert torch.equal(*ends)

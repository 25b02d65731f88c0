import pytest
import torch
from ordinary_networks import Frozen, Recurrent, Tied, objective_of

from selftune.hyperparameters import Tune
from selftune.methods import Budget, Response
from selftune.regularization.regularizer import regularizers
from selftune.training import Trainer, TrainerFactory
from selftune.training.checks import coverage_of, run_mistakes
from selftune.training.method_record import methods


def mistakes_of(factory, name):
    form = methods[name].network
    settings = form.settings(warmup_steps=10)
    return run_mistakes(factory, lambda: form.make(Budget(steps=60), settings, 1), form, settings)


@pytest.mark.parametrize(
    ("build", "reached", "responding"),
    [
        (Recurrent, 562, 677 - 8 * 4),  # all but the positions, a bare parameter
        (Tied, 8 * 16 + 16 * 16 + 16 * 3, 8 * 16 + 16 + 16 * 16 + 16 + 16 + 16 * 3 + 3),  # all
        (Frozen, 16 * 3, 16 * 3 + 3),
    ],
)
def test_shares_are_those_of_tensors(build, reached, responding):
    factory = TrainerFactory(objective_of(build), [regularizers["weight_decay"](strength=Tune(0.1))])
    found = coverage_of(factory, Response())
    assert found.total == sum(p.numel() for p in build().parameters())
    assert found.reached == {"weight_decay": reached}
    assert found.responding == responding
    assert coverage_of(factory, None).responding is None


def test_a_trainer_says_the_same():
    members = [regularizers["weight_decay"](strength=Tune(0.1)), regularizers["low_rank_adaptation"]()]
    trainer = Trainer(objective_of(Frozen), members)
    assert trainer.coverage.reached == {"low_rank_adaptation": 128, "weight_decay": 48}
    assert trainer.coverage.responding is None
    trainer._estimator("self_tuning", {})
    assert trainer.coverage.responding == 51
    assert "weight_decay reaches 48 of 195 parameters (25 %)" in str(trainer.coverage)


@pytest.mark.parametrize(
    ("build", "name", "settings", "method", "key"),
    [
        (
            Frozen,
            "supervised_contrastive",
            {"strength": Tune(0.1)},
            "self_tuning",
            "supervised_contrastive.strength",
        ),
        (Frozen, "supervised_contrastive", {"strength": Tune(0.1)}, "implicit", "supervised_contrastive.strength"),
        (
            Tied,
            "weight_decay",
            {"strength": Tune(0.1), "parts": {"tied": ["a"], "rest": ["inp", "out"]}},
            "self_tuning",
            None,
        ),
        (Tied, "weight_decay", {"strength": Tune(0.1), "parts": {"tied": ["a"]}}, "implicit", None),
    ],
)
def test_checks_before_a_run_find_what_has_no_effect(build, name, settings, method, key):
    before = torch.get_rng_state()
    factory = TrainerFactory(objective_of(build), [regularizers[name](**settings)])
    found = [mistake.key for mistake in mistakes_of(factory, method)]
    assert found == ([] if key is None else [f"regularizers.{key}"])
    assert torch.equal(before, torch.get_rng_state())

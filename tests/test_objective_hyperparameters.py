import pytest
import torch
import torch.nn.functional as F
from rounding import rounding
from torch import nn

from selftune import Classification, Optimization, SettingError, Tune, tune
from selftune.hyperparameters import Hyperparameter, Positive, Unit
from selftune.regularization.regularizer import regularizers
from selftune.regularization.step import per_example
from selftune.studies.call import call_of
from selftune.training.lower_level import LowerLevel
from selftune.training.seeds import Streams


def squared_margins(scores, labels):
    """How far other classes come within 1 of the right one, squared."""
    return (1 + scores - scores.gather(1, labels[:, None])).relu().square().mean(dim=1)


class TwoTerms(Classification):
    """A cross-entropy at a temperature, and a margin loss."""

    declared = (Hyperparameter("temperature", Positive(), 1.0), Hyperparameter("margin", Unit(), 0.5))

    def losses(self, step):
        temperature = per_example(self.value(step, "temperature"), step.logits)
        share = self.value(step, "margin")
        margin = squared_margins(step.logits, step.labels)
        return (1 - share) * self.loss(step.logits / temperature, step.targets.to(step.logits)) + share * margin


def data(n=32, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 4, generator=generator, dtype=dtype), torch.arange(n) % 3


def two_terms(dtype=torch.float32, n=32):
    split = data(n, dtype)
    build = lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).to(dtype)  # noqa: E731
    return TwoTerms(build, split, split, split, Optimization(batch_size=8))


def test_values_perturbed_per_example_are_those_of_a_bare_loop():
    objective = two_terms(torch.float64).with_values(temperature=Tune(1.0), margin=Tune(0.5))
    cpu = torch.device("cpu")
    lower = LowerLevel(objective, [], Streams(0, 0, cpu), cpu)
    temperature = torch.linspace(0.5, 2.0, 8, dtype=torch.float64).requires_grad_()
    share = torch.linspace(0.1, 0.9, 8, dtype=torch.float64).requires_grad_()
    values = {"objective.temperature": temperature, "objective.margin": share}
    step = lower.begin(0, lower.batches.at(0), values, "response", perturbed=True)
    loss, expected = lower.plain_loss(step), 0.0
    for row, (inputs, label) in enumerate(zip(step.inputs, step.labels, strict=True)):
        scores = lower.network(inputs[None])
        first = F.cross_entropy(scores / temperature[row], label[None])
        second = squared_margins(scores, label[None])[0]
        expected = expected + ((1 - share[row]) * first + share[row] * second) / 8
    wanted = [temperature, share, *lower.network.parameters()]
    found, right = (torch.autograd.grad(value, wanted, retain_graph=True) for value in (loss, expected))
    assert float((loss - expected).detach().abs()) <= rounding(2.0)
    for one, another in zip(found, right, strict=True):
        assert float((one - another).abs().max()) <= rounding(2.0)


@pytest.mark.parametrize(
    ("method", "trainers", "settings"),
    [
        ("self_tuning", 1, {}),
        ("implicit", 1, {}),
        ("penalty", 2, {}),
        ("inexact_line_search", 1, {"train_steps": 10, "validation_samples": 30}),
    ],
)
def test_every_method_tunes_them_beside_those_of_regularizers(method, trainers, settings):
    objective = two_terms(n=96).with_values(temperature=Tune(1.5), margin=Tune(0.3))
    regularized = {"weight_decay": {"strength": Tune(1e-3)}}
    result = tune(objective, regularized, steps=40, method=method, trainers=trainers, warmup_steps=5, **settings)
    names = ["objective.temperature", "objective.margin", "weight_decay.strength"]
    assert list(result.hyperparameters) == names
    if result.schedule is not None:
        assert list(result.schedule.names) == names
    assert result.hyperparameters["objective.temperature"] != 1.5


def test_values_that_are_not_given_are_those_declared():
    objective = two_terms()
    held = [(h.name, h.value, h.tuned) for h in objective.hyperparameters]
    assert held == [("objective.temperature", 1.0, False), ("objective.margin", 0.5, False)]
    warmer = objective.with_values(temperature=2.0)
    assert [h.value for h in warmer.hyperparameters] == [2.0, 0.5]
    assert [h.value for h in objective.hyperparameters] == [1.0, 0.5]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"temprature": 1.0}, "did you mean temperature"),
        ({"temperature": -1.0}, "temperature: must be"),
        ({"margin": Tune(1.0)}, "a tuned start must lie inside"),
    ],
)
def test_what_does_not_fit_is_refused(values, sentence):
    with pytest.raises(SettingError, match=sentence):
        two_terms().with_values(**values)


def test_one_without_effect_is_refused_before_training():
    class Idle(TwoTerms):
        declared = (*TwoTerms.declared, Hyperparameter("idle", Unit(), 0.5))

    split = data()
    objective = Idle(lambda: nn.Linear(4, 3), split, split, split, Optimization(batch_size=8))
    with pytest.raises(SettingError, match=r"idle: changes nothing that is trained"):
        tune(objective.with_values(idle=Tune(0.5)), {}, steps=20, warmup_steps=5, method="implicit")


def test_folders_of_calls_tell_values_apart():
    plain, warmer = (two_terms().with_values(temperature=value) for value in (1.0, 2.0))
    assert call_of(plain)["objective"] != call_of(warmer)["objective"]


def test_diagnostics_see_no_losses_that_depend_on_them():
    cpu = torch.device("cpu")
    lower = LowerLevel(two_terms(), [], Streams(0, 0, cpu), cpu)
    with lower.measuring(0) as step, pytest.raises(AttributeError, match=r"objective\.temperature has no value"):
        lower.objective.losses(step)


def test_regularizers_see_losses_with_them():
    objective = two_terms().with_values(temperature=0.5)
    cpu = torch.device("cpu")
    lower = LowerLevel(objective, [regularizers["co_teaching"]()], Streams(0, 0, cpu), cpu)
    step = lower.begin(0, lower.batches.at(0), lower.space.values(lower.space.start), "elementary")
    lower.plain_loss(step)
    assert bool((step.losses == objective.losses(step)).all())

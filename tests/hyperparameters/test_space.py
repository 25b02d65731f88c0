import math

import optuna
import pytest
import torch

from selftune.hyperparameters import (
    Choice,
    Hyperparameter,
    Integer,
    Interval,
    Positive,
    Space,
    Unit,
    entropy,
    entropy_gradient,
    inverse_softplus,
)


@pytest.fixture
def space():
    return Space(
        [
            Hyperparameter("dropout.rate", Interval(0.0, 0.95), (0.1, 0.2), parts=("in", "out"), tuned=True),
            Hyperparameter("mixup.alpha", Positive(), 0.2, shared=True, tuned=True),
            Hyperparameter("mixup.mode", Choice(("a", "b")), "a"),
            Hyperparameter("cutout.size", Integer(0, 8), 4, tuned=True),
            Hyperparameter("label_smoothing.epsilon", Unit(), 0.1),
        ]
    )


def test_names_and_start_round_trip(space):
    assert space.names == ("dropout.rate[in]", "dropout.rate[out]", "mixup.alpha", "cutout.size")
    torch.testing.assert_close(space.constrain(space.start), torch.tensor([0.1, 0.2, 0.2, 4.0]))
    torch.testing.assert_close(space.unconstrain(space.constrain(space.start)), space.start)


def test_values_have_a_batch_axis_unless_shared(space):
    values = space.values(space.start.expand(5, -1))
    assert values["dropout.rate"].shape == (5, 2)
    assert values["cutout.size"].shape == (5,)
    assert values["mixup.alpha"].shape == ()
    assert values["mixup.mode"] == "a"
    assert values["label_smoothing.epsilon"].shape == ()
    single = space.values(space.start)
    assert single["dropout.rate"].shape == (2,)
    assert single["cutout.size"].shape == ()


def test_perturbation_differs_between_examples_except_in_shared_columns(space):
    scale = torch.tensor([0.5, 1.0, 2.0, 1.0])
    noise = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    delta = space.perturbation(scale, noise)
    assert torch.equal(delta[:, 2], delta[:1, 2].expand(64))
    assert len(delta[:, 0].unique()) == 64
    torch.testing.assert_close(delta[:, 3], noise[:, 3])


def test_gradient_reaches_integers_only_through_the_coordinate(space):
    u = space.start.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(space.constrain(u).sum(), [u])
    assert (gradient[:3] > 0).all()
    assert gradient[3] == 0


def test_entropy_and_its_gradient_in_closed_form():
    assert entropy(inverse_softplus(torch.ones(1))).item() == pytest.approx(1.418939, abs=1e-6)
    s = torch.linspace(-4, 4, 9, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(entropy(s), [s])
    torch.testing.assert_close(gradient, entropy_gradient(s.detach()))
    assert entropy_gradient(torch.zeros(1)).item() == pytest.approx(0.5 / math.log(2))


def test_duplicate_names_are_refused():
    twice = Hyperparameter("a.b", Unit(), 0.5)
    with pytest.raises(ValueError, match=r"two hyperparameters are named 'a\.b'"):
        Space([twice, twice])


def test_every_sample_of_optuna_and_ray_is_a_point_of_the_space(space):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        trial = study.ask(space.distributions())
        values = space.constrain(space.from_config(trial.params))
        torch.testing.assert_close(values, torch.tensor([float(trial.params[n]) for n in space.names]))
    domains = space.param_space()
    assert set(domains) == set(space.names)
    sample = {name: domain.sample() for name, domain in domains.items()}
    assert torch.isfinite(space.from_config(sample)).all()

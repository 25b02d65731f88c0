import pytest
import torch
from orders import with_response
from rounding import rounding
from selftune.objectives.tasks.singular_density_estimation import (
    SingularDensityEstimation,
    _points,
    _sliced_wasserstein,
)

from selftune.errors import SettingError
from selftune.hyperparameters import Tune
from selftune.methods import Response
from selftune.methods.work_orders import FollowSchedule
from selftune.regularization.regularizer import regularizers
from selftune.training import Trainer


@pytest.mark.parametrize(("curve", "dim"), [("circle", 2), ("sphere", 3), ("swiss_roll", 2)])
def test_points_lie_in_a_subspace_within_the_unit_ball(curve, dim):
    points = _points(curve, 6, 200, seed=0)
    assert points.shape == (200, 6)
    assert torch.linalg.matrix_rank(points, rtol=1e-5) == dim
    norms = points.norm(dim=1)
    if curve == "swiss_roll":
        assert 0.25 - 1e-5 <= norms.min() < norms.max() <= 1 + 1e-5
    else:
        torch.testing.assert_close(norms, torch.ones(200))


def test_seeds_change_the_sample_not_the_curve():
    first, again, other = (_points("circle", 5, 50, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.linalg.matrix_rank(torch.cat([first, other]), rtol=1e-5) == 2


def test_too_few_dimensions_are_refused():
    with pytest.raises(SettingError, match="at least 3"):
        SingularDensityEstimation("sphere", ambient_dim=2)


def test_sliced_wasserstein_of_a_shift_and_of_a_permutation():
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(50, 3, generator=generator, dtype=torch.float64)
    directions = torch.randn(20, 3, generator=generator, dtype=torch.float64)
    shift = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    unit = directions / directions.norm(dim=1, keepdim=True)
    moved = _sliced_wasserstein(points, points + shift, directions)
    torch.testing.assert_close(moved, (unit @ shift).abs().mean())
    assert _sliced_wasserstein(points, points.flip(0), 5 * directions) < rounding(points.norm(dim=1).max())


def test_the_bound_is_below_the_exact_likelihood_of_a_linear_model():
    torch.manual_seed(0)
    network = SingularDensityEstimation(ambient_dim=4).network()
    linear = torch.nn.Linear(2, 4)
    network.decoder = linear
    points = torch.randn(2000, 4)
    covariance = linear.weight @ linear.weight.T + (2 * network.log_scale).exp() * torch.eye(4)
    exact = torch.distributions.MultivariateNormal(linear.bias, covariance).log_prob(points)
    assert -network(points)[:, 0].mean() < exact.mean()


def test_noise_on_the_data_keeps_the_decoders_noise_from_collapsing():
    scales = []
    for members in ([], [regularizers["gaussian_input_noise"](sigma=0.3, mode="fixed")]):
        trainer = Trainer(SingularDensityEstimation(examples=128, learning_rate=1e-2), members)
        trainer.execute(FollowSchedule(segments=((400, torch.empty(0)),)))
        scales.append(trainer.plain_network().log_scale.exp().item())
    assert scales[0] < 0.5 * scales[1]


def test_the_noise_level_is_tuned_online():
    trainer = Trainer(
        SingularDensityEstimation(examples=128), [regularizers["gaussian_input_noise"](sigma=Tune(0.1))]
    )
    order = with_response(trainer, vars(Response(learning_rate=0.01)), 6, tune_scale=False)
    report = trainer.execute(order)
    assert report.kind == "cycle", report.message
    assert torch.isfinite(report.tensors["hypergradient"]).all()
    assert report.tensors["hypergradient"] != 0

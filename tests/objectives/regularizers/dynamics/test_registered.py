"""What the family's regularizers add to their functions."""

from types import SimpleNamespace

import pytest
import torch
from selftune.objectives.regularizers.dynamics.orthogonal_convolution import orthogonal_convolution
from torch import nn

from selftune.errors import SettingError
from selftune.hyperparameters import Tune
from selftune.lower_level.classification import Classification
from selftune.lower_level.optimization import Optimization
from selftune.regularization.regularizer import regularizers
from selftune.regularization.step_quantities import quantities
from selftune.training import Trainer


def network():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.Conv2d(4, 6, 3, stride=2),
        nn.Conv2d(6, 6, 3, groups=2, padding=1),
        nn.Conv2d(6, 2, 1),
        nn.Flatten(),
        nn.Linear(18, 2),
    )


@pytest.fixture
def images():
    data = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 2
    return Classification(network, data, data, data, Optimization(batch_size=8))


class TestOrthogonalConvolution:
    def penalty(self, images, **settings):
        trainer = Trainer(images, [regularizers["orthogonal_convolution"](**settings)])
        lower = trainer.lower
        step = lower.begin(0, lower.batches.at(0), trainer.space.values(trainer.space.start), "elementary")
        lower.loss(step, lower.network, lower.parameters)
        return lower.regularizers.members[0].penalty(step), lower.network

    def test_sums_over_plain_convolutions_but_the_first(self, images):
        value, net = self.penalty(images)
        expected = orthogonal_convolution(net[1].weight, stride=2) + orthogonal_convolution(net[3].weight)
        torch.testing.assert_close(value, expected)

    def test_parts(self, images):
        value, net = self.penalty(images, parts={"all": ["*"], "first": ["0"]})
        terms = [orthogonal_convolution(net[i].weight, stride=1 + (i == 1)) for i in (0, 1, 3)]
        torch.testing.assert_close(value, torch.stack([sum(terms), terms[0]]))


def offering(*names):
    """What stands for an objective that offers quantities as they were declared."""
    return SimpleNamespace(offers=lambda: frozenset(names), quantities=lambda: {n: quantities[n] for n in names})


class TestFieldOfExperts:
    images = offering("reconstruction")

    def bound(self, **settings):
        entry = regularizers["field_of_experts"](experts=3, size=3, **settings)
        entry.bind(self.images)
        return entry.bound

    def test_a_bank_of_zero_mean_whose_scale_is_a_number(self):
        bound, doubled = self.bound(), self.bound(filters=2.0)
        filters = bound["filters"].tensor.view(3, 9)
        torch.testing.assert_close(filters.mean(1), torch.zeros(3), atol=1e-6, rtol=0)
        torch.testing.assert_close(doubled["filters"].tensor.view(3, 9), 2 * filters)
        assert bound["log_weights"].tensor.tolist() == [-3.0] * 3

    def test_every_tap_and_expert_can_be_tuned(self):
        bound = self.bound(
            filters=Tune(), log_weights=Tune({"0": -1.0, "1": -2.0, "2": -3.0}), log_smoothing=Tune(-4.0)
        )
        assert bound["filters"].tuned
        assert bound["filters"].value == self.bound()["filters"].value
        assert bound["log_weights"].value == (-1.0, -2.0, -3.0)
        assert bound["log_smoothing"].names[2] == "field_of_experts.log_smoothing[2]"

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"filters": [0.1, 0.2]}, "needs 27 entries, got 2"),
            ({"log_weights": {"0": 1.0}}, "no value for part '1'"),
        ],
    )
    def test_refuses_banks_of_another_size(self, settings, message):
        with pytest.raises(SettingError, match=message):
            self.bound(**settings)


@pytest.mark.parametrize("name", ["entropic_transport_cost", "sinkhorn_divergence"])
def test_epsilon_follows_the_scale_of_the_data(draw, name):
    entry = regularizers[name]()
    entry.bind(offering("samples", "data"))
    samples, data = draw(5, 2), draw(6, 2)
    epsilon = torch.tensor(0.3, dtype=torch.float64)
    steps = [
        SimpleNamespace(samples=c * samples, data=c * data, value=lambda hyperparameter: epsilon) for c in (1, 10)
    ]
    terms = [entry.penalty(step) for step in steps]
    torch.testing.assert_close(terms[1], 100 * terms[0])

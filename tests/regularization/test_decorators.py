import pytest
import torch
from torch import nn

from selftune.data.drawn import Drawn
from selftune.hyperparameters import Hyperparameter, Positive, Space, Tune
from selftune.lower_level.classification import Classification
from selftune.lower_level.optimization import Optimization
from selftune.registries.reference import Reference
from selftune.regularization.composition import Regularizers
from selftune.regularization.decorators import augment, normal_like_inputs, penalty, uniform_like_inputs
from selftune.regularization.regularizer import regularizers
from selftune.regularization.step import Step

ABOUT = {"family": "test", "reference": Reference("test")}


@pytest.fixture(autouse=True)
def _no_traces(monkeypatch):
    assert regularizers.names()  # loads the catalogue
    monkeypatch.setattr(regularizers, "_entries", dict(regularizers._entries))


def begun(name, batch=8, **settings):
    data = torch.randn(32, 4), torch.arange(32) % 3
    objective = Classification(lambda: nn.Linear(4, 3), data, data, data, Optimization(batch_size=8))
    composed = Regularizers([regularizers[name](**settings)], objective)
    space = Space(composed.hyperparameters)
    labels = torch.arange(batch) % 3
    step = Step(
        number=0,
        inputs=torch.zeros(batch, 4),
        labels=labels,
        targets=objective.targets(labels),
        drawn=Drawn(torch.arange(batch), {}),
        values=space.values(space.start + torch.linspace(-1, 1, batch)[:, None] * torch.ones(len(space))),
        generator=torch.Generator().manual_seed(0),
        learning_rate=0.1,
        momentum=0.0,
        classes=3,
        examples=32,
    )
    composed.begin(step)
    return composed, step


def test_an_augmentation_gets_its_draws_and_its_strength_per_example():
    @augment(
        **ABOUT,
        hyperparameters=[Hyperparameter("sigma", Positive(), 1.0)],
        draws={"noise": normal_like_inputs, "uniform": uniform_like_inputs},
    )
    def shake(inputs, noise, uniform, sigma):
        return inputs + sigma * noise.abs() * (uniform < 2)

    _, step = begun("shake", sigma=Tune(1.0))
    ratio = step.inputs.mean(dim=1) / step.values["shake.sigma"]
    assert (step.inputs > 0).all()
    assert ratio.max() / ratio.min() < 10  # every row is in proportion to its own sigma, which spans e ** 2
    assert shake(torch.zeros(2), torch.ones(2), torch.zeros(2), 0.5).tolist() == [0.5, 0.5]


def test_a_penalty_per_example_is_weighed_by_each_example_s_strength():
    @penalty(**ABOUT, strength=Positive(), default=0.1, needs={"logits": "logits"})
    def size(logits):
        return logits.square().sum(dim=-1)

    composed, step = begun("size", strength=Tune(0.1))
    step.logits = torch.randn(8, 3)
    expected = (step.values["size.strength"] * size(step.logits)).mean()
    torch.testing.assert_close(composed.penalty(step), expected)

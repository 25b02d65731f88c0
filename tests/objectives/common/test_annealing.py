import pytest
import torch
from selftune.objectives.common.annealing import annealed

from selftune.hyperparameters import Tune
from selftune.regularization.regularizer import regularizers


@pytest.mark.parametrize("before", [0.0, 1.0])
def test_the_strength_does_not_count_before(before):
    strength = torch.tensor([0.0, 0.5, 100.0], requires_grad=True)
    term = strength * annealed(torch.tensor(2.0), strength, before)
    torch.testing.assert_close(term.detach(), 2 * before * torch.tensor([0.0, 1.0, 1.0]))
    term.sum().backward()
    torch.testing.assert_close(strength.grad, torch.zeros(3))


@pytest.mark.parametrize(
    ("settings", "steps", "switch"),
    [
        ({}, None, 500),
        ({}, 5000, 500),
        ({}, 600, 60),
        ({}, 5, 0),
        ({"anneal": 400}, 600, 400),
        ({"anneal": 0}, 600, 0),
        ({"strength": Tune(2.0)}, 600, 0),
        ({"strength": Tune(2.0), "anneal": 30}, 600, 30),
    ],
)
def test_the_switch_is_no_later_than_the_authors_share_of_a_run(settings, steps, switch):
    entry = regularizers["invariant_risk_minimization"](**settings)
    entry.bound = {h.name: h.with_value(entry.settings.get(h.name, h.value)) for h in entry.hyperparameters}
    assert entry.switch(steps) == switch

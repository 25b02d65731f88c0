import pytest
import torch

from selftune.lower_level.optimizers import accumulated_momentum, optimizer_names


def test_every_name_makes_an_optimizer_of_torch():
    weight = torch.zeros(2, 2, requires_grad=True)
    classes = {name.lower(): cls for name, cls in vars(torch.optim).items() if isinstance(cls, type)}
    for name in optimizer_names():
        assert isinstance(classes[name]([weight]), torch.optim.Optimizer)
    assert "muon" in optimizer_names()
    assert "lbfgs" not in optimizer_names()


@pytest.mark.parametrize(
    ("make", "momentum"),
    [
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), 0.9),
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.5), 0.8),
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.9), 0.0),
        (lambda p: torch.optim.Adagrad(p, lr=0.1), 0.0),
    ],
)
def test_a_constant_gradient_moves_weights_by_the_rate_over_one_minus_the_momentum(make, momentum):
    weight = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = make([weight])
    assert accumulated_momentum(optimizer) == pytest.approx(momentum, abs=1e-12)
    if not isinstance(optimizer, torch.optim.SGD):
        return
    for _ in range(400):
        before = weight.detach().clone()
        weight.grad = torch.ones(1, dtype=torch.float64)
        optimizer.step()
    assert float((before - weight).detach()) == pytest.approx(0.1 / (1 - momentum), rel=1e-9)

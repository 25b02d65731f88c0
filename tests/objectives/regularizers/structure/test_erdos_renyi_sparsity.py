import math

import pytest
import torch
from selftune.objectives.regularizers.structure.erdos_renyi_sparsity import (
    ErdosRenyiSparsity,
    erdos_renyi_sparsity,
)

SHAPES = ((16, 3, 3, 3), (32, 16, 3, 3), (32, 32, 3, 3), (10, 32), (32, 32, 3, 3))
SIZES = torch.tensor([math.prod(shape) for shape in SHAPES], dtype=torch.float64)


def _definition(density, kernel):
    """The loop of the definition: layers above one become dense, until none is."""
    kernels = SHAPES if kernel else [shape[:2] for shape in SHAPES]
    raw = [sum(shape) / math.prod(shape) for shape in kernels]
    sizes, dense = SIZES.tolist(), set()
    while True:
        others = [layer for layer in range(len(raw)) if layer not in dense]
        budget = sum(density * sizes[layer] for layer in others) - sum((1 - density) * sizes[d] for d in dense)
        scale = budget / sum(raw[layer] * sizes[layer] for layer in others)
        largest = max(raw[layer] for layer in others)
        if scale * largest <= 1:
            return torch.tensor(
                [1.0 if layer in dense else scale * raw[layer] for layer in range(len(raw))]
            ).double()
        dense |= {layer for layer in others if raw[layer] == largest}


@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize("density", [0.02, 0.2, 0.5, 0.9])
def test_follows_the_definition_and_meets_the_budget(density, kernel):
    densities = erdos_renyi_sparsity(SHAPES, density=density, kernel=kernel)
    torch.testing.assert_close(densities, _definition(density, kernel))
    torch.testing.assert_close(densities @ SIZES, density * SIZES.sum())
    assert ((densities > 0) & (densities <= 1)).all()
    assert densities[2] == densities[4]


def test_is_ordered_like_the_raw_densities():
    densities = erdos_renyi_sparsity(SHAPES, density=0.6)
    raw = torch.tensor([sum(shape) / math.prod(shape) for shape in SHAPES])
    assert (densities[raw.argsort(stable=True)].diff() >= 0).all()


@pytest.mark.parametrize("kernel", [True, False])
def test_density_one_gives_ones(kernel):
    densities = erdos_renyi_sparsity(SHAPES, density=1.0, kernel=kernel)
    torch.testing.assert_close(densities, torch.ones(5, dtype=torch.float64))


def test_is_differentiable_in_the_density():
    density = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda d: erdos_renyi_sparsity(SHAPES, density=d), density)


@pytest.mark.parametrize("allocation", ["erk", "er", "uniform"])
def test_the_drawn_weights_alone_are_trained(trainer, go_on, allocation):
    sparse = trainer(ErdosRenyiSparsity(density=0.4, allocation=allocation))
    weights = [sparse.lower.network[layer].weight for layer in (0, 2, 4)]
    active = [weight != 0 for weight in weights]
    total = sum(weight.numel() for weight in weights)
    assert sum(int(a.sum()) for a in active) == pytest.approx(0.4 * total, abs=1.5)
    densities = [float(a.double().mean()) for a in active]
    assert (max(densities) - min(densities) < 0.02) is (allocation == "uniform")
    go_on(sparse, 5)
    assert all(torch.equal(weight != 0, a) for weight, a in zip(weights, active, strict=True))

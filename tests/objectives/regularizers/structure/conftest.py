import pytest
import torch


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def randn(generator):
    """Draws of the normal distribution in double precision."""
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.fixture
def rotation(randn):
    """Random orthogonal matrices."""
    return lambda size: torch.linalg.qr(randn(size, size)).Q

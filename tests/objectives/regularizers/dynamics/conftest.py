import pytest
import torch


@pytest.fixture
def draw():
    """Standard normal numbers in float64, the same in every run."""
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.randn(*shape, dtype=torch.float64, generator=generator)

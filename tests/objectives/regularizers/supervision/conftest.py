import pytest
import torch


@pytest.fixture
def double():
    """Closed forms are compared in double precision, with seeded draws."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)

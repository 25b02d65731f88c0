import pytest
import torch
from selftune.objectives.mathematics.sorted_rows import sorted_rows


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8, 13, 32, 63, 64, 65])
def test_sorts_every_column_also_with_ties(rows):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(rows, 50, generator=generator, dtype=torch.float64).round()
    assert torch.equal(torch.stack(sorted_rows(values)), values.sort(dim=0).values)


def test_nan_is_the_largest():
    values = torch.tensor([[torch.nan], [torch.inf], [-torch.inf], [0.0]])
    assert torch.cat(sorted_rows(values)).tolist() == [-torch.inf, 0.0, torch.inf, torch.inf]

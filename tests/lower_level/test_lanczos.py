import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from selftune.errors import SettingError
from selftune.lower_level.lanczos import lanczos


def symmetric(n, seed=0):
    a = torch.randn(n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return a + a.T


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("n", [1, 2, 17])
def test_as_many_steps_as_dimensions_give_the_extreme_eigenvalues(n):
    matrix = symmetric(n)
    values = lanczos(lambda v: matrix @ v, matrix[0], n + 5, seeded())
    expected = torch.linalg.eigvalsh(matrix)
    torch.testing.assert_close(torch.stack(values), expected[[0, -1]], rtol=1e-9, atol=1e-9)


def test_ritz_values_lie_within_the_spectrum_and_widen_with_every_step():
    matrix = symmetric(60)
    expected = torch.linalg.eigvalsh(matrix)
    widths = []
    for steps in (1, 5, 10, 20, 40):
        smallest, largest = lanczos(lambda v: matrix @ v, matrix[0], steps, seeded())
        assert expected[0] - 1e-9 <= smallest <= largest <= expected[-1] + 1e-9
        widths.append(float(largest - smallest))
    assert widths == sorted(widths)
    assert widths[-1] > 0.99 * float(expected[-1] - expected[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sign", [-1, 1])
def test_an_invariant_subspace_adds_no_values_of_its_own(dtype, sign):
    diagonal = sign * torch.tensor([2.0, 2.0, 3.0, 3.0, 7.0, 7.0, 7.0, 7.0], dtype=dtype)  # exhausted in 3 steps
    values = lanczos(lambda v: diagonal * v, diagonal, 8, seeded())
    expected = torch.tensor(sorted([sign * 2.0, sign * 7.0]), dtype=dtype)
    torch.testing.assert_close(torch.stack(values), expected, rtol=1e-5, atol=0)


def test_the_zero_map_has_the_value_zero():
    assert torch.equal(torch.stack(lanczos(torch.zeros_like, torch.ones(5), 4, seeded())), torch.zeros(2))


def test_orthogonality_survives_an_ill_conditioned_spectrum():
    """Without reorthogonalisation, copies of the largest eigenvalue push the smallest one out."""
    diagonal = torch.logspace(-3, 3, 40)
    smallest, _ = lanczos(lambda v: diagonal * v, diagonal, 40, seeded())
    assert float(smallest) == pytest.approx(1e-3, abs=1e-3)


def test_the_generator_decides_the_values():
    matrix = symmetric(30)

    def run(seed):
        return torch.stack(lanczos(lambda v: matrix @ v, matrix[0], 5, seeded(seed)))

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


class _NoLooks(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func.overloadpacket.__name__ not in {"_local_scalar_dense", "item", "nonzero"}
        return func(*args, **(kwargs or {}))


def test_products_never_wait_for_the_device():
    matrix = symmetric(10)
    with _NoLooks():
        lanczos(lambda v: matrix @ v, matrix[0], 6, seeded())


def test_no_steps_are_refused():
    with pytest.raises(SettingError, match="steps: must be at least 1, got 0"):
        lanczos(torch.clone, torch.ones(2), 0)

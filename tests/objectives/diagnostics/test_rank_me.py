import pytest
import torch
from selftune.objectives.diagnostics.rank_me import rank_me, rank_me_select


@pytest.fixture
def draw():
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.randn(*shape, dtype=torch.float64, generator=generator)


class TestRankMe:
    def test_definition(self, draw):
        embeddings = draw(20, 4)
        s = torch.linalg.svdvals(embeddings)
        p = s / s.sum() + 1e-7
        torch.testing.assert_close(rank_me(embeddings), (-(p * p.log()).sum()).exp())
        assert 1 <= rank_me(embeddings) <= 4

    def test_extremes(self, draw):
        assert rank_me(draw(9, 1) @ draw(1, 5)).item() == pytest.approx(1, abs=1e-4)
        assert rank_me(torch.linalg.qr(draw(9, 5)).Q).item() == pytest.approx(5, abs=1e-4)
        assert rank_me(torch.zeros(3, 2)).item() == pytest.approx(1, abs=1e-4)

    def test_invariances(self, draw):
        z = draw(12, 4)
        value = rank_me(z)
        left, right = torch.linalg.qr(draw(12, 12)).Q, torch.linalg.qr(draw(4, 4)).Q
        for same in (5 * z, left @ z, z @ right, z[torch.arange(11, -1, -1)], torch.cat([z, z, z])):
            torch.testing.assert_close(rank_me(same), value)
        torch.testing.assert_close(rank_me(torch.block_diag(z, z)), 2 * value, rtol=1e-5, atol=0)
        assert rank_me(z + 10) < 0.5 * value  # embeddings are not centred

    def test_has_no_gradient_and_keeps_the_dtype(self):
        value = rank_me(torch.ones(3, 2, requires_grad=True))
        assert not value.requires_grad
        assert value.dtype == torch.float32


class TestRankMeSelect:
    scores = torch.tensor([3.0, 8.0, 7.9, 1.0])
    values = torch.tensor([0.5, 0.1, 0.3, 0.9])

    def test_a_unique_best_rank_wins_whatever_the_values(self):
        assert rank_me_select(self.scores, self.values) == 1
        assert rank_me_select(self.scores, -self.values) == 1

    @pytest.mark.parametrize(
        ("tolerance", "prefer", "index"),
        [(0.05, "largest", 2), (0.05, "smallest", 1), (1.0, "largest", 3), (1.0, "smallest", 1)],
    )
    def test_ties_go_to_the_extreme_value(self, tolerance, prefer, index):
        chosen = rank_me_select(self.scores, self.values, tolerance, prefer)
        assert chosen.shape == ()
        assert chosen == index
        assert rank_me_select(7 * self.scores, self.values, tolerance, prefer) == index

    def test_equal_values_go_to_the_first(self):
        assert rank_me_select(torch.ones(100), torch.zeros(100)) == 0

    def test_refusals(self):
        with pytest.raises(ValueError, match="prefer must be"):
            rank_me_select(self.scores, self.values, prefer="middle")
        with pytest.raises(ValueError, match="diverged"):
            rank_me_select(torch.tensor([1.0, torch.nan]), self.values[:2])

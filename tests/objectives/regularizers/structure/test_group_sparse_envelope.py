import itertools

import pytest
import torch
from rounding import rounding
from selftune.objectives.regularizers.structure.group_sparse_envelope import (
    GroupSparseEnvelope,
    GroupSparseEnvelopeProximal,
    group_sparse_envelope,
    group_sparse_envelope_proximal,
)


def _k_support(norms, k):
    """Half the squared k-support norm in closed form (Argyriou, Foygel and Srebro, 2012)."""
    z = norms.abs().sort(descending=True).values
    for r in range(k):
        tail = z[k - r - 1 :].sum()
        upper = z[k - r - 2] if k - r - 2 >= 0 else torch.inf
        if upper > tail / (r + 1) >= z[k - r - 1]:
            return 0.5 * (z[: k - r - 1].square().sum() + tail**2 / (r + 1))
    raise AssertionError("no r fits")


def _shares(randn, groups, active):
    """Random shares of the feasible set."""
    shares = randn(500, groups).abs()
    return (shares * active / shares.sum(1, keepdim=True)).clamp(max=1)


class TestEnvelope:
    @pytest.mark.parametrize("active", [1, 2, 3, 6])
    def test_is_half_the_squared_k_support_norm(self, randn, active):
        norms = randn(7).abs()
        torch.testing.assert_close(group_sparse_envelope(norms, active=active), _k_support(norms, active))

    @pytest.mark.parametrize("active", [1, 3, 6])
    def test_is_the_minimum_over_shares(self, randn, active):
        norms, weights = randn(7).abs(), randn(7).abs() + 0.1
        value = group_sparse_envelope(norms, active=active, weights=weights)
        candidates = 0.5 * (weights * norms.square() / _shares(randn, 7, active)).sum(1)
        assert value <= candidates.min()

    def test_one_group_and_enough_groups(self, randn):
        norms, weights = randn(5).abs(), randn(5).abs() + 0.1
        torch.testing.assert_close(group_sparse_envelope(norms, active=1), norms.sum() ** 2 / 2)
        for active in (5, 9):
            value = group_sparse_envelope(norms, active=active, weights=weights)
            torch.testing.assert_close(value, (weights * norms.square()).sum() / 2)
        sparse = torch.tensor([0.0, 2.0, 0.0, 1.0], dtype=torch.float64)
        for active in (2, 3):
            assert group_sparse_envelope(sparse, active=active) == 2.5

    def test_is_monotone_homogeneous_and_convex(self, randn):
        a, b = randn(6).abs(), randn(6).abs()
        values = [group_sparse_envelope(a, active=k) for k in range(1, 7)]
        assert all(later <= earlier for earlier, later in itertools.pairwise(values))
        torch.testing.assert_close(group_sparse_envelope(3 * a, active=2), 9 * values[1])
        middle = group_sparse_envelope((a + b) / 2, active=2)
        assert middle <= (values[1] + group_sparse_envelope(b, active=2)) / 2

    def test_gradient(self, randn):
        norms = (randn(6).abs() + 0.1).requires_grad_()
        weights = randn(6).abs() + 0.5
        for active in (1, 3, 6):
            assert torch.autograd.gradcheck(
                lambda n, k=active: group_sparse_envelope(n, active=k, weights=weights), norms
            )

    @pytest.mark.parametrize("active", [1, 2, 4])
    def test_gradient_is_finite_at_zero_groups(self, active):
        norms = torch.tensor([0.0, 2.0, 0.0, 1.0], requires_grad=True)
        assert torch.autograd.grad(group_sparse_envelope(norms, active=active), norms)[0].isfinite().all()
        zero = torch.zeros(4, requires_grad=True)
        value = group_sparse_envelope(zero, active=active)
        assert value == 0
        assert torch.autograd.grad(value, zero)[0].eq(0).all()


class TestProximal:
    @pytest.mark.parametrize("active", [1, 2, 4, 6])
    @pytest.mark.parametrize("strength", [0.01, 0.5, 5.0])
    def test_minimises_the_objective(self, randn, active, strength):
        norms, weights = randn(6).abs(), randn(6).abs() + 0.1

        def objective(point):
            envelope = group_sparse_envelope(point, active=active, weights=weights)
            return strength * envelope + 0.5 * (point - norms).square().sum()

        factors = group_sparse_envelope_proximal(norms, active=active, strength=strength, weights=weights)
        assert ((factors >= 0) & (factors < 1)).all()
        best = objective(factors * norms) - 1e-12
        for scale in (1e-4, 1e-2, 1.0):
            assert all(objective((factors * norms + scale * randn(6)).abs()) >= best for _ in range(30))

    def test_small_strength_keeps_what_is_not_zero(self):
        norms = torch.tensor([0.0, 2.0, 1e-3, 1.0], dtype=torch.float64)
        alive = torch.tensor([0.0, 1.0, 1.0, 1.0], dtype=torch.float64)
        for strength in (0.0, 1e-15):
            factors = group_sparse_envelope_proximal(norms, active=2, strength=strength)
            torch.testing.assert_close(factors, alive)

    def test_enough_groups_shrink_alike(self, randn):
        for active in (5, 8):
            factors = group_sparse_envelope_proximal(randn(5).abs(), active=active, strength=torch.tensor(0.25))
            torch.testing.assert_close(factors, torch.full((5,), 0.8, dtype=torch.float64))

    def test_larger_norms_keep_more_and_large_strengths_select(self, randn):
        norms = randn(20).abs().sort().values
        for strength in (0.1, 1.0, 10.0):
            assert (
                group_sparse_envelope_proximal(norms, active=5, strength=strength).diff() >= -rounding(norms.max())
            ).all()
        norms = torch.tensor([10.0, 9.0, 0.1, 0.2])
        assert group_sparse_envelope_proximal(norms, active=2, strength=1.0).tolist() == [0.5, 0.5, 0.0, 0.0]

    def test_is_differentiable(self, randn):
        norms = (randn(6).abs() + 0.1).requires_grad_()
        strength = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(
            lambda n, s: group_sparse_envelope_proximal(n, active=2, strength=s), (norms, strength)
        )

    def test_many_single_weights_in_single_precision(self, generator):
        norms = torch.randn(20_000, generator=generator).abs()
        factors = group_sparse_envelope_proximal(norms, active=2000, strength=0.1)
        exact = group_sparse_envelope_proximal(norms.double(), active=2000, strength=0.1)
        torch.testing.assert_close(factors, exact.float(), atol=1e-4, rtol=0)


def test_no_active_group_is_refused(randn):
    with pytest.raises(ValueError, match="at least one active group"):
        group_sparse_envelope(randn(3).abs(), active=0)
    with pytest.raises(ValueError, match="at least one active group"):
        group_sparse_envelope_proximal(randn(3).abs(), active=0, strength=1.0)


@pytest.mark.parametrize("groups", ["filters", "channels", "weights"])
def test_the_penalty_adds_up_layers(trainer, groups):
    lower = trainer(GroupSparseEnvelope(strength=0.1, sparsity=0.5, groups=groups)).lower
    step = lower.begin(0, lower.batches.at(0), lower.space.values(lower.space.start), "elementary")
    loss = lower.loss(step, lower.network, lower.parameters)
    plain = torch.nn.functional.cross_entropy(step.logits, step.labels)
    envelopes = []
    for layer in (0, 2, 4):
        weight = lower.network[layer].weight
        norms = {"filters": weight.norm(dim=1), "channels": weight.norm(dim=0), "weights": weight.abs().flatten()}
        active = torch.tensor(len(norms[groups]) * 0.5).clamp_min(1)
        envelopes.append(group_sparse_envelope(norms[groups], active=active))
    torch.testing.assert_close(loss, plain + 0.1 * sum(envelopes))


def test_the_proximal_step_removes_whole_groups(trainer):
    trained = trainer(GroupSparseEnvelopeProximal(strength=30.0, sparsity=0.5), steps=30)
    zero = trained.lower.network[0].weight.eq(0).all(dim=1)
    assert 4 <= zero.sum() <= 12
    assert trained.plain_network()[0].weight.eq(0).all(dim=1).sum() == zero.sum()


def test_an_active_number_may_be_a_tensor_between_whole_numbers(randn):
    norms = randn(7).abs()
    values = [group_sparse_envelope(norms, active=torch.tensor(k)) for k in (2.0, 2.5, 3.0)]
    assert values[0] > values[1] > values[2]
    assert values[0] == group_sparse_envelope(norms, active=2)

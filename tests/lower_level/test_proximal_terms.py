"""Terms that are not smooth: their proximal maps minimise, their pieces are as wide as they say."""

import math

import pytest
import torch

from selftune.errors import SettingError
from selftune.lower_level.proximal_terms import ActiveSet, Box, GroupNorm, L1Norm, Simplex

EPS = torch.finfo(torch.float64).eps
GROUPS = torch.tensor([0, 0, 1, 1, 1, 2])


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def scalar(value):
    return torch.tensor(value, dtype=torch.float64)


TERMS = {
    "l1": L1Norm(scalar(0.8), slope=scalar(0.8)),
    "weighted_l1": L1Norm(0.5 + normal(1, 6).abs(), slope=normal(2, 6)),
    "groups": GroupNorm(scalar(1.1), GROUPS, slope=scalar(1.1)),
    "weighted_groups": GroupNorm(0.5 + normal(3, 3).abs(), GROUPS, slope=normal(4, 3)),
    "box": Box(scalar(-0.4), scalar(0.7), scalar(0.4), scalar(0.7)),
    "one_sided": Box(lower=0.0),
    "simplex": Simplex(scalar(1.5), slope=scalar(1.5)),
}
STEP = 0.7


def jacobian(term, y):
    return torch.autograd.functional.jacobian(lambda point: term.prox(point, STEP), y)


def points(count=8):
    return [2 * normal(100 + seed, 6) for seed in range(count)]


@pytest.mark.parametrize("term", TERMS.values(), ids=TERMS)
def test_the_map_minimises(term):
    for seed, y in enumerate(points()):
        x = term.prox(y, STEP)

        def penalized(at, y=y):
            return float(term.value(at) + (at - y).square().sum() / (2 * STEP))

        for width in (1e-3, 0.1, 1.0):  # any other point that meets the constraints is dearer
            other = x + width * normal(200 + seed, 6)
            if isinstance(term, Box | Simplex):
                other = term.prox(other, STEP)
            assert penalized(x) <= penalized(other)


@pytest.mark.parametrize("term", TERMS.values(), ids=TERMS)
def test_the_derivative_is_symmetric_and_a_contraction(term):
    for y in points():
        D = jacobian(term, y)
        assert torch.allclose(D, D.T, atol=100 * EPS)
        eigenvalues = torch.linalg.eigvalsh(D)
        assert float(eigenvalues[0]) >= -100 * EPS
        assert float(eigenvalues[-1]) <= 1 + 100 * EPS
        assert term.active_set(y, STEP, 0.0).free == int(torch.linalg.matrix_rank(D))


def ways(term, y):
    """Directions of unit length, among them those that leave a piece by the shortest way."""
    unit = torch.eye(6, dtype=torch.float64)
    yield from unit
    yield from -unit
    for group in range(3):
        direction = y * (group == GROUPS)
        yield direction / direction.norm()
        yield -direction / direction.norm()
    support = (term.prox(y, STEP) > 0).double()
    for sideways in unit - support / support.sum():
        if float(sideways.norm()) > 0:
            yield sideways / sideways.norm()
            yield -sideways / sideways.norm()


@pytest.mark.parametrize("term", TERMS.values(), ids=TERMS)
def test_the_margin_is_the_distance_to_another_piece(term):
    def surface(y):  # the range of D is that of the piece, whatever D's size
        return torch.linalg.matrix_rank(jacobian(term, y)), jacobian(term, y) != 0

    for y in points(4):
        margin = term.active_set(y, STEP, 0.0).margin
        rank, pattern = surface(y)
        left = False
        for way in ways(term, y):
            near, same = surface(y + 0.999 * margin * way)
            assert near == rank
            assert torch.equal(same, pattern)
            far, other = surface(y + 1.001 * margin * way)
            left |= bool(far != rank) or not torch.equal(other, pattern)
        assert left


@pytest.mark.parametrize("name", ["groups", "weighted_groups"])
def test_the_curvature_of_a_group_is_bounded_around_a_point(name):
    term = TERMS[name]

    def hessian(x, kept):
        def r(at):
            return term.value(torch.zeros(6, dtype=torch.float64).index_put((kept,), at))

        return torch.autograd.functional.hessian(r, x[kept])

    tried = 0
    for seed, y in enumerate(points()):
        x = term.prox(y, STEP)
        kept = x != 0
        e = 0.3 * term.active_set(y, STEP, 0.0).margin
        known = term.active_set(y, STEP, e)
        if not known.free:
            continue
        tried += 1
        for draw in range(5):
            direction = normal(300 + 10 * seed + draw, 6) * kept
            other = x + e * direction / direction.norm()
            change = torch.linalg.matrix_norm(hessian(x, kept) - hessian(other, kept), 2)
            assert float(change) <= known.curvature_lipschitz * e
    assert tried > 2


@pytest.mark.parametrize("name", sorted(set(TERMS) - {"one_sided"}))
def test_the_effect_of_a_strength_is_bounded(name):
    """D^-1 E / t along the surface is the derivative of grad r; what E does across it moves the surface."""
    term = TERMS[name]
    fields = {"strength", "lower", "upper", "total"} & set(vars(term))
    slopes = {"strength": "slope", "total": "slope", "lower": "lower_slope", "upper": "upper_slope"}
    for y in points():
        known = term.active_set(y, STEP, 0.0)
        D = jacobian(term, y)
        columns = []
        for field in sorted(fields):
            value, slope = getattr(term, field), getattr(term, slopes[field])

            def mapped(at, field=field, y=y):
                return type(term)(**(vars(term) | {field: at})).prox(y, STEP)

            columns.append((torch.autograd.functional.jacobian(mapped, value) * slope).reshape(6, -1))
        E = torch.cat(columns, dim=1)
        inverse = torch.linalg.pinv(D, rtol=1e-9)
        along, across = inverse @ E / STEP, E - D @ inverse @ E
        assert float(torch.linalg.matrix_norm(along, 2)) <= known.jacobian_norm + 1e-12
        assert float(torch.linalg.matrix_norm(across, 2)) <= known.offset_norm + 1e-12


def test_a_strength_whose_slope_is_not_given_bounds_nothing():
    y = torch.tensor([3.0, 0.1])
    assert L1Norm(torch.tensor(1.0)).active_set(y, 1.0, 0.0).jacobian_norm == math.inf
    assert L1Norm(1.0).active_set(y, 1.0, 0.0).jacobian_norm == 0  # a plain number depends on nothing
    assert L1Norm(torch.tensor(9.0)).active_set(y, 1.0, 0.0).jacobian_norm == 0  # nothing is left of it


def test_a_row_of_the_simplex_on_its_own_corner_cannot_lose_it():
    rows = torch.tensor([[5.0, 0.0, 0.0], [0.6, 0.5, 0.0]], dtype=torch.float64)
    known = Simplex().active_set(rows, 1.0, 0.0)
    assert known.free == 1
    assert known.margin == pytest.approx(0.05 / math.sqrt(1 + 1 / 2))  # the third entry enters at the level 0.05
    assert torch.allclose(Simplex().prox(rows, 1.0).sum(dim=1), torch.ones(2, dtype=torch.float64))


def test_joined_sets_take_the_worst_of_each():
    none = ActiveSet.joined([])
    assert (none.margin, none.free) == (math.inf, 0)
    one, two = ActiveSet(1.0, 2, 3.0, 3.0, 5.0, 3.0), ActiveSet(2.0, 3, 4.0, 4.0, 1.0, 4.0)
    assert ActiveSet.joined([one, two]) == ActiveSet(1.0, 5, 5.0, 5.0, 5.0, 5.0)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(SettingError, match="must not be above upper"):
        Box(1.0, 0.0)
    with pytest.raises(SettingError, match="must hold whole numbers"):
        GroupNorm(1.0, torch.tensor([0.0, 1.0]))

import math

import pytest
import torch
from selftune.objectives.regularizers.representation.info_nce import info_nce


def test_is_cross_entropy_of_cosine_similarities_and_never_negative(draw):
    anchors, candidates = draw(4, 3), draw(7, 3)
    cosines = torch.nn.functional.cosine_similarity(anchors[:, None], candidates[None], dim=-1)
    expected = torch.nn.functional.cross_entropy(cosines / 0.2, torch.arange(4), reduction="none")
    torch.testing.assert_close(info_nce(anchors, candidates, 0.2), expected)
    assert (info_nce(anchors, candidates, 0.2) >= 0).all()


def test_equal_candidates_give_the_logarithm_of_their_number(draw):
    value = info_nce(draw(3, 5), draw(1, 5).expand(8, 5))
    torch.testing.assert_close(value, torch.full_like(value, math.log(8)))


def test_orthogonal_negatives_and_identical_pairs():
    unit = torch.eye(5, dtype=torch.float64)
    value = info_nce(unit[:3], unit, 0.3)
    torch.testing.assert_close(value, torch.full_like(value, math.log(1 + 4 * math.exp(-1 / 0.3))))


def test_lengths_and_the_order_of_further_negatives_do_not_matter(draw):
    anchors, candidates = draw(3, 4), draw(6, 4)
    value = info_nce(anchors, candidates)
    scaled = info_nce(anchors * draw(3, 1).abs(), candidates * draw(6, 1).abs())
    torch.testing.assert_close(scaled, value)
    torch.testing.assert_close(info_nce(anchors, candidates[[0, 1, 2, 5, 3, 4]]), value)


def test_temperature_per_anchor(draw):
    anchors, candidates = draw(2, 4), draw(3, 4)
    each = [info_nce(anchors, candidates, t)[i] for i, t in enumerate((0.1, 0.7))]
    torch.testing.assert_close(
        info_nce(anchors, candidates, torch.tensor([0.1, 0.7], dtype=torch.float64)), torch.stack(each)
    )


def test_derivatives(draw):
    temperature = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        info_nce, (draw(2, 3).requires_grad_(), draw(4, 3).requires_grad_(), temperature)
    )


def test_zero_embeddings_have_finite_gradients():
    anchors = torch.zeros(2, 3, requires_grad=True)
    info_nce(anchors, torch.eye(3)).sum().backward()
    assert anchors.grad.isfinite().all()


def test_refuses_fewer_candidates_than_anchors():
    with pytest.raises(ValueError, match="3 anchors need as many candidates or more, got 2"):
        info_nce(torch.ones(3, 2), torch.ones(2, 2))

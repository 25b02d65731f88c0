"""Attention of dual numbers against torch's own derivatives of the same attention."""

from __future__ import annotations

import pytest
import torch
import torch.autograd.forward_ad as fwAD
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from selftune.hypergradients.best_response.attention import scaled_dot_product_attention
from selftune.hypergradients.best_response.dual import dual, parts

BATCH, HEADS, QUERIES, KEYS, WIDTH = 2, 4, 3, 5, 6


SEEN = torch.tensor([[1, 0, 1, 1, 0], [0, 0, 1, 0, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)
CASES = {
    "plain": {},
    "scaled": {"scale": 0.3},
    "causal": {"is_causal": True},
    "mask of booleans": {"attn_mask": SEEN},
    "mask of numbers": {"attn_mask": torch.randn(BATCH, 1, QUERIES, KEYS, dtype=torch.float64)},
    "grouped queries": {"enable_gqa": True},
    "dropout": {"dropout_p": 0.4},
    "dropout behind a mask": {"dropout_p": 0.2, "is_causal": True},
}
MOVING = {"all": (0, 1, 2), "queries": (0,), "keys": (1,), "values": (2,), "keys and values": (1, 2)}


def operands(case):
    torch.manual_seed(0)
    few = HEADS // 2 if case == "grouped queries" else HEADS
    shapes = (HEADS, QUERIES), (few, KEYS), (few, KEYS)
    values = [torch.randn(BATCH, heads, n, WIDTH, dtype=torch.float64) for heads, n in shapes]
    return values, [torch.randn_like(v, requires_grad=True) for v in values]


@pytest.mark.parametrize("moving", MOVING)
@pytest.mark.parametrize("case", CASES)
def test_tangents_are_those_of_torch(case, moving):
    values, tangents = operands(case)
    options, chosen = CASES[case], MOVING[moving]

    def attention(*inputs):
        whole = [inputs[chosen.index(i)] if i in chosen else v for i, v in enumerate(values)]
        torch.manual_seed(1)
        with sdpa_kernel(SDPBackend.MATH):
            return F.scaled_dot_product_attention(*whole, **options)

    along = [tangents[i] for i in chosen]
    primal, expected = torch.func.jvp(attention, tuple(values[i] for i in chosen), tuple(along))
    with fwAD.dual_level():
        inputs = [dual(v, t) if i in chosen else v for i, (v, t) in enumerate(zip(values, tangents, strict=True))]
        torch.manual_seed(1)
        value, tangent = parts(scaled_dot_product_attention(*inputs, **options))
    torch.testing.assert_close(value, primal)
    torch.testing.assert_close(tangent, expected)
    weights = torch.randn_like(tangent)
    wanted = torch.autograd.grad(expected, along, weights)
    for actual, want in zip(torch.autograd.grad(tangent, along, weights), wanted, strict=True):
        torch.testing.assert_close(actual, want)


def test_heads_that_are_broadcast_get_the_sum_of_their_gradients():
    values, _ = operands("plain")
    key, tangent = values[1][:1, :1], torch.randn(1, 1, KEYS, WIDTH, dtype=torch.float64, requires_grad=True)
    with fwAD.dual_level():
        _, moved = parts(scaled_dot_product_attention(values[0], dual(key, tangent), values[2]))
    _, expected = torch.func.jvp(
        lambda k: torch.softmax(values[0] @ k.mT / WIDTH**0.5, -1) @ values[2], (key,), (tangent,)
    )
    torch.testing.assert_close(moved, expected)
    for actual, want in zip(
        *(torch.autograd.grad(t.sin().sum(), tangent) for t in (moved, expected)), strict=True
    ):
        torch.testing.assert_close(actual, want)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_type_is_that_of_the_values(dtype):
    values, tangents = operands("plain")
    with fwAD.dual_level():
        inputs = [dual(v.to(dtype), t.detach().to(dtype)) for v, t in zip(values, tangents, strict=True)]
        value, tangent = parts(scaled_dot_product_attention(*inputs))
    assert value.dtype == tangent.dtype == dtype
    expected = F.scaled_dot_product_attention(*(v.to(dtype) for v in values))
    rough = 4 * torch.finfo(dtype).eps
    torch.testing.assert_close(value, expected, rtol=rough, atol=rough)


def test_without_tangents_it_is_plain_attention():
    values, _ = operands("plain")
    torch.testing.assert_close(scaled_dot_product_attention(*values), F.scaled_dot_product_attention(*values))


def test_a_query_that_sees_nothing_gives_zeros():
    values, tangents = operands("plain")
    with fwAD.dual_level():
        inputs = [dual(v, t) for v, t in zip(values, tangents, strict=True)]
        mask = SEEN & torch.tensor([[True], [False], [True]])
        value, tangent = parts(scaled_dot_product_attention(*inputs, attn_mask=mask))
    assert (value[..., 1, :] == 0).all()
    assert (tangent[..., 1, :] == 0).all()
    assert all(g.isfinite().all() for g in torch.autograd.grad(tangent.sum(), tangents))

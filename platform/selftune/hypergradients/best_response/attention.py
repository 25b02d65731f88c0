"""Scaled dot-product attention of dual numbers.

With P = softmax(q k' / sqrt(d) + mask) and a dropout mask D that value and tangent share, the output is (D * P) v.
Its change along (dq, dk, dv) is linear in them:

    dS = (dq k' + q dk') / sqrt(d),   dP = P * (dS - sum over keys of P * dS),   (D * dP) v + (D * P) dv

The fused kernels of torch have no forward derivative. The math kernel has one, but keeps every intermediate result
for its backward pass, where this keeps P and D alone: the adjoint is written out.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from selftune.hypergradients.best_response.dual import dual, parts
from selftune.hypergradients.best_response.linear_map import linear_map
from selftune.shapes import Float, Tensor

_aten = torch.ops.aten


def scaled_dot_product_attention(
    query: Float[Tensor, "*heads queries d"],
    key: Float[Tensor, "*heads keys d"],
    value: Float[Tensor, "*heads keys e"],
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Float[Tensor, "*heads queries e"]:
    """``F.scaled_dot_product_attention`` of a constant mask, where query, key and value may be dual numbers.

    Args:
        dropout_p: probabilities are dropped at this rate, with one mask for values and tangents.
    """
    (q, dq), (k, dk), (v, dv) = parts(query), parts(key), parts(value)
    if enable_gqa:  # several heads of queries share a head of keys and values
        k, v = (tensor.repeat_interleave(q.size(-3) // tensor.size(-3), -3) for tensor in (k, v))
        dk, dv = (
            None if tangent is None else tangent.repeat_interleave(q.size(-3) // tangent.size(-3), -3)
            for tangent in (dk, dv)
        )
    factor = q.size(-1) ** -0.5 if scale is None else scale
    probabilities = _probabilities(q * factor, k, attn_mask, is_causal)
    kept = None if dropout_p == 0 else F.dropout(torch.ones_like(probabilities), dropout_p)
    output: Tensor = _dropped(probabilities, kept) @ v
    named = {name: t.to(output.dtype) for name, t in (("q", dq), ("k", dk), ("v", dv)) if t is not None}
    if not named:
        return output
    shapes = {name: tangent.shape for name, tangent in named.items()}

    def forward(*tangents: Tensor) -> Tensor:
        along = dict(zip(shapes, tangents, strict=True))
        moved = _dropped(probabilities, kept) @ along["v"] if "v" in along else None
        if "q" not in along and "k" not in along:
            assert moved is not None
            return moved
        by_query = (along["q"] * factor) @ k.mT if "q" in along else None
        by_key = (q * factor) @ along["k"].mT if "k" in along else None
        scores = by_query if by_key is None else by_key if by_query is None else by_query.add_(by_key)
        assert scores is not None
        change = _dropped(_through_softmax(scores, probabilities), kept)
        through: Tensor = change @ v
        return through if moved is None else through.add_(moved)

    def adjoint(gradient: Tensor) -> tuple[Tensor, ...]:
        result = {"v": _dropped(probabilities, kept).mT @ gradient} if "v" in shapes else {}
        if "q" in shapes or "k" in shapes:
            scores = _through_softmax(_dropped(gradient @ v.mT, kept), probabilities).mul_(factor)
            result |= {"q": scores @ k} if "q" in shapes else {}
            result |= {"k": scores.mT @ q} if "k" in shapes else {}
        return tuple(result[name].sum_to_size(shape) for name, shape in shapes.items())

    return dual(output, linear_map(forward, adjoint, *named.values()))


def _probabilities(query: Tensor, key: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """Of queries that are scaled; a query that may see nothing has zeros."""
    scores = query @ key.mT
    if causal:
        seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril_()
        scores = scores.masked_fill_(~seen, -torch.inf)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    found: Tensor = _aten._safe_softmax(scores, -1)
    return found


def _dropped(entries: Tensor, kept: Tensor | None) -> Tensor:
    return entries if kept is None else entries * kept


def _through_softmax(direction: Tensor, probabilities: Tensor) -> Tensor:
    """The product with the softmax's Jacobian, which is symmetric."""
    moved: Tensor = _aten._softmax_backward_data(
        direction.to(probabilities.dtype), probabilities, -1, probabilities.dtype
    )
    return moved

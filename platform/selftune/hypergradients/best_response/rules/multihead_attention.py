"""nn.MultiheadAttention, which reads its own projections and those of ``out_proj`` without calling a module."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from selftune.hypergradients.best_response.attention import scaled_dot_product_attention
from selftune.hypergradients.best_response.rules.module_response import ModuleResponse
from selftune.hypergradients.best_response.rules.rule import Rule, responds
from selftune.shapes import Float, Tensor


@responds(nn.MultiheadAttention)
class MultiheadAttention(Rule):
    """Queries, keys, values and outputs are projected with each example's own weights; attention has none."""

    any_batch_axis = True

    def parameters(self, module: nn.Module) -> list[str]:
        return [name for name, _ in module.named_parameters()]

    def batch_axis(self, module: Any) -> int:
        return 0 if module.batch_first else 1

    def forward(
        self,
        module: Any,
        response: ModuleResponse,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As ``nn.MultiheadAttention.forward``; ``is_causal`` says of ``attn_mask`` what that says itself."""
        if is_causal and attn_mask is None:
            raise RuntimeError("MultiheadAttention needs attn_mask where is_causal is true, as torch does")
        q, k, v = self._projected(module, response, query, key, value)
        mask = _merged(module, attn_mask, key_padding_mask, q)
        q, k, v = (self._heads(module, tensor) for tensor in self._with_biases(module, response, q, k, v))
        if module.add_zero_attn:
            k, v = (F.pad(tensor, (0, 0, 0, 1)) for tensor in (k, v))
        extra = k.shape[2] - key.shape[1 if module.batch_first else 0]
        if mask is not None and extra:
            mask = F.pad(mask, (0, extra))
        rate = module.dropout if module.training else 0.0
        weights = None
        if need_weights:
            scores = (q * q.shape[-1] ** -0.5) @ k.mT
            weights = torch.softmax(scores if mask is None else scores + mask, dim=-1)
            weights = F.dropout(weights, rate) if rate else weights
            mixed = weights @ v
            weights = weights.mean(dim=1) if average_attn_weights else weights
        else:
            mixed = _attention(response.linearized, q, k, v, mask, rate)
        mixed = mixed.permute(0, 2, 1, 3) if module.batch_first else mixed.permute(2, 0, 1, 3)
        return response.linear(mixed.flatten(2), "out_proj.weight", "out_proj.bias"), weights

    def _projected(
        self, module: Any, response: ModuleResponse, query: Tensor, key: Tensor, value: Tensor
    ) -> tuple[Tensor, ...]:
        width = module.embed_dim
        thirds = [slice(part * width, (part + 1) * width) for part in range(3)]
        if module.in_proj_weight is None:
            names = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
            return tuple(
                _shifted(response, response.linear(input, name), "in_proj_bias", third)
                for input, name, third in zip((query, key, value), names, thirds, strict=True)
            )
        if query is key and key is value:
            return response.linear(query, "in_proj_weight", "in_proj_bias").chunk(3, dim=-1)
        return tuple(
            response.linear(input, "in_proj_weight", "in_proj_bias", third)
            for input, third in zip((query, key, value), thirds, strict=True)
        )

    def _with_biases(self, module: Any, response: ModuleResponse, q: Tensor, k: Tensor, v: Tensor) -> list[Tensor]:
        """A key and a value that every query can attend to beside those given."""
        if module.bias_k is None:
            return [q, k, v]
        examples, axis = k.shape[response.batch_axis], 1 - response.batch_axis
        result = [q]
        for tensor, name in ((k, "bias_k"), (v, "bias_v")):
            given = response.value(name)
            assert given is not None
            added, change = given.reshape(1, 1, -1).repeat(examples, 1, 1), response.change(name)
            if change is not None:
                added = response.add(added, change.reshape(-1, 1, given.shape[-1]))
            result.append(torch.cat([tensor, added if axis else added.transpose(0, 1)], dim=axis))
        return result

    def _heads(self, module: Any, tensor: Float[Tensor, "..."]) -> Float[Tensor, "batch heads length d"]:
        split = tensor.view(*tensor.shape[:2], module.num_heads, module.head_dim)
        return split.permute(0, 2, 1, 3) if module.batch_first else split.permute(1, 2, 0, 3)


def _shifted(response: ModuleResponse, output: Tensor, bias: str, rows: slice) -> Tensor:
    """``output`` and some rows of a bias, with each example's own change."""
    plain, change = response.value(bias), response.change(bias)
    if plain is None:
        return output
    return response.add(output + plain[rows], None if change is None else response.along(change[:, rows], output))


def _attention(
    linearized: bool, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, rate: float
) -> Float[Tensor, "batch heads queries d"]:
    attention = scaled_dot_product_attention if linearized else F.scaled_dot_product_attention
    return attention(q, k, v, mask, rate)


def _merged(
    module: Any, attention: Tensor | None, padding: Tensor | None, like: Tensor
) -> Float[Tensor, "batch heads queries keys"] | None:
    """What is added to the scores, which broadcasts over the batch and the heads where the masks do."""
    result = None
    if attention is not None:
        result = _added(attention, like)
        result = result.view(-1, module.num_heads, *result.shape[1:]) if result.ndim == 3 else result
    if padding is not None:
        added = _added(padding, like)[:, None, None]
        result = added if result is None else result + added
    return result


def _added(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill_(mask, -torch.inf)

"""Operations that read a linearised value without differentiating it: their results are plain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from selftune.hypergradients.best_response.pair import READS, RULES, Pair, rule, unwrap


def _found(names: str, *places: Any) -> list[Any]:
    return [getattr(place, name) for name in names.split() for place in places if hasattr(place, name)]


_PROPERTIES = _found(
    """shape device dtype layout ndim is_cuda is_cpu is_mps is_sparse is_quantized is_meta is_mkldnn is_nested
    itemsize nbytes is_leaf grad_fn grad output_nr _version _base""",
    torch.Tensor,
)
_METHODS = _found(
    """size dim ndimension nelement stride storage_offset element_size get_device is_contiguous is_signed
    is_shared is_pinned __len__ __repr__ __format__ __bool__ __float__ __int__ __index__ __contains__
    item tolist data_ptr untyped_storage new_tensor new_zeros new_ones new_empty new_full __eq__ __ne__
    __lt__ __le__ __gt__ __ge__""",
    torch.Tensor,
)
_FUNCTIONS = _found(
    """numel is_tensor is_floating_point is_complex is_same_size eq ne lt le gt ge argmax argmin argsort isnan
    isinf isfinite isclose all any equal allclose sign signbit floor ceil round trunc count_nonzero
    nonzero logical_not logical_and logical_or result_type searchsorted bucketize zeros_like ones_like
    empty_like full_like rand_like randn_like""",
    torch.Tensor,
    torch,
)


def _read(operation: Any) -> Callable[..., Any]:
    def read(*args: Any, **kwargs: Any) -> Any:
        return operation(*unwrap(args), **unwrap(kwargs))

    return read


for _operation in (*(prop.__get__ for prop in _PROPERTIES), *_METHODS, *_FUNCTIONS):
    RULES[_operation] = _read(_operation)
    READS.add(_operation)


@rule(torch.Tensor.requires_grad.__get__)  # type: ignore[attr-defined]
def _requires_grad(x: Pair) -> bool:
    return x.tangent.requires_grad


@rule(torch.Tensor.detach, torch.detach, torch.Tensor.data.__get__)  # type: ignore[attr-defined]
def _detach(x: Pair) -> torch.Tensor:
    x.shared = True
    return x.value.detach()


READS.update((torch.Tensor.requires_grad.__get__, torch.Tensor.detach, torch.detach))  # type: ignore[attr-defined]


def _refuse(what: str, instead: str) -> Callable[..., Any]:
    def refused(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{what} of a linearised value would lose its tangent; {instead}")

    return refused


for _operation in (torch.Tensor.numpy, torch.Tensor.__array__):
    RULES[_operation] = _refuse("numpy()", "call detach() first where the network means to read a constant")
for _operation in (torch.autograd.grad, torch.Tensor.backward, torch.Tensor.requires_grad_):
    RULES[_operation] = _refuse(
        f"{_operation.__name__}()", "networks that differentiate inside their forward pass need perturbed()"
    )

"""Operations that read a linearised value without differentiating it: their results are plain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from selftune.hypergradients.best_response.pair import READS, RULES, Pair, pair, rule, unwrap

_PROPERTIES = """shape device dtype layout ndim is_cuda is_cpu is_mps is_sparse is_quantized is_meta is_mkldnn is_nested
    itemsize nbytes is_leaf grad_fn grad output_nr _version _base""".split()
_METHODS = """size dim ndimension numel nelement stride storage_offset element_size get_device is_contiguous
    is_floating_point is_complex is_signed is_shared is_pinned __len__ __repr__ __format__ __bool__ __float__ __int__ __index__
    __contains__ item tolist new_tensor new_zeros new_ones new_empty new_full data_ptr untyped_storage
    eq ne lt le gt ge __eq__ __ne__ __lt__ __le__ __gt__ __ge__ argmax argmin argsort isnan isinf isfinite isclose
    all any equal allclose is_same_size sign signbit count_nonzero nonzero logical_not logical_and logical_or""".split()
_FUNCTIONS = """is_tensor is_floating_point is_complex numel zeros_like ones_like empty_like full_like rand_like randn_like
    eq ne lt le gt ge argmax argmin argsort isnan isinf isfinite isclose all any equal allclose is_same_size sign
    signbit count_nonzero nonzero logical_not logical_and logical_or result_type searchsorted bucketize""".split()


def _read(operation: Any) -> Callable[..., Any]:
    def read(*args: Any, **kwargs: Any) -> Any:
        return operation(*unwrap(args), **unwrap(kwargs))

    return read


for _operation in (
    *(getattr(torch.Tensor, name).__get__ for name in _PROPERTIES),
    *(getattr(torch.Tensor, name) for name in _METHODS if hasattr(torch.Tensor, name)),
    *(getattr(torch, name) for name in _FUNCTIONS if hasattr(torch, name)),
):
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


def _index_put(x: Any, index: Any, source: Any) -> Any:
    from selftune.hypergradients.best_response.pair import _writable, replace

    x = _writable(x, torch.Tensor.__setitem__)
    index = unwrap(index)
    value, tangent = x.value.clone(), x.tangent.clone()
    if type(source) is Pair:
        value[index], tangent[index] = source.value, source.tangent
    else:
        value[index], tangent[index] = source, 0
    return replace(x, pair(value, tangent))


@rule(torch.Tensor.__setitem__)
def _setitem(x: Any, index: Any, source: Any) -> None:
    _index_put(x, index, source)


@rule(torch.Tensor.copy_)
def _copy(x: Any, source: Any, non_blocking: bool = False) -> Any:
    return _index_put(x, ..., source)

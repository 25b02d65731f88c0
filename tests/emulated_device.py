"""A device that is not there: its tensors keep their numbers on the CPU, where the host cannot reach them.

It shows without a GPU what would happen on one: what is made on the device and what is not, which copies go from
one side to the other, and where the host waits. The numbers are those of the CPU, to the last bit.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections import Counter
from dataclasses import dataclass
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = torch.device("meta")
"""What the device is called: a name that torch knows, and runs backward passes for, on every machine."""

LOOKS = frozenset(
    {
        "_local_scalar_dense",
        "item",
        "is_nonzero",
        "equal",
        "allclose",
        "nonzero",
        "nonzero_static",
        "masked_select",
    }
    | {"_unique2", "unique_dim", "unique_consecutive", "bincount", "histc", "_linalg_check_errors"}
)
"""Operations after which the host knows a number or a shape of the device's, for which it has to wait."""

WAITS = frozenset({"_linalg_eigh", "_linalg_svd", "linalg_eig", "linalg_lstsq"})
"""Operations whose kernels on GPUs look whether they have converged: nobody who calls them can help it."""


@dataclass(frozen=True)
class Event:
    """Something that makes the host wait, or that it would be faster without.

    Attributes:
        kind: ``look``, ``to host``, ``to device`` or ``kernel``.
        what: the operation.
        where: the line that it comes from.
    """

    kind: str
    what: str
    where: str

    def __str__(self):
        return f"{self.kind}: {self.what} at {self.where}"


class Watch(TorchDispatchMode):
    """Notes what passes between host and device: looks, copies, and kernels that wait.

    Args:
        kind: the type of the device.
    """

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.events = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        self.see(func, args, kwargs)
        return func(*args, **kwargs)

    def here(self, tensor):
        return tensor.device.type == self.kind

    def see(self, func, args, kwargs):
        name = func.overloadpacket.__name__
        tensors = list(tensors_of((args, kwargs)))
        if not any(map(self.here, tensors)):
            if name in ("_to_copy", "copy_") and kwargs.get("device") is not None and self.wanted(kwargs):
                self.note("to device", name)
            return
        if name in LOOKS:
            self.note("look", name)
        elif name in WAITS:
            self.note("kernel", name)
        elif name == "_to_copy":
            if kwargs.get("device") is not None and not self.wanted(kwargs):
                self.note("to host", name)
        elif name == "copy_":
            if self.here(args[0]) != self.here(args[1]):
                self.note("to device" if self.here(args[0]) else "to host", name)
        elif name == "repeat_interleave" and kwargs.get("output_size") is None:
            self.note("look", name)
        elif name in ("index", "index_put", "index_put_", "_unsafe_index", "_index_put_impl_"):
            indices = [index for index in args[1] if index is not None]
            if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
                self.note("look", "index by a mask")
            if not all(map(self.here, indices)):
                self.note("to device", "index on the host")

    def wanted(self, kwargs):
        return torch.device(kwargs["device"]).type == self.kind

    def note(self, kind, what):
        self.events.append(Event(kind, what, caller()))

    @contextlib.contextmanager
    def seeing(self):
        """Gives a list of the events within."""
        first, found = len(self.events), []
        try:
            yield found
        finally:
            found += self.events[first:]


def caller():
    """The innermost line outside of torch and of this file."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if "/torch/" not in name and name != __file__ and "contextlib" not in name:
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return "a backward pass"


def tensors_of(entry):
    if isinstance(entry, torch.Tensor):
        yield entry
    elif isinstance(entry, dict):
        for value in entry.values():
            yield from tensors_of(value)
    elif isinstance(entry, list | tuple):
        for value in entry:
            yield from tensors_of(value)


class DeviceTensor(torch.Tensor):
    """A tensor of the device; ``own`` has its numbers."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, own):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            own.shape,
            strides=own.stride(),
            storage_offset=own.storage_offset(),
            dtype=own.dtype,
            device=DEVICE,
            requires_grad=False,
        )

    def __init__(self, own):
        self.own = own

    def __repr__(self, **kwargs):
        return f"DeviceTensor({self.own!r})"

    def __tensor_flatten__(self):  # by which torch knows that modules have to swap it in
        return ["own"], None

    @staticmethod
    def __tensor_unflatten__(inner, context, size, stride):
        return DeviceTensor(inner["own"])

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return executed(func, args, kwargs or {})


def executed(func, args, kwargs):
    """Runs an operation of the device on the CPU, refusing what a GPU would refuse."""
    device = kwargs.get("device")
    tensors = list(tensors_of((args, kwargs)))
    ours = [tensor for tensor in tensors if isinstance(tensor, DeviceTensor)]
    makes = None if device is None else torch.device(device).type == DEVICE.type
    if not ours and not makes:
        return func(*args, **kwargs)
    name = func.overloadpacket.__name__
    if name not in _BETWEEN:
        for tensor in tensors:
            if not isinstance(tensor, DeviceTensor) and (tensor.ndim or name in _NO_HOST_NUMBERS):
                where = caller()
                raise RuntimeError(f"{name} of tensors on the host and on the device, at {where}")
    if device is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    found = func(*_own(args), **_own(kwargs))
    if not (ours if makes is None else makes):
        return found
    before = {id(tensor.own): tensor for tensor in ours}
    if torch.Tag.inplace_view in func.tags:  # such as squeeze_: the wrapper has another shape now, too
        with torch._C._DisableTorchDispatch():
            func(*args, **kwargs)
    return _wrapped(found, before)


_BETWEEN = frozenset(
    {"_to_copy", "copy_", "index", "index_put", "index_put_", "_unsafe_index", "_index_put_impl_", "set_"}
)
"""Operations that take tensors of both sides."""

_NO_HOST_NUMBERS = frozenset({"cat", "stack", "index_select", "gather", "mm", "bmm", "addmm", "dot", "mv"})
"""Operations that do not take a number of the host's as a tensor without axes either."""


def _own(entry):
    if isinstance(entry, DeviceTensor):
        return entry.own
    if isinstance(entry, dict):
        return {key: _own(value) for key, value in entry.items()}
    if isinstance(entry, list | tuple):
        return type(entry)(_own(value) for value in entry)
    return entry


def _wrapped(entry, before):
    if isinstance(entry, torch.Tensor):
        if entry._is_zerotensor():  # which holds no numbers, and cannot be held by another tensor
            entry = torch.zeros(entry.shape, dtype=entry.dtype)
        known = before.get(id(entry))
        return DeviceTensor(entry) if known is None else known
    if isinstance(entry, list | tuple):
        return type(entry)(_wrapped(value, before) for value in entry)
    return entry


class _Execution(Watch):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        self.see(func, args, kwargs)
        return executed(func, args, kwargs)


class _Conversions(TorchFunctionMode):
    """``torch.tensor(data, device=...)`` and ``tolist``, which torch does not do for what this device is to it."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in _FROM_DATA:
            device = kwargs.get("device")
            if device is not None and torch.device(device).type == DEVICE.type:
                return func(*args, **{**kwargs, "device": None}).to(DEVICE)
        elif func is torch.Tensor.tolist and isinstance(args[0], DeviceTensor):
            return args[0].cpu().tolist()
        elif func is torch.Tensor.new_tensor and isinstance(args[0], DeviceTensor):
            dtype = kwargs.get("dtype") or args[0].dtype
            return torch.tensor(*args[1:], dtype=dtype).to(DEVICE)
        return func(*args, **kwargs)


_FROM_DATA = (torch.tensor, torch.as_tensor, torch.asarray)


class DeviceGenerator(torch.Generator):
    """A generator of the device, or of the CPU; both draw the same numbers."""

    def __new__(cls, device="cpu"):
        made = super().__new__(cls, "cpu")
        made._device = torch.device(device)
        return made

    @property
    def device(self):
        return self._device


_is_autocast_enabled, _get_autocast_dtype = torch.is_autocast_enabled, torch.get_autocast_dtype


def _never_autocasting(device_type=None):
    return False if device_type == DEVICE.type else _is_autocast_enabled(*filter(None, [device_type]))


def _autocast_dtype(device_type):
    return torch.float16 if device_type == DEVICE.type else _get_autocast_dtype(device_type)


def _autocast(device_type, dtype=None, enabled=True, **settings):
    if device_type == DEVICE.type and not enabled:
        return contextlib.nullcontext()
    return torch.amp.autocast(device_type, dtype, enabled, **settings)


@contextlib.contextmanager
def emulated_device():
    """Within it there is the device; gives what notes the events on it."""
    watch = _Execution(DEVICE.type)
    fused = ["cpu", DEVICE.type]
    with (
        warnings.catch_warnings(),
        mock.patch.object(torch, "Generator", DeviceGenerator),
        mock.patch.object(torch, "autocast", _autocast),
        mock.patch.object(torch, "is_autocast_enabled", _never_autocasting),
        mock.patch.object(torch, "get_autocast_dtype", _autocast_dtype),
        mock.patch("torch.optim.optimizer._get_fused_kernels_supported_devices", return_value=fused),
        _Conversions(),
        watch,
    ):
        warnings.filterwarnings("ignore", ".*copying from a non-meta parameter")  # which does copy here
        yield watch


def listed(events):
    """Events, a line each, with how often they occur."""
    return "\n".join(f"{number} x {event}" for event, number in Counter(map(str, events)).items())

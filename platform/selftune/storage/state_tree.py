"""States as JSON and named tensors: what a file can hold without holding code.

A state is what ``state_dict`` gives: numbers, text, tensors, arrays, and records, in dictionaries, lists, tuples
and sets. It comes back as it was, to the last bit: types, strides, devices, and which entries are one tensor.
"""

from __future__ import annotations

import dataclasses
import math
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from selftune.shapes import Tensor

_RECORDS: dict[str, type[Any]] = {}
_Class = TypeVar("_Class", bound=type[Any])


def record(cls: _Class) -> _Class:
    """Marks a dataclass whose instances a state may hold. No other class is ever built from a file.

    Raises:
        ValueError: if another class of that name is a record.

    >>> @record
    ... @dataclasses.dataclass
    ... class Example:
    ...     size: int
    >>> tensors = {}
    >>> unpacked(packed({"it": Example(3)}, tensors), tensors)
    {'it': Example(size=3)}
    """
    known = _RECORDS.setdefault(cls.__name__, cls)
    if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(f"two records are named {cls.__name__}")
    _RECORDS[cls.__name__] = cls
    return cls


def packed(state: Any, tensors: dict[str, Tensor], given: Mapping[str, Any] | None = None) -> Any:
    """The state as JSON; its tensors go to ``tensors``, each storage once, by the path where it was met first.

    Args:
        given: objects that reader and writer have; the state refers to what equals one of them by its name.

    Raises:
        TypeError: if it holds something else; the message says where.
    """
    return _Packer(tensors, given or {}).pack(state, "")


def unpacked(tree: Any, tensors: Mapping[str, Tensor], given: Mapping[str, Any] | None = None) -> Any:
    """The state that ``packed`` made ``tree`` and ``tensors`` of; what was on a CUDA device goes back to one.

    Raises:
        LookupError, TypeError, ValueError: if it is not such a tree, or of other records than those known here.
    """
    return _Unpacker(tensors, given or {}).unpack(tree)


class _Packer:
    def __init__(self, tensors: dict[str, Tensor], given: Mapping[str, Any]) -> None:
        self.tensors = tensors
        self.given = given
        self._names: dict[object, str] = {}
        self._storages: set[int] = set()

    def pack(self, entry: Any, path: str) -> Any:
        if entry is None or isinstance(entry, bool | str):
            return entry
        if isinstance(entry, int):
            return int(entry)
        if isinstance(entry, float):
            return float(entry) if math.isfinite(entry) else {"float": repr(float(entry))}
        if type(entry) is list:
            return self._all(entry, path)
        if isinstance(entry, Tensor):
            return self._tensor(entry, path)
        for name, value in self.given.items():
            if type(entry) is type(value) and entry == value:
                return {"given": name}
        pack = self._packers().get(type(entry))
        if pack is not None:
            return pack(entry, path)
        if dataclasses.is_dataclass(entry) and _RECORDS.get(type(entry).__name__) is type(entry):
            fields = {f.name: getattr(entry, f.name) for f in dataclasses.fields(entry)}
            return {"record": type(entry).__name__, "fields": self.pack(fields, path)}
        raise TypeError(
            f"{path or 'the state'} is a {type(entry).__name__}, which no file of states holds; give numbers,"
            " text, tensors, dictionaries, lists, tuples, or a dataclass that is a selftune.storage.record"
        )

    def _packers(self) -> dict[type[Any], Callable[[Any, str], Any]]:
        return {
            dict: self._dict,
            OrderedDict: self._ordered,
            tuple: lambda entry, path: {"tuple": self._all(entry, path)},
            torch.Size: lambda entry, path: {"size": list(entry)},
            set: lambda entry, path: {"set": self._all(entry, path)},
            frozenset: lambda entry, path: {"frozenset": self._all(entry, path)},
            deque: lambda entry, path: {"deque": self._all(entry, path), "length": entry.maxlen},
            bytes: lambda entry, path: {"bytes": entry.hex()},
            torch.dtype: lambda entry, path: {"dtype": str(entry).removeprefix("torch.")},
            np.ndarray: lambda entry, path: {"array": self._array(entry, path)},
            **dict.fromkeys((np.int32, np.int64, np.float32, np.bool_), lambda entry, path: entry.item()),
        }

    def _all(self, entries: Any, path: str) -> list[Any]:
        return [self.pack(entry, f"{path}.{index}") for index, entry in enumerate(entries)]

    def _dict(self, entry: Mapping[Any, Any], path: str) -> Any:
        def at(key: Any) -> str:
            return f"{path}.{key}" if path else str(key)

        if all(type(key) is str for key in entry):
            return {"dict": {key: self.pack(value, at(key)) for key, value in entry.items()}}
        return {"pairs": [[self.pack(key, path), self.pack(value, at(key))] for key, value in entry.items()]}

    def _ordered(self, entry: OrderedDict[Any, Any], path: str) -> Any:
        metadata = getattr(entry, "_metadata", None)  # of modules' states: versions, by which they are read
        return {"ordered": self._dict(entry, path), "metadata": self.pack(metadata, f"{path}._metadata")}

    def _array(self, entry: np.ndarray[Any, Any], path: str) -> Any:
        if entry.dtype.hasobject or entry.dtype.kind in "USV":
            raise TypeError(f"{path} is an array of {entry.dtype}, which no file of states holds")
        return self._tensor(torch.from_numpy(entry.copy()), path)

    def _tensor(self, entry: Tensor, path: str) -> Any:
        if entry.layout is not torch.strided or entry.is_quantized:
            raise TypeError(f"{path} is a tensor that is {entry.layout}, which no file of states holds")
        name = self._name(entry.detach(), path)
        packed: dict[str, Any] = {"tensor": name}
        if isinstance(entry, nn.Parameter):
            packed["parameter"] = entry.requires_grad
        elif entry.requires_grad:
            packed["requires_grad"] = True
        own = torch.empty(entry.shape, device="meta").stride()
        if own != entry.stride() == torch.empty_like(entry, device="meta").stride():  # channels last, transposed
            packed["stride"] = list(entry.stride())
        if entry.device.type != "cpu":
            packed["device"] = entry.device.type
        return packed

    def _name(self, entry: Tensor, path: str) -> str:
        storage = entry.untyped_storage().data_ptr()
        view = (storage, entry.storage_offset(), entry.shape, entry.stride(), entry.dtype, entry.device)
        if storage and view in self._names:
            return self._names[view]
        name = path or "state"
        while name in self.tensors:
            name += "'"
        content = entry.contiguous().cpu()
        if storage in self._storages and content.untyped_storage().data_ptr() == storage:
            content = content.clone()  # another part of what is there already
        self._storages.add(storage)
        self._names[view], self.tensors[name] = name, content
        return name


class _Unpacker:
    def __init__(self, tensors: Mapping[str, Tensor], given: Mapping[str, Any]) -> None:
        self.tensors = tensors
        self.given = given
        self._made: dict[tuple[Any, ...], Tensor] = {}

    def unpack(self, tree: Any) -> Any:
        if isinstance(tree, list):
            return [self.unpack(entry) for entry in tree]
        if not isinstance(tree, dict):
            return tree
        kind, content = next(iter(tree.items()))
        match kind:
            case "dict":
                return {key: self.unpack(value) for key, value in content.items()}
            case "pairs":
                return {self.unpack(key): self.unpack(value) for key, value in content}
            case "ordered":
                ordered = OrderedDict(self.unpack(content))
                if tree["metadata"] is not None:
                    ordered._metadata = self.unpack(tree["metadata"])  # type: ignore[attr-defined]
                return ordered
            case "tuple":
                return tuple(self.unpack(content))
            case "tensor":
                return self._tensor(tree)
            case "record":
                return _RECORDS[content](**self.unpack(tree["fields"]))
            case "given":
                return self.given[content]
            case "float":
                return float(content)
            case "deque":
                return deque(self.unpack(content), tree["length"])
            case "array":
                return self._tensor(content).numpy().copy()
            case "dtype":
                return _dtype(content)
            case "bytes":
                return bytes.fromhex(content)
        simple: dict[str, Callable[[Any], Any]] = {"set": set, "frozenset": frozenset, "size": torch.Size}
        return simple[kind](self.unpack(content))

    def _tensor(self, tree: Mapping[str, Any]) -> Tensor:
        stride = tree.get("stride")
        known = (
            tree["tensor"],
            str(stride),
            tree.get("device"),
            tree.get("parameter"),
            "requires_grad" in tree,
        )
        if known in self._made:
            return self._made[known]
        tensor = self.tensors[tree["tensor"]]
        if stride is not None:
            tensor = torch.empty_strided(tensor.shape, stride, dtype=tensor.dtype).copy_(tensor)
        if tree.get("device") == "cuda" and torch.cuda.is_available():
            tensor = tensor.cuda()
        if "parameter" in tree:
            tensor = nn.Parameter(tensor, requires_grad=tree["parameter"])
        elif "requires_grad" in tree:
            tensor = tensor.requires_grad_()
        self._made[known] = tensor
        return tensor


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"{name} is no type of tensors")
    return found

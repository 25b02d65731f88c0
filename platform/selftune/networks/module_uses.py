"""Which modules of a network run, along which axis they see the examples, and where a tensor is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from selftune.shapes import Tensor


@dataclass(frozen=True)
class ModuleUse:
    """What a pass shows of one module.

    Attributes:
        batch_axis: which axis of the first tensor that its forward is given runs over the examples, in every call;
            None where none does.
        folded: None, or how examples lie in a first axis that is several times as long as the batch, because the
            network has put another axis into it: "outer" if the entries of an example follow one another, as in
            ``x.flatten(0, 1)`` of (batch, time, features), "inner" if those of a time do. ``batch_axis`` is 0.
        without_examples: whether that tensor looks the same however many examples there are, as positions do.
    """

    batch_axis: int | None = None
    without_examples: bool = False
    folded: Literal["outer", "inner"] | None = None


@dataclass
class _Seen:
    axes: set[int] | None = None
    """Axes that were as long as the batch in every call so far; None before the first."""
    shapes: dict[int, set[tuple[int, ...]]] = field(default_factory=dict)
    """Shapes that the first tensor had, by the number of examples."""

    inputs: dict[int, list[Tensor]] = field(default_factory=dict)
    """The first tensors whose first axis was a multiple of the number of examples, by that number."""
    otherwise: bool = False
    """Whether there were calls with others."""

    def use(self) -> ModuleUse:
        shapes, folded = list(self.shapes.values()), None if self.axes else self._folded()
        return ModuleUse(
            batch_axis=min(self.axes) if self.axes else (None if folded is None else 0),
            folded=folded,
            without_examples=not self.axes and len(shapes) > 1 and all(shapes[0] == other for other in shapes),
        )

    def _folded(self) -> Literal["outer", "inner"] | None:
        """What the entries of the same examples in a larger and a smaller batch show, if they show one thing."""
        if self.otherwise or len(self.inputs) != 2:
            return None
        (many, large), (few, small) = sorted(self.inputs.items(), reverse=True)
        pairs = list(zip(large, small, strict=False))  # a pass in another mode may have come after these
        outer = all(_alike(one[: len(other)], other) for one, other in pairs)
        inner = all(
            _alike(one.reshape(-1, many, *one.shape[1:])[:, :few], other.reshape(-1, few, *other.shape[1:]))
            for one, other in pairs
        )
        return None if outer == inner else ("outer" if outer else "inner")


def _alike(one: Tensor, other: Tensor) -> bool:
    """Equal up to the rounding of batches of other sizes."""
    if one.shape != other.shape:
        return False
    if not one.is_floating_point():
        return torch.equal(one, other)
    return torch.allclose(one, other, rtol=1e-3, atol=1e-3 * float(other.abs().max()))


class UseTrace(TorchFunctionMode):
    """Notes what runs and what is used where, while a network runs within it.

    Args:
        network: gets two hooks per module until ``remove``.
        names: the name that counts of each parameter, by its identity.
    """

    def __init__(self, network: nn.Module, names: Mapping[int, str]) -> None:
        super().__init__()
        self._names = names
        self._running: list[str] = []
        self._seen: dict[str, _Seen] = {}
        self._places: dict[str, set[tuple[str, ...]]] = {}
        self._size = 0
        self._hooks = [
            handle
            for name, module in network.named_modules()
            for handle in (
                module.register_forward_pre_hook(self._enter(name), prepend=True, with_kwargs=True),
                module.register_forward_hook(self._leave(name), always_call=True),
            )
        ]

    def begin(self, size: int) -> None:
        """A pass on so many examples begins."""
        self._size = size
        self._running.clear()

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def modules(self) -> dict[str, ModuleUse]:
        """The modules whose forward ran, in the order in which it ran first."""
        return {name: seen.use() for name, seen in self._seen.items()}

    def places(self) -> dict[str, frozenset[tuple[str, ...]]]:
        """For every parameter that is used: the modules that ran when it was, from the outside to the inside."""
        return {name: frozenset(places) for name, places in self._places.items()}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(True for _ in _tensors(result)):  # whoever asks for a shape or a type uses nothing
            for tensor in _tensors((args, kwargs)):
                name = self._names.get(id(tensor))
                if name is not None and tensor is not result:
                    self._places.setdefault(name, set()).add(tuple(self._running))
        return result

    def _enter(self, name: str) -> Callable[..., None]:
        def enter(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            self._running.append(name)
            seen = self._seen.setdefault(name, _Seen())
            given = next((value for value in (*arguments, *named.values()) if isinstance(value, Tensor)), None)
            if given is not None:
                axes = {axis for axis, length in enumerate(given.shape) if length == self._size}
                seen.axes = axes if seen.axes is None else seen.axes & axes
                seen.shapes.setdefault(self._size, set()).add(tuple(given.shape))
                if given.ndim and 0 not in axes and len(given) % self._size == 0:
                    seen.inputs.setdefault(self._size, []).append(given.detach().clone())
                else:
                    seen.otherwise = True

        return enter

    def _leave(self, name: str) -> Callable[..., None]:
        def leave(module: nn.Module, arguments: Any, output: Any) -> None:
            while self._running and self._running.pop() != name:
                pass

        return leave


def _tensors(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, Mapping):
        for value in tree.values():
            yield from _tensors(value)
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from _tensors(value)

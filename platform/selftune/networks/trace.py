"""One traced pass of a network: which modules run, in which order, and who uses which parameter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.overrides import TorchFunctionMode

from selftune.networks.module_uses import InputsSeen, ModuleUse
from selftune.shapes import Tensor


@dataclass
class LayerSeen:
    """What a trace notes about one module that holds weights; see ``selftune.networks.inventory.Layer``."""

    calls: int = 0
    functional: bool = False
    encloses: bool = False
    inputs: int = 0
    by_position: bool = False
    floating: bool = True
    plain_output: bool = True
    first: int | None = None
    """Number of the event in which it was used first."""


class Trace(TorchFunctionMode):
    """Notes what runs and who uses which parameter, in the order in which it happens.

    Args:
        network: gets two hooks per module until ``remove``.

    Attributes:
        names: the name that counts of every parameter, by its identity.
        weights: the weights of every layer, by the names that count.
        seen: what was noted of every layer, in the order of the network.
        last: the layer whose weight was used last, and whether its own forward did.
        passes: how often the network ran.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._network = network
        self.names = _names_that_count(network)
        self.weights: dict[str, dict[str, Tensor]] = {}
        self._layers_with: dict[int, tuple[str, ...]] = {}
        modules = dict(network.named_modules())
        for name, module in modules.items():
            for tensor in module._parameters.values():
                if tensor is not None and tensor.ndim >= 2:
                    layer = _layer_of(name)
                    self.weights.setdefault(layer, {})[self.names[id(tensor)]] = tensor
                    self._layers_with[id(tensor)] = (*self._layers_with.get(id(tensor), ()), layer)
        self.seen = {name: LayerSeen() for name in modules if name in self.weights}
        self.last: tuple[str | None, bool] = (None, False)
        self.passes = 0
        self._inputs: dict[str, InputsSeen] = {}
        self._places: dict[str, set[tuple[str, ...]]] = {}
        self._running: list[str] = []
        self._events: list[tuple[str, bool]] = []
        self._size = 0
        self._hooks = [
            handle
            for name, module in modules.items()
            for handle in (
                module.register_forward_pre_hook(self._enter(name), prepend=True, with_kwargs=True),
                module.register_forward_hook(self._leave(name), always_call=True),
            )
        ]

    def run(self, feed: Callable[[nn.Module, int], object], size: int) -> None:
        """A pass on so many examples."""
        self._size = size
        self._running.clear()
        with self:
            feed(self._network, size)
        if self._events and self.last[0] is None:  # later passes only look for what the first one left out
            self.last = self._events[-1]

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def unused(self) -> bool:
        """Whether no pass has used the weights of some layer."""
        return any(seen.first is None for seen in self.seen.values())

    def modules(self) -> dict[str, ModuleUse]:
        """The modules whose forward ran, in the order in which it ran first."""
        return {name: inputs.use() for name, inputs in self._inputs.items()}

    def places(self) -> dict[str, frozenset[tuple[str, ...]]]:
        """For every parameter that is used: the modules that ran when it was, from the outside to the inside."""
        return {name: frozenset(places) for name, places in self._places.items()}

    # While it runs -----------------------------------------------------------------------------------

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(True for _ in _tensors(result)):  # whoever asks for a shape or a type uses nothing
            for tensor in _tensors((args, kwargs)):
                name = self.names.get(id(tensor))
                if name is not None and tensor is not result:
                    self._places.setdefault(name, set()).add(tuple(self._running))
                    self._use(self._layers_with.get(id(tensor), ()))
        return result

    def _use(self, layers: Sequence[str]) -> None:
        own = next((name for name in reversed(self._running) if name in layers), None)
        for name in layers if own is None else (own,):
            seen = self.seen[name]
            seen.functional |= own is None
            if seen.first is None:
                seen.first = len(self._events)
            self._events.append((name, own is not None))

    def _enter(self, name: str) -> Callable[..., None]:
        def enter(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            given = [value for value in (*arguments, *named.values()) if isinstance(value, Tensor)]
            if module is self._network:
                self.passes += 1
            if name in self.seen:
                for outer in self._running:
                    if outer in self.seen:
                        self.seen[outer].encloses = True
                seen = self.seen[name]
                seen.calls += 1
                seen.inputs = max(seen.inputs, len(given))
                seen.by_position = bool(arguments) and isinstance(arguments[0], Tensor)
                seen.floating &= not given or given[0].is_floating_point()
            self._running.append(name)
            inputs = self._inputs.setdefault(name, InputsSeen())
            if given:
                inputs.note(given[0], self._size)

        return enter

    def _leave(self, name: str) -> Callable[..., None]:
        def leave(module: nn.Module, arguments: Any, output: Any) -> None:
            while self._running and self._running.pop() != name:
                pass
            if name in self.seen:
                self.seen[name].plain_output &= isinstance(output, Tensor)

        return leave


def _names_that_count(network: nn.Module) -> dict[int, str]:
    """The name that counts of every parameter, by its identity: the first of those that share its memory."""
    names: dict[int, str] = {}
    places: dict[Any, str] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        place: Any = id(parameter)
        if parameter.numel() and parameter.device.type != "meta":
            storage = parameter.untyped_storage().data_ptr()
            place = storage, parameter.storage_offset(), parameter.shape, parameter.stride()
        names.setdefault(id(parameter), places.setdefault(place, name))
    return names


def _layer_of(module: str) -> str:
    """The layer that a module's parameters belong to: those of a parametrization are its layer's."""
    parts = module.split(".")
    return ".".join(parts[: parts.index("parametrizations")]) if "parametrizations" in parts else module


def _tensors(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, Mapping):
        for value in tree.values():
            yield from _tensors(value)
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from _tensors(value)

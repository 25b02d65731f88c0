"""What a network is, seen in a traced pass: which layers run, in which order, with which weights."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from selftune.networks.modes import constant_buffers, evaluating
from selftune.networks.module_uses import ModuleUse
from selftune.networks.network_state import has_hooked_weight, has_length_apart
from selftune.networks.trace import Trace
from selftune.shapes import Tensor

__all__ = ["Feed", "Inventory", "Layer", "aliases", "take_inventory", "tensors_of", "undisturbed"]


class Feed(NamedTuple):
    """How a network is run to be looked at.

    Attributes:
        run: runs it on the first so many examples.
        examples: how many there are, at least 1.
    """

    run: Callable[[nn.Module, int], object]
    examples: int


@dataclass(frozen=True)
class Layer:
    """A module that holds weights, which are parameters of two or more axes, whatever they are called.

    Attributes:
        name: the module's, ``""`` for the network itself.
        type: its class.
        weights: full names of its weights; a tensor that several layers share has one name in all of them.
        linear: whether it is a linear layer.
        weight: whether one of them is the attribute ``weight``, or what that is computed from.
        calls: how often its forward runs in a pass of the network.
        used: whether the pass uses its weights, or runs its forward, at all.
        functional: whether they are used outside of its own forward, as in ``F.linear(x, layer.weight)``.
        encloses: whether other layers run within its forward.
        inputs: how many tensors its forward is given by position, or by name.
        by_position: whether the first argument is a tensor given by position.
        floating: whether the first tensor holds real numbers.
        plain_output: whether it returns one tensor.
        batch_axis: which axis of its first tensor runs over the examples; None where none does.
        tied: names of other layers that hold one of its weights.
        parametrized: whether a weight is computed by ``torch.nn.utils.parametrize``.
        hooked: whether its ``weight`` is computed by a hook, as ``torch.nn.utils.weight_norm`` does it.
        length_apart: whether ``weight_norm``, old or new, makes its weight of lengths and directions.
        trained: whether one of its weights is.
    """

    name: str
    type: str
    weights: tuple[str, ...]
    weight: bool
    linear: bool = False
    calls: int = 0
    used: bool = False
    functional: bool = False
    encloses: bool = False
    inputs: int = 0
    by_position: bool = False
    floating: bool = False
    plain_output: bool = False
    batch_axis: int | None = None
    tied: tuple[str, ...] = ()
    parametrized: bool = False
    hooked: bool = False
    length_apart: bool = False
    trained: bool = True

    @property
    def shown(self) -> str:
        """Its name in messages."""
        return self.name or "(the network)"


@dataclass(frozen=True)
class Inventory:
    """The layers of a network in the order of their first use, and what is to know of its tensors.

    The layer that is used last comes last. Layers that are not used at all follow in the order of the network.

    Attributes:
        layers: all of them.
        sizes: numbers of entries of the parameters, each storage once, by name.
        tied: groups of names that are one tensor; the first is the one that counts.
        frozen: names of the parameters that are not trained.
        buffers: whether each buffer is part of the network's state (persistent), by name.
        last: the layer whose weight is used last.
        last_runs: whether it is used by the forward of that layer, and no other layer runs within it.
        modules: every module that runs, in the order in which it ran first.
        places: by the name of each parameter that is used, the modules that ran when it was, from the outside to
            the inside.

    >>> network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> inventory = take_inventory(network, Feed(lambda network, n: network(torch.zeros(n, 3)), examples=4))
    >>> [layer.name for layer in inventory.layers], inventory.last, inventory["0"].batch_axis
    (['0', '2'], '2', 0)
    """

    layers: tuple[Layer, ...]
    sizes: Mapping[str, int]
    tied: tuple[tuple[str, ...], ...]
    frozen: frozenset[str]
    buffers: Mapping[str, bool]
    last: str | None
    last_runs: bool
    modules: Mapping[str, ModuleUse]
    places: Mapping[str, frozenset[tuple[str, ...]]]

    @property
    def running(self) -> tuple[Layer, ...]:
        """The layers with a ``weight`` whose own forward runs: what they put out can be seen."""
        return tuple(layer for layer in self.layers if layer.weight and layer.calls)

    def __getitem__(self, name: str) -> Layer:
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(name)

    def canonical(self, name: str) -> str:
        """The name that counts of a tensor with several."""
        return next((group[0] for group in self.tied if name in group), name)


@contextmanager
def undisturbed(seed: int = 0) -> Iterator[None]:
    """Random numbers of torch, numpy and Python within are those of a seed, and go on after it as before it."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=list(devices)):
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def take_inventory(network: nn.Module, feed: Feed) -> Inventory:
    """Looks at a network while it runs on a few examples.

    It runs in evaluation mode, on all examples and on half of them, because the batch axis may be as long as
    another one by chance; if weights stay unused, also in the mode in which it came. Modes, buffers and the global
    random streams are afterwards what they were.
    """
    trace = Trace(network)
    fast = torch.backends.mha.get_fastpath_enabled()
    try:
        # transformer layers call their submodules, also where torch would fuse them for inference
        torch.backends.mha.set_fastpath_enabled(False)
        with torch.no_grad(), undisturbed(), _uncompiled(network), constant_buffers(network):
            with evaluating(network):
                for size in dict.fromkeys((feed.examples, max(1, feed.examples // 2))):
                    trace.run(feed.run, size)
            if trace.unused():
                trace.run(feed.run, feed.examples)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        trace.remove()
    return _inventory(network, trace)


def _uncompiled(network: nn.Module) -> AbstractContextManager[Any]:
    """Compiled modules run as they were written; torch loads its compiler only where there are some."""
    compiled = any(hasattr(module, "_orig_mod") for module in network.modules())
    stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager") if compiled else nullcontext()
    return stance


def tensors_of(network: nn.Module) -> dict[str, Tensor]:
    """What a network computes with, each tensor once: its parameters and buffers by name.

    >>> network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    >>> network[1].weight = network[0].weight
    >>> list(tensors_of(network))
    ['0.weight']
    """
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


def aliases(network: nn.Module) -> dict[str, str]:
    """Further names of a network's tensors, each with the one that ``tensors_of`` gives."""
    first: dict[int, str] = {id(tensor): name for name, tensor in tensors_of(network).items()}
    state = network.state_dict(keep_vars=True)
    return {name: first[id(t)] for name, t in state.items() if id(t) in first and first[id(t)] != name}


def _inventory(network: nn.Module, trace: Trace) -> Inventory:
    last, runs = trace.last
    used = sorted(
        (name for name in trace.seen if trace.seen[name].first is not None),
        key=lambda name: (name == last, trace.seen[name].first),
    )
    names = [*used, *(name for name in trace.seen if name not in used)]
    parameters = dict(network.named_parameters(remove_duplicate=False))
    groups: dict[str, list[str]] = {}
    for name, parameter in parameters.items():
        groups.setdefault(trace.names[id(parameter)], []).append(name)
    state, uses = network.state_dict(keep_vars=True), trace.modules()
    return Inventory(
        layers=tuple(_layer(network.get_submodule(name), name, trace, uses.get(name)) for name in names),
        sizes={trace.names[id(p)]: p.numel() for p in parameters.values()},
        tied=tuple(tuple(group) for group in groups.values() if len(group) > 1),
        frozen=frozenset(trace.names[id(p)] for p in parameters.values() if not p.requires_grad),
        buffers={name: name in state for name, _ in network.named_buffers()},
        last=last,
        last_runs=runs and last is not None and not trace.seen[last].encloses,
        modules=uses,
        places=trace.places(),
    )


def _layer(module: nn.Module, name: str, trace: Trace, use: ModuleUse | None) -> Layer:
    seen, weights = trace.seen[name], trace.weights[name]
    weight = getattr(module, "weight", None)
    return Layer(
        name=name,
        type=type(module).__name__,
        weights=tuple(weights),
        weight=isinstance(weight, Tensor) and weight.ndim >= 2,
        linear=isinstance(module, nn.Linear),
        calls=-(-seen.calls // max(1, trace.passes)),
        used=seen.first is not None or seen.calls > 0,
        functional=seen.functional,
        encloses=seen.encloses,
        inputs=seen.inputs,
        by_position=seen.by_position,
        floating=seen.floating,
        plain_output=seen.plain_output,
        batch_axis=None if use is None else use.batch_axis,
        tied=tuple(
            other for other in trace.seen if other != name and not weights.keys().isdisjoint(trace.weights[other])
        ),
        parametrized=hasattr(module, "parametrizations"),
        hooked=has_hooked_weight(module),
        length_apart=has_length_apart(module),
        trained=any(tensor.requires_grad for tensor in weights.values()),
    )

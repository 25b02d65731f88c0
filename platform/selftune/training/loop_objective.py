"""A training loop of somebody's own, as the engine sees it: a network that is there, and functions around it."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from selftune.data.drawn import Drawn
from selftune.data.nested import first_of, moved, size_of, tensors_in
from selftune.data.overlap import digests
from selftune.errors import SettingError
from selftune.lower_level.function_objective import FunctionObjective, Loss
from selftune.lower_level.optimization import Optimization
from selftune.networks.inventory import undisturbed
from selftune.shapes import Tensor
from selftune.training.seeds import Streams
from selftune.training.sources import BatchSource, Sources
from selftune.training.sources.loader import LoaderSource

KEPT = 16
"""Batches that are kept for methods that look at several, beside the one that is trained on."""

_WATCHED = 20  # training batches that are compared with validation data


class LoopObjective(FunctionObjective):
    """A network that somebody trains in a loop of their own.

    Args:
        network: it.
        loss, forward, validation_loss, metrics, quantities: as of ``FunctionObjective``.
        batch: one of the validation data, on the network's device, which shows what batches are.
        examples: number of training examples; None where nobody knows.
        build: makes a fresh network of the kind; None where nobody can.

    Raises:
        SettingError: as ``FunctionObjective``.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Loss,
        batch: Any,
        *,
        forward: Callable[[Callable[..., Any], Any], Any] | None = None,
        validation_loss: Loss | None = None,
        metrics: Callable[[Any, Any], Mapping[str, Any]] | None = None,
        quantities: Mapping[str, Callable[[Any, Any], Any]] | None = None,
        examples: int | None = None,
        build: Callable[[], nn.Module] | None = None,
    ) -> None:
        if quantities is not None and "index" in quantities and examples is None:
            raise SettingError("examples", "is missing; with an index, say how many training examples there are")
        self._network = network
        self._fresh = build
        self._batch = batch
        self.optimization = Optimization(batch_size=size_of(batch))
        self._functions(loss, forward, validation_loss, metrics, quantities)
        self._examples = examples
        self.provides |= frozenset({"examples"} if examples is not None else ())

    @property
    def title(self) -> str:
        return "this loop"

    def network(self) -> nn.Module:
        """Another network of the kind, for regularizers that ask or train one beside."""
        if self._fresh is None:
            raise SettingError(
                "build",
                "is missing: a regularizer has another network beside; give build=, which makes a fresh one",
            )
        return self._fresh()

    def structure(self) -> nn.Module:
        return self._network

    def splits(self) -> Mapping[str, Any]:
        return {"validation": self._batch}

    def training_examples(self, key: str) -> tuple[str, ...]:
        if "index" not in self._given or self._examples is None:
            raise SettingError(
                key,
                "has one value per training example; give quantities with an index, which says which examples a"
                " batch holds, and examples, their number",
            )
        return tuple(map(str, range(self._examples)))

    def index(self, batch: Any, device: torch.device) -> Tensor | None:
        """Positions of a batch's examples in the training data; None where nobody says them."""
        return self._given["index"](None, batch).to(device) if "index" in self._given else None

    def example(self, size: int, split: str = "validation") -> Any:
        return first_of(self._batch, size)


class LoopSources(Sources):
    """Batches that a loop brings, and a validation loader that is gone through over and over.

    Args:
        loader: the validation data.
        streams: where random numbers come from.
        device: where batches are wanted.
        examples: number of training examples; None where nobody knows.

    Raises:
        SettingError: if the loader gives nothing.
    """

    def __init__(
        self, loader: Iterable[Any], streams: Streams, device: torch.device, examples: int | None = None
    ) -> None:
        self.validation: LoaderSource = LoaderSource("validation", loader, streams, "validation", device)
        with undisturbed():
            self.batch = self.validation.at(0).batch
        # any position will do for what stands for training batches before there is one
        index = None if examples is None else torch.zeros(size_of(self.batch), dtype=torch.long, device=device)
        self.train: RecentBatches = RecentBatches(Drawn(index, self.batch), examples)

    def whole(self, split: str, size: int) -> Iterator[Any]:
        return self.validation.once(size)

    def sample(self, size: int) -> Drawn:
        return Drawn(None, first_of(self.batch, size))


class RecentBatches(BatchSource):
    """The last batches that a loop has trained on; they stand for those to come, which nobody knows.

    Args:
        example: what stands for them before the first one.
        examples: number of training examples; None where nobody knows.
    """

    def __init__(self, example: Drawn, examples: int | None = None) -> None:
        super().__init__()
        self.examples = examples
        self._example = example
        self._kept: deque[Drawn] = deque(maxlen=KEPT)
        self._size = size_of(example.batch)
        self.wanted = False
        """Whether a method looks at them; batches that nobody wants go at once, and their memory is used again."""

    def keep(self, drawn: Drawn) -> None:
        """A step trains on a batch."""
        if self.wanted:
            self._kept.append(drawn)
        elif self.examples is not None:
            self._size = size_of(drawn.batch)

    def at(self, step: int) -> Drawn:
        return self._kept[step % len(self._kept)] if self._kept else self._example

    def epoch(self, step: int) -> int:
        """By the number of examples, as if all batches were as large as the last one."""
        size = size_of(self._kept[-1].batch) if self._kept else self._size
        return step * size // (self.examples or size)

    def once(self, size: int) -> Iterator[Any]:
        return iter(())

    def state_dict(self) -> dict[str, Any]:
        return {"kept": [(drawn.index, drawn.batch) for drawn in self._kept], "size": self._size}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        device = next(tensors_in(self._example.batch)).device
        self._kept = deque((Drawn(*moved(drawn, device)) for drawn in state["kept"]), maxlen=KEPT)
        self._size = state["size"]


class OverlapWatch:
    """Warns once where batches of a loop hold examples that are validation data, too.

    Args:
        validation: a batch of these; the first training batches are compared with it.
    """

    def __init__(self, validation: Any) -> None:
        self._known = set(digests(validation))
        self._left = _WATCHED

    def look(self, batch: Any) -> None:
        """Compares a training batch, if it is one of the first."""
        if not self._left:
            return
        self._left -= 1
        equal = sum(digest in self._known for digest in digests(batch))
        if equal:
            self._left = 0
            what = f"{equal} example{'s' if equal > 1 else ''}"
            warnings.warn(
                f"validation: shares {what} of its first batch with a batch that is trained on, so that it"
                " does not judge what is learnt; keep them apart",
                stacklevel=3,
            )


def unwrapped(model: nn.Module) -> nn.Module:
    """The network within what compiles it or trains it in several processes."""
    inner: Any = model
    while True:
        if isinstance(inner, DistributedDataParallel | nn.DataParallel):
            inner = inner.module
        elif hasattr(inner, "_orig_mod"):
            inner = inner._orig_mod
        else:
            return inner  # type: ignore[no-any-return]

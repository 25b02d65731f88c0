"""Experience replay from a reservoir: a bounded uniform sample of the stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from selftune.errors import SettingError
from selftune.hyperparameters import Hyperparameter, Integer, Positive
from selftune.lower_level.objective import NetworkObjective
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, register
from selftune.regularization.step import Step
from selftune.shapes import Float, Int, Tensor


def experience_replay(
    priorities: Float[Tensor, "stored"], new_priorities: Float[Tensor, "new"], capacity: int
) -> Int[Tensor, "kept"]:
    """Which of the examples [stored, new] the memory keeps: the largest keys, in descending order.

    Every example of the stream gets one key from a uniform distribution; what is kept is then a uniform sample
    without replacement of everything seen. Among equal keys, earlier examples come first.

    Args:
        capacity: not negative; the result has length min(capacity, stored + new).

    Raises:
        ValueError: if the capacity is negative.

    Source: "On Tiny Episodic Memories in Continual Learning" (arXiv 1902.10486), its reservoir.

    >>> experience_replay(torch.tensor([0.9, 0.1]), torch.tensor([0.5]), capacity=2)
    tensor([0, 2])
    """
    if capacity < 0:
        raise ValueError(f"capacity must not be negative, got {capacity}")
    keys = torch.cat([priorities, new_priorities])
    return torch.argsort(keys, descending=True, stable=True)[:capacity]


@register
class ExperienceReplay(Regularizer):
    """Adds examples of a bounded memory to every batch; the memory is a uniform sample of the stream so far.

    The training loss is the stream's mean loss plus ``weight`` times that of the replayed examples, of which there
    are ``replayed`` per example of the stream, or as many as are stored.
    """

    name = "experience_replay"
    family = "adaptation"
    kind = "augment"
    reference = Reference("On Tiny Episodic Memories in Continual Learning", "1902.10486")
    hyperparameters = (
        Hyperparameter("weight", Positive(sweep=(0.1, 10.0)), 1.0),
        Hyperparameter("capacity", Integer(1, 1_000_000, sweep=(50, 2000)), 500, online=False, smooth=False),
        Hyperparameter("replayed", Integer(1, 16, sweep=(1, 4)), 1, online=False, smooth=False),
    )
    needs = frozenset({"inputs", "labels", "targets"})
    axes: ClassVar = {"labels": ("batch", ...), "targets": ("batch", ...)}
    types: ClassVar = {"labels": "number", "targets": "number"}
    whole_batch = "its memory takes in the whole batch"
    order = "replay"

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._memory: dict[str, Tensor] = {}
        self._incoming: dict[str, Tensor] = {}

    def bind(self, objective: NetworkObjective, provided: frozenset[str] | None = None) -> None:
        super().bind(objective, provided)
        batch = objective.example(1)
        if not (isinstance(batch, Mapping) and all(isinstance(part, Tensor) for part in batch.values())):
            wanted = "batches that are mappings from names to tensors, of which it keeps rows"
            raise SettingError("", f"{self.name} needs {wanted}, but {type(objective).__name__} has others")

    def batch(self, step: Step) -> None:
        incoming = {**step.batch, "inputs": step.inputs, "labels": step.labels, "targets": step.targets}
        incoming["keys"] = step.rand(len(step.inputs))
        if not step.perturbed:
            self._incoming = incoming
        if self._memory:
            self._memory = {name: tensor.to(step.inputs.device) for name, tensor in self._memory.items()}
            stored = len(self._memory["keys"])
            chosen = step.rand(stored).argsort()[: self.bound["replayed"].value * len(step.index)]
            step.append(**{name: tensor[chosen] for name, tensor in self._memory.items() if name != "keys"})

    def losses(self, step: Step, losses: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
        stream = len(step.index)  # appended examples have none
        replayed = len(losses) - stream
        if replayed == 0:
            return losses
        weight = self.value(step, "weight").expand(len(losses))
        shares = torch.cat([torch.full_like(weight[:stream], 1 / stream), weight[stream:] / replayed])
        return losses * shares * len(losses)

    def parameters(self, step: Step) -> None:
        if not self._incoming:
            return
        stored = self._memory or {name: tensor[:0] for name, tensor in self._incoming.items()}
        kept = experience_replay(stored["keys"], self._incoming["keys"], self.bound["capacity"].value)
        self._memory = {name: torch.cat([stored[name], new])[kept] for name, new in self._incoming.items()}
        self._incoming = {}

    def state_dict(self) -> dict[str, Any]:
        return {"memory": self._memory}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._memory = dict(state["memory"])

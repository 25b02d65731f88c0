"""The lower level of a network objective: plain, regularized training, one mini-batch at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from selftune.composition import Regularizers
from selftune.gradients import give_gradients
from selftune.hyperparameters import Space
from selftune.inventory import aliases, tensors_of
from selftune.modes import constant_buffers, evaluating
from selftune.network_state import load_state, state_of
from selftune.objective import NetworkObjective
from selftune.precision import WideTensors, is_half, typed_as, wide_type, widened
from selftune.regularizer import Regularizer, Step
from selftune.reparameterization import effective_weight
from selftune.shapes import Float, Int, Tensor
from selftune.step import Outputs
from selftune.training.capture import Capture
from selftune.training.moments import forget_moments
from selftune.training.quantities import COPIES, providers
from selftune.training.seeds import Streams
from selftune.training.sources.memory import MemorySource

_MEASURED = 4096  # validation examples that diagnostics see


class LowerLevel:
    """A network, its regularizers and its optimizer.

    Args:
        objective: network, data and losses.
        regularizers: copied, then bound and attached to this network.
        streams: where random numbers come from.
        device: where everything lives.
        steps: training steps of the whole run, of which ``progress`` is a share; None where nobody knows.
        measured: quantities that diagnostics need.

    Raises:
        SettingError: if a regularizer does not fit the objective.
    """

    def __init__(
        self,
        objective: NetworkObjective,
        regularizers: Sequence[Regularizer],
        streams: Streams,
        device: torch.device,
        steps: int | None = None,
        measured: Iterable[str] = (),
    ) -> None:
        self.objective = objective
        self.device = device
        self.streams = streams
        self.steps = steps
        self.inventory = objective.inventory()
        known = {"progress"} if steps is not None else set()
        self.regularizers = Regularizers(copy.deepcopy(list(regularizers)), objective, known)
        self.space = Space(self.regularizers.hyperparameters)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(streams.seed_of("network"))
            self.network: nn.Module = objective.network().to(device)
            self.regularizers.extend(self.network)
            self.regularizers.attach(self.network)
        self.splits = {
            name: {key: tensor.to(device) for key, tensor in split.items()}
            for name, split in objective.splits().items()
        }
        optimization = objective.optimization
        self.batches = MemorySource(
            self.splits["train"],
            optimization.batch_size,
            streams,
            "epoch",
            objective.stages(),
            objective.balanced_by,
        )
        self.validation = MemorySource(
            self.splits["validation"], objective.validation_batch_size, streams, "validation"
        )
        self.parameters = dict(self.network.named_parameters())
        self.aliases = aliases(self.network)
        self._half = any(is_half(parameter) for parameter in self.parameters.values())
        self._types = {name: tensor.dtype for name, tensor in tensors_of(self.network).items()}
        self._trained = [parameter for parameter in self.parameters.values() if parameter.requires_grad]
        needs = self.regularizers.needs.union(measured)
        self.copies = {
            name: self._snapshot()
            for name in COPIES
            if any(need.startswith(f"{name}_") for need in needs)
            or (name == "reference" and "initial_parameters" in needs)
        }
        looks = any(need.endswith(("features", "gradients")) or need.startswith("head") for need in needs)
        self._capture = Capture(self.network, self.inventory) if looks else None
        self._providers = providers(self, self.regularizers.provided.union(needs))
        self._stage = 0
        self.history: list[Mapping[str, Tensor]] = []
        """What regularizers added to the loss of every training step since somebody last cleared it."""

    def _snapshot(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in tensors_of(self.network).items()}

    def draw_as(self, member: int) -> None:
        """From now on random numbers are those of another member: where its training goes on here."""
        self.streams.member = member

    @cached_property
    def optimizer(self) -> torch.optim.Optimizer:
        """Built when training begins, because torch then imports its compiler, for which checks need not wait."""
        return self.objective.optimization.build(self._trained, self.network)

    @property
    def learning_rate(self) -> float:
        if "optimizer" not in self.__dict__:
            return self.objective.optimization.learning_rate
        return float(self.optimizer.param_groups[0]["lr"])

    def begin(
        self,
        number: int,
        index: Int[Tensor, "batch"],
        values: Mapping[str, Any],
        stream: str,
        perturbed: bool = False,
    ) -> Step:
        """A training step with its batch drawn and augmented; random draws come from ``stream``."""
        self.streams.seed_global(f"{stream}_modules", number)
        batch = self.batches.batch(index)
        return self._begun(self._step(number, index, batch, values, self.streams(stream, number), perturbed))

    def _begun(self, step: Step) -> Step:
        self.objective.prepare(step)
        self.regularizers.begin(step)
        return step

    def _step(
        self,
        number: int,
        index: Int[Tensor, "batch"],
        batch: Mapping[str, Tensor],
        values: Mapping[str, Any],
        generator: torch.Generator,
        perturbed: bool,
    ) -> Step:
        return Step(
            number=number,
            inputs=batch["inputs"],
            labels=batch["labels"],
            targets=self.objective.targets(batch["labels"]),
            index=index,
            values=values,
            generator=generator,
            learning_rate=self.learning_rate,
            momentum=self.objective.optimization.momentum_of_sgd,
            classes=getattr(self.objective, "classes", 0),
            examples=self.batches.examples,
            perturbed=perturbed,
            batch=batch,
            context=self,
            providers=self._providers,
        )

    def loss(
        self, step: Step, forward: Callable[[Tensor], Tensor], parameters: Mapping[str, Tensor]
    ) -> Float[Tensor, ""]:
        """The regularized training loss of a step that has begun."""
        step.forward, step.parameters = forward, WideTensors(parameters) if self._half else parameters
        outputs = self._pass(step, step.inputs)
        step.logits = outputs.logits
        if self._capture is not None:
            step.know(features=outputs.features, layer_features=outputs.layer_features)
        self.regularizers.targets(step)
        losses = self.objective.loss(step.logits, step.targets)
        step.know(losses=losses)
        loss = self.regularizers.losses(step, losses).mean()
        penalty = self.regularizers.penalty(step)
        return loss if penalty is None else loss + penalty

    # What a step can ask ------------------------------------------------------------------------------

    def pass_through(self, step: Step, inputs: Tensor) -> Outputs:
        """Another pass of the step's network, with the step's own weights and what is attached to its layers."""
        with constant_buffers(self.network):
            return self._pass(step, typed_as(inputs, step.inputs))

    def _pass(self, step: Step, inputs: Tensor) -> Outputs:
        assert step.forward is not None
        if not step.measured:
            self.regularizers.act(step)
        try:
            if self._capture is None:
                return Outputs(widened(step.forward(inputs)), inputs, [])
            with self._capture.recording() as seen:
                return self._capture.outputs(step.forward(inputs), seen)
        finally:
            self.regularizers.end()

    @torch.no_grad()
    def pass_copy(self, tensors: Mapping[str, Tensor], inputs: Tensor, batch_statistics: bool = False) -> Outputs:
        """A pass in evaluation mode, without gradient, with other tensors in place of the network's own."""
        typed = self.typed(tensors)
        inputs = typed_as(inputs, self.splits["train"]["inputs"])
        if batch_statistics:  # running ones are written to copies
            typed |= {name: typed.get(name, own).clone() for name, own in self.network.named_buffers()}
        with evaluating(self.network, but_norms=batch_statistics):
            if self._capture is None:
                return Outputs(widened(functional_call(self.network, typed, (inputs,))), inputs, [])
            with self._capture.recording() as seen:
                return self._capture.outputs(functional_call(self.network, typed, (inputs,)), seen)

    def typed(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors by name in the types that the network has them in."""
        return {name: tensor.to(self._types.get(name, tensor.dtype)) for name, tensor in tensors.items()}

    def weight(self, step: Step, layer: str) -> Tensor:
        """The weight that a layer uses with the step's own tensors, also where it is reparameterised."""
        return effective_weight(self.network, layer, step.parameters, self.aliases)

    def bias(self, step: Step, layer: str) -> Tensor:
        """The bias that a layer uses with the step's own tensors; zeros where it has none."""
        name = f"{layer}.bias" if layer else "bias"
        found = step.parameters.get(self.aliases.get(name, name))
        if found is None:
            weight = self.weight(step, layer)
            found = weight.new_zeros(len(weight))
        return found

    def recompute(self, step: Step) -> Float[Tensor, ""]:
        """The training loss of the step again: same batch, same draws, current weights; no state changes."""
        again = self.begin(step.number, step.index, step.values, "elementary", perturbed=True)
        with constant_buffers(self.network):
            return self.loss(again, self.network, self.parameters)

    def part(self, step: Step, rows: Int[Tensor, "rows"]) -> Float[Tensor, ""]:
        """The training loss of some of the step's examples alone; its draws follow those of the step so far."""
        index = step.index[rows]
        batch = self.batches.batch(index)
        part = self._step(step.number, index, batch, step.values, step.generator, step.perturbed)
        return self.loss(self._begun(part), self.network, self.parameters)

    def descend(self, step: Step, loss: Float[Tensor, ""]) -> None:
        """One step of the optimizer on a loss, with what regularizers do around it."""
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        step.parameters = self.parameters
        self.update(step)

    def forget_moments(self, step: Step, entries: Mapping[str, Tensor] | None = None) -> None:
        """Makes the optimizer forget what it remembers of earlier steps; a perturbed step changes nothing."""
        if not step.perturbed:
            forget_moments(self.optimizer, self.parameters, entries)

    def per_example_names(self, step: Step) -> frozenset[str]:
        """Names of the hyperparameters whose values have one row per example in this step."""
        return frozenset(
            h.name for h in self.space.tuned if not h.shared and step.values[h.name].ndim > len(h.shape)
        )

    # Training ------------------------------------------------------------------------------------------

    def smooth_loss(self, number: int, unconstrained: Float[Tensor, "n"], stream: str) -> Float[Tensor, ""]:
        """The regularized loss of the batch of a training step, with its graph, as a function of the weights and
        of the unconstrained hyperparameters; it changes neither running statistics nor regularizers' state.
        """
        index = self.batches.index(number)
        assert index is not None
        step = self.begin(number, index, self.space.values(unconstrained), stream, perturbed=True)
        with constant_buffers(self.network):
            return self.loss(step, self.network, self.parameters)

    def judged(
        self,
        batch: Mapping[str, Tensor],
        network: nn.Module | None = None,
        forward: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """What the validation loss judges: outputs in evaluation mode, in float32 at least.

        Args:
            network: another one than that which is trained.
            forward: how the network is run, where not by a call.
        """
        network = self.network if network is None else network
        with evaluating(network):
            return widened(self.objective.outputs(forward or network, batch))

    def validation_losses(self, number: int) -> tuple[Float[Tensor, "batch"], dict[str, Tensor]]:
        """Plain losses of the validation batch of a hyper-step, with their graph, and further measures of it."""
        batch = self.validation.batch(self.validation.index(number))
        outputs = self.judged(batch)
        losses = self.objective.validation_loss(outputs, batch["labels"])
        return losses, self.objective.metrics(outputs.detach(), batch["labels"])

    def update(self, step: Step) -> None:
        """The optimizer's step on gradients that are there, with what regularizers do around it."""
        if self.regularizers.changes_gradients:
            gradients = {name: p.grad for name, p in self.parameters.items() if p.grad is not None}
            self.regularizers.gradients(step, gradients)
        self.regularizers.map_parameters(step, "before")
        self.optimizer.step()
        self.regularizers.map_parameters(step, "after")
        self.regularizers.parameters(step)

    def train(self, number: int, values: Mapping[str, Any]) -> Float[Tensor, ""]:
        """One training step with the given hyperparameters; returns its loss, detached."""
        index = self.batches.index(number)
        assert index is not None
        if self.batches.stages:
            self._pass_boundary(number, index, values)
        if self.regularizers.aggregator is not None:
            return self._train_by_shards(number, index, values)
        step = self.begin(number, index, values, "elementary")
        replaced = self.regularizers.replace(step)
        if replaced is not None:
            self.history.append(self.regularizers.terms)
            return replaced.detach()
        loss = self.loss(step, self.network, self.parameters)
        self.history.append(self.regularizers.terms)
        self.descend(step, loss)
        return loss.detach()

    def _train_by_shards(
        self, number: int, index: Int[Tensor, "batch"], values: Mapping[str, Any]
    ) -> Float[Tensor, ""]:
        """A gradient for every shard of the batch, as if each were a worker's; a step on what they make."""
        aggregator = self.regularizers.aggregator
        assert aggregator is not None
        self.streams.seed_global("elementary_modules", number)
        draws, batch = self.streams("elementary", number), self.batches.batch(index)
        step = self._step(number, index, batch, values, draws, perturbed=False)
        step.parameters = self.parameters
        trained = [parameter for parameter in self.parameters.values() if parameter.requires_grad]
        losses, sizes = [], [p.numel() for p in trained]
        shards = torch.arange(len(index), device=self.device).tensor_split(aggregator.bound["workers"].value)
        precision = wide_type(*{parameter.dtype for parameter in trained})
        gradients = trained[0].new_empty(len(shards), sum(sizes), dtype=precision)
        for rows, row in zip(shards, gradients, strict=True):
            losses.append(self.part(step, rows))
            found = torch.autograd.grad(losses[-1], trained, materialize_grads=True)
            torch.cat([gradient.reshape(-1) for gradient in found], out=row)
        combined = aggregator.aggregate(step, gradients)
        pieces = torch.split(combined, sizes)
        give_gradients(trained, [piece.view_as(p) for piece, p in zip(pieces, trained, strict=True)])
        self.history.append(self.regularizers.terms)
        self.update(step)
        return torch.stack(losses).detach().mean()

    def _pass_boundary(self, number: int, index: Int[Tensor, "batch"], values: Mapping[str, Any]) -> None:
        """Before the first step of another stage: what the last one taught is remembered."""
        stage = self.batches.stage(number)
        if stage == self._stage:
            return
        draws, batch = self.streams("elementary", number - 1), self.batches.batch(index)
        step = self._step(number - 1, index, batch, values, draws, perturbed=True)
        step.parameters = self.parameters
        self.regularizers.boundary(step)
        if "old" in self.copies:
            self.copies["old"] = self._snapshot()
        self._stage = stage

    @contextmanager
    def measuring(self, number: int) -> Iterator[Step]:
        """A step over validation data, from which diagnostics take what they need while the context lasts.

        The network is in evaluation mode, and no regularizer acts on it.
        """
        batch = {name: tensor[:_MEASURED] for name, tensor in self.splits["validation"].items()}
        index = torch.arange(len(batch["labels"]), device=self.device)
        draws = self.streams("validation_noise", number)
        step = replace(self._step(number, index, batch, {}, draws, perturbed=True), measured=True)
        with evaluating(self.network), torch.no_grad():
            self.objective.prepare(step)
            step.forward = self.network
            step.parameters = WideTensors(self.parameters) if self._half else self.parameters
            outputs = self._pass(step, step.inputs)
            step.logits = outputs.logits
            if self._capture is not None:
                step.know(features=outputs.features, layer_features=outputs.layer_features)
            yield step

    @torch.no_grad()
    def evaluate(self, network: nn.Module, split: str) -> dict[str, float]:
        """Plain loss and metrics of a network over a whole split, without regularization."""
        data, batch_size = self.splits[split], self.objective.evaluation_batch_size
        sums: dict[str, Tensor] = {}
        pieces = [torch.split(tensor, batch_size) for tensor in data.values()]
        for tensors in zip(*pieces, strict=True):
            batch = dict(zip(data, tensors, strict=True))
            outputs = self.judged(batch, network)
            measures = {"loss": self.objective.validation_loss(outputs, batch["labels"])}
            measures |= self.objective.metrics(outputs, batch["labels"])
            for name, values in measures.items():
                sums[name] = sums.get(name, 0) + values.sum()
        return {f"{split}_{name}": float(total) / len(data["labels"]) for name, total in sums.items()}

    def state_dict(self) -> dict[str, Any]:
        return {
            "network": state_of(self.network),
            "optimizer": self.optimizer.state_dict(),
            "regularizers": self.regularizers.state_dict(),
            "copies": self.copies,
            "stage": self._stage,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        load_state(self.network, state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.regularizers.load_state_dict(state["regularizers"])
        self.copies = {
            name: {key: tensor.to(self.device) for key, tensor in tensors.items()}
            for name, tensors in state["copies"].items()
        }
        self._stage = state["stage"]


def validation_measures(losses: Float[Tensor, "batch"], metrics: Mapping[str, Tensor]) -> dict[str, float]:
    """Means over a validation batch, as reports name them; one look at the device."""
    measures = {"loss": losses.detach(), **metrics}
    means = torch.stack([values.mean() for values in measures.values()]).tolist()
    return {f"validation_{name}": mean for name, mean in zip(measures, means, strict=True)}

"""A network with its regularizers: what one step computes, and what regularizers can ask of it."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from selftune.data.drawn import Drawn
from selftune.data.nested import mapped, part_of, size_of
from selftune.hyperparameters import Space
from selftune.lower_level.example_weights import EXAMPLE_WEIGHTS
from selftune.lower_level.losses import as_losses, weighted_mean
from selftune.lower_level.objective import NetworkObjective
from selftune.lower_level.own_hyperparameters import PREFIX
from selftune.networks.inventory import aliases, tensors_of
from selftune.networks.modes import constant_buffers, evaluating
from selftune.networks.precision import WideTensors, is_half, typed_as, widened
from selftune.networks.sharded_weights import WholeWeights, gathered
from selftune.regularization.composition import Regularizers
from selftune.regularization.regularizer import Regularizer
from selftune.regularization.reparameterization import effective_weight
from selftune.regularization.step import Context, Outputs, Step
from selftune.shapes import Float, Int, Tensor
from selftune.training.capture import Capture
from selftune.training.process_group import ALONE, ProcessGroup
from selftune.training.seeds import Streams
from selftune.training.sharing import loses_by_row


class RegularizedNetwork(ABC):
    """One network with what its regularizers attach to it, and the loss of a step.

    Args:
        objective: network and losses.
        regularizers: copied, then bound and attached to this network.
        streams: where random numbers come from.
        device: where everything lives.
        steps: training steps of the whole run, of which ``progress`` is a share; None where nobody knows.
        measured: quantities that diagnostics need.
        network: the one to train; None for a fresh one of the objective.

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
        network: nn.Module | None = None,
    ) -> None:
        self.objective = objective
        self.device = device
        self.streams = streams
        self.steps = steps
        self.inventory = objective.inventory()
        known = {"progress"} if steps is not None else set()
        self.regularizers = Regularizers(copy.deepcopy(list(regularizers)), objective, known)
        self.space = Space(self.regularizers.hyperparameters)
        names = {h.name: h for h in objective.hyperparameters}
        self._example_weights = names.get(PREFIX + EXAMPLE_WEIGHTS.name)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(streams.seed_of("network"))
            self.network: nn.Module = (objective.network() if network is None else network).to(device)
            self.regularizers.extend(self.network)
            self.regularizers.attach(self.network)
        self.runner: Callable[..., Any] = self.network
        """The network as training steps run it: itself, or what compiles or wraps it."""
        self.parameters = dict(self.network.named_parameters())
        self.aliases = aliases(self.network)
        self._half = any(is_half(parameter) for parameter in self.parameters.values())
        self._types = {name: tensor.dtype for name, tensor in tensors_of(self.network).items()}
        self.needs = self.regularizers.needs.union(measured)
        looks = any(need.endswith(("features", "gradients")) or need.startswith("head") for need in self.needs)
        self._capture = Capture(self.network, self.inventory) if looks else None
        self._looks_at_layers = any(need.endswith("layer_features") for need in self.needs)
        self._loses_by_row = self._capture is None and loses_by_row(objective)
        self._scaled = self._twice = False
        self._providers: Mapping[str, Callable[[Step], Any]] = {}
        self._context: Context | None = None
        self.group: ProcessGroup = ALONE
        """The processes that train this network together."""
        self.is_sharded = False
        """Whether each of them holds a part of the weights only."""

    @property
    def readable(self) -> Mapping[str, Tensor]:
        """The network's own weights by name, whole also where each process holds a part of them."""
        return WholeWeights(self.parameters) if self.is_sharded else self.parameters

    # What training knows ------------------------------------------------------------------------------

    @property
    @abstractmethod
    def learning_rate(self) -> float:
        """That of the next training step."""

    @property
    @abstractmethod
    def momentum(self) -> float:
        """Momentum that multiplies the long-run step by 1 / (1 - momentum); Adam's moments do not."""

    @property
    @abstractmethod
    def examples(self) -> int:
        """Number of training examples; 0 where nobody knows."""

    # A step --------------------------------------------------------------------------------------------

    def begin(
        self,
        number: int,
        drawn: Drawn,
        values: Mapping[str, Any],
        stream: str,
        perturbed: bool = False,
        paired: bool = False,
    ) -> Step:
        """A training step on a batch, which is augmented; random draws come from ``stream``."""
        self.streams.seed_global(f"{stream}_modules", number, self.group.rank)
        step = self._step(number, drawn, values, self.streams(stream, number), perturbed)
        step.paired = paired
        return self._begun(step)

    def _begun(self, step: Step) -> Step:
        self.objective.prepare(step)
        self.regularizers.begin(step)
        return step

    def _step(
        self,
        number: int,
        drawn: Drawn,
        values: Mapping[str, Any],
        generator: torch.Generator,
        perturbed: bool,
        measured: bool = False,
    ) -> Step:
        labels, needed = self.objective.labels(drawn.batch), "targets" in self.needs
        return Step(
            number=number,
            inputs=self.objective.inputs(drawn.batch),
            labels=labels,
            targets=self.objective.targets(labels) if needed else self.objective.plain_targets(labels),
            drawn=drawn,
            values=values,
            generator=generator,
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            classes=getattr(self.objective, "classes", 0),
            examples=self.examples,
            perturbed=perturbed,
            measured=measured,
            batch=drawn.batch,
            context=self._context,
            providers=self._providers,
        )

    def loss(self, step: Step, forward: Callable[..., Any], parameters: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """The regularized training loss of a step that has begun.

        Args:
            forward: what is called in the network's place.
            parameters: the weights that it computes with.
        """
        step.forward, step.parameters = forward, WideTensors(parameters) if self._half else parameters
        part, rows = self._share_of(step.inputs)
        if part is None or not self._loses_by_row:
            self._know(step, self._pass(step, step.inputs))
            self.regularizers.targets(step)
            losses, weights = as_losses(self.objective.losses(step)).of_examples(step.size)
        else:
            losses, weights = self._joined_losses(step, part, rows)
        step.know(losses=losses)
        if self._example_weights is not None:
            losses = step.value(self._example_weights) * losses
        loss = weighted_mean(self.regularizers.losses(step, losses), weights, self.group.over_batches)
        penalty = self.regularizers.penalty(step)
        return loss if penalty is None else loss + penalty

    def _joined_losses(self, step: Step, part: slice, rows: int) -> tuple[Tensor, Tensor | None]:
        """The losses of all rows, and how much they count; outputs come together only where they are read."""
        own = self._pass(step, step.inputs, joins=False).logits
        del step.logits
        step.providers = {**self._providers, "logits": lambda step: self._joined(own, part, rows)}
        self.regularizers.targets(step)
        alone = copy.copy(step)
        alone.logits = own
        alone.targets, alone.labels = (part_of(each, part, rows) for each in (step.targets, step.labels))
        losses, weights = as_losses(self.objective.losses(alone)).of_examples(part.stop - part.start)
        if weights is None:
            return self._joined(losses, part, rows), None
        both = self._joined(torch.stack([losses, weights], dim=1), part, rows)
        return both[:, 0], both[:, 1].detach()

    def _know(self, step: Step, outputs: Outputs) -> None:
        step.outputs = outputs.logits
        if isinstance(outputs.logits, Tensor):
            step.logits = outputs.logits
        else:
            del step.logits  # which is then the objective's to say
        if self._capture is not None:
            step.know(features=outputs.features, layer_features=outputs.layer_features)

    @contextmanager
    def looked_at(self, number: int, drawn: Drawn) -> Iterator[Step]:
        """A step outside of training, from which diagnostics take what they need while the context lasts.

        The network is in evaluation mode, and no regularizer acts on it.
        """
        step = self._step(number, drawn, {}, self.streams("validation_noise", number), True, measured=True)
        with evaluating(self.network), torch.no_grad():
            self.objective.prepare(step)
            step.forward = self.network
            step.parameters = WideTensors(self.parameters) if self._half else self.parameters
            self._know(step, self._pass(step, step.inputs))
            yield step

    # What a step can ask ------------------------------------------------------------------------------

    def pass_through(self, step: Step, inputs: Any) -> Outputs:
        """Another pass of the step's network, with the step's own weights and what is attached to its layers."""
        with constant_buffers(self.network):
            return self._pass(step, _typed(inputs, step.inputs))

    def _pass(self, step: Step, inputs: Any, joins: bool = True) -> Outputs:
        assert step.forward is not None
        if not step.measured:
            self.regularizers.act(step)
        try:
            with step.in_part(*self._share_of(inputs)):
                return self._seen(step.forward, inputs, step.batch, joins=joins)
        finally:
            self.regularizers.end()

    def _seen(
        self, network: Callable[..., Any], inputs: Any, batch: Any, whole: bool = False, joins: bool = True
    ) -> Outputs:
        """Outputs in float32 at least, and what layers gave where somebody looks.

        Args:
            whole: whether this process runs the network on all rows, also where several share them.
            joins: whether the outputs of all processes come together.
        """
        part, rows = (None, 0) if whole else self._share_of(inputs)
        own, own_batch = part_of(inputs, part, rows), part_of(batch, part, rows)
        if self._capture is None:
            with self.autocasting():
                outputs = self.objective.run(network, own, own_batch)
            outputs = mapped(widened, outputs)
            return Outputs(self._joined(outputs, part, rows) if joins else outputs, inputs, [])
        with self._capture.recording() as seen:
            with self.autocasting():
                outputs = self.objective.run(network, own, own_batch)
            found = self._capture.outputs(outputs, seen)
        if part is None:
            return found
        logits = self._joined(found.logits, part, rows)
        features = logits if found.features is found.logits else self._joined(found.features, part, rows)
        layers = self._joined(found.layer_features, part, rows) if self._looks_at_layers else []
        return Outputs(logits, features, layers)

    def _share_of(self, batch: Any) -> tuple[slice | None, int]:
        """On which rows of a batch this process runs the network, None for all, and how many there are."""
        if self.group.size == 1:
            return None, 0
        rows = size_of(batch)
        return self.group.part(rows), rows

    def _joined(self, outputs: Any, part: slice | None, rows: int) -> Any:
        """What all processes have put out, where each has run the network on its part of the rows."""
        return outputs if part is None else self.group.joined(outputs, rows, self._twice)

    @torch.no_grad()
    def pass_copy(
        self, step: Step, tensors: Mapping[str, Tensor], inputs: Any, batch_statistics: bool = False
    ) -> Outputs:
        """A pass in evaluation mode, without gradient, with other tensors in place of the network's own."""
        typed = self.typed(tensors)
        inputs = _typed(inputs, self.objective.inputs(step.batch))
        if batch_statistics:  # running ones are written to copies
            typed |= {name: typed.get(name, own).clone() for name, own in self.network.named_buffers()}
        with evaluating(self.network, but_norms=batch_statistics):
            return self._seen(self.with_tensors(typed), inputs, step.batch, whole=batch_statistics)

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> Callable[..., Any]:
        """The network as a function of what it is called with, other tensors in place of its own."""

        def run(*args: Any, **kwargs: Any) -> Any:
            if not self.is_sharded:
                return functional_call(self.network, dict(tensors), args, kwargs)
            with gathered(self.network):
                return functional_call(self.network, dict(tensors), args, kwargs)

        return run

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

    def plain_loss(self, step: Step, constant: bool = False) -> Float[Tensor, ""]:
        """The loss of a step that has begun, of the network with its own weights.

        Args:
            constant: whether the pass leaves buffers as they are, and runs the network as it was written.
        """
        if constant:
            with constant_buffers(self.network):
                return self.loss(step, self.network, self.readable)
        self._scaled = True
        try:
            return self.loss(step, self.runner, self.readable)
        finally:
            self._scaled = False

    def autocasting(self) -> AbstractContextManager[Any]:
        """Within it the network runs in the type that ``Optimization.autocast`` asks for.

        In float16, small gradients of a loss that is not scaled would be lost: there only the plain training step,
        whose loss is scaled, and passes without gradient run in it.
        """
        kind = self.objective.optimization.autocast
        if kind is None or (kind == "float16" and torch.is_grad_enabled() and not self._scaled):
            return nullcontext()
        return torch.autocast(self.device.type, getattr(torch, kind))

    def recompute(self, step: Step) -> Float[Tensor, ""]:
        """The training loss of the step again: same batch, same draws, current weights; no state changes."""
        again = self.begin(step.number, step.drawn, step.values, "elementary", perturbed=True)
        return self.plain_loss(again, constant=True)

    def gradients(self, loss: Float[Tensor, ""], weights: Sequence[Tensor]) -> list[Tensor]:
        """Gradients of a loss of the step, of all processes together where several share its batch."""
        found = self.group.means(torch.autograd.grad(loss, list(weights), materialize_grads=True))
        return [gradient for gradient in found if gradient is not None]

    def part(self, step: Step, rows: Int[Tensor, "rows"]) -> Float[Tensor, ""]:
        """The training loss of some of the step's examples alone; its draws follow those of the step so far."""
        part = self._step(step.number, step.drawn.part(rows), step.values, step.generator, step.perturbed)
        return self.plain_loss(self._begun(part))

    def per_example_names(self, step: Step) -> frozenset[str]:
        """Names of the hyperparameters whose values have one row per example in this step."""
        return frozenset(
            h.name for h in self.space.tuned if not h.shared and step.values[h.name].ndim > len(h.shape)
        )


def _typed(inputs: Any, like: Any) -> Any:
    return typed_as(inputs, like) if isinstance(inputs, Tensor) and isinstance(like, Tensor) else inputs

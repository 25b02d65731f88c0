"""The lower level of a network objective: plain, regularized training, one mini-batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property, partial
from typing import Any

import torch
from torch import nn

from selftune.data.drawn import Drawn
from selftune.data.nested import mapped, part_of
from selftune.errors import SettingError
from selftune.lower_level.losses import Losses, as_losses
from selftune.lower_level.objective import NetworkObjective
from selftune.lower_level.optimizers import accumulated_momentum, settings_in
from selftune.lower_level.start_values import with_starts
from selftune.networks.gradients import give_gradients
from selftune.networks.inventory import tensors_of
from selftune.networks.modes import evaluating
from selftune.networks.network_state import load_state, state_of
from selftune.networks.precision import wide_type, widened
from selftune.networks.sharded_weights import WholeWeights, is_sharded, shard, whole, written
from selftune.regularization.regularizer import Regularizer
from selftune.regularization.step import Step
from selftune.shapes import Bool, Float, Tensor
from selftune.training.descent import Descent
from selftune.training.moments import forget_moments
from selftune.training.optimization_checks import optimization_mistakes
from selftune.training.quantities import COPIES, providers
from selftune.training.regularized_network import RegularizedNetwork
from selftune.training.seeds import Streams
from selftune.training.sharded_state import as_parts, of_parts
from selftune.training.sources import Sources, sources_of

_MEASURED = 4096  # validation examples that diagnostics see


class LowerLevel(RegularizedNetwork):
    """A network, its regularizers, its optimizer and its data.

    Args:
        objective: network, data and losses.
        regularizers: copied, then bound and attached to this network.
        streams: where random numbers come from.
        device: where everything lives.
        steps: training steps of the whole run, of which ``progress`` is a share; None where nobody knows.
        measured: quantities that diagnostics need.
        sources: where batches come from; None for the objective's data, put on the device.
        network: the one to train; None for a fresh one of the objective.
        checked: whether somebody has found that optimization, network and regularizers go together.

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
        sources: Sources | None = None,
        network: nn.Module | None = None,
        checked: bool = False,
    ) -> None:
        regularizers = with_starts(regularizers, objective, steps)
        super().__init__(objective, regularizers, streams, device, steps, measured, network)
        self.checked = checked
        if not checked:
            plain, members = objective.structure(), self.regularizers.members
            for mistake in optimization_mistakes(objective.optimization, plain, members, steps, device):
                raise SettingError(f"optimization.{mistake.key}", mistake.message)
        self.sources = sources_of(objective, streams, device) if sources is None else sources
        self.batches, self.validation = self.sources.train, self.sources.validation
        self._trained = [parameter for parameter in self.parameters.values() if parameter.requires_grad]
        self.copies = {
            name: self._snapshot()
            for name in COPIES
            if any(need.startswith(f"{name}_") for need in self.needs)
            or (name == "reference" and "initial_parameters" in self.needs)
        }
        self._providers = providers(self, self.regularizers.offered.union(self.needs))
        self._context = self
        self._stage = 0
        self.old_classes: dict[int, Tensor] = {}
        """Which classes earlier stages had, by the stage's number: that of the last one asked for."""
        self.history: list[Mapping[str, Tensor]] = []
        """What regularizers added to the loss of every training step since somebody last cleared it."""

    def _snapshot(self) -> dict[str, Tensor]:
        return {name: whole(tensor.detach()).clone() for name, tensor in tensors_of(self.network).items()}

    def shard(self) -> None:
        """From now on this process holds its part of the weights, and of what the optimizer remembers."""
        shard(self.network, self.inventory)
        self.is_sharded = True
        self.parameters = dict(self.network.named_parameters())
        self._trained = [parameter for parameter in self.parameters.values() if parameter.requires_grad]

    def draw_as(self, member: int) -> None:
        """From now on random numbers are those of another member: where its training goes on here."""
        self.streams.member = member

    @cached_property
    def optimizer(self) -> torch.optim.Optimizer:
        """Built when training begins, because torch then imports its compiler, for which checks need not wait."""
        return self.objective.optimization.build(self._trained, self.network)

    @cached_property
    def descent(self) -> Descent:
        """The optimizer's steps, with what goes with them."""
        trained = {name: p for name, p in self.parameters.items() if p.requires_grad}
        return Descent(self.objective.optimization, self.optimizer, trained, self.steps, self.device)

    def averaged(self) -> AbstractContextManager[None]:
        """Within it the network has the average of its weights, where one is taken: what comes out of training."""
        average = self.descent.average
        return nullcontext() if average is None else average.in_place()

    @property
    def learning_rate(self) -> float:
        if "optimizer" not in self.__dict__ and self.objective.optimization.keeps_rate:
            return self.objective.optimization.learning_rate
        return float(self.descent.optimizer.param_groups[0]["lr"])

    @property
    def momentum(self) -> float:
        if "optimizer" not in self.__dict__ and self.objective.optimization.keeps_rate:
            return self.objective.optimization.momentum_of_sgd
        return accumulated_momentum(self.descent.optimizer)

    @property
    def examples(self) -> int:
        return self.batches.examples or 0

    # Training ------------------------------------------------------------------------------------------

    def train(self, number: int, values: Mapping[str, Any]) -> Float[Tensor, ""]:
        """One training step with the given hyperparameters; returns its loss, detached."""
        self.descent.begin(number)
        if self.objective.optimization.compile and self.runner is self.network:
            self.runner = torch.compile(self.network)
        self.batches.forget(before=number)
        drawn = self.batches.at(number)
        if self.batches.stages:
            self._pass_boundary(number, drawn, values)
        if self.regularizers.aggregator is not None:
            return self._train_by_shards(number, drawn, values)
        step = self.begin(number, drawn, values, "elementary")
        loss = self.regularizers.replace(step)
        if loss is None:
            loss = self.plain_loss(step)
            self.history.append(self.regularizers.terms)
            self.descend(step, loss)
        else:
            self.history.append(self.regularizers.terms)
        return loss.detach()

    def descend(self, step: Step, loss: Float[Tensor, ""]) -> None:
        """One step of the optimizer on a loss, where it is due, with what regularizers do around it."""
        self.descent.backward(loss)
        if self.group.size > 1 and self.descent.is_due:
            held = [p for group in self.optimizer.param_groups for p in group["params"] if not is_sharded(p)]
            give_gradients(held, self.group.means([parameter.grad for parameter in held]))
        self.update(step)

    def update(self, step: Step) -> None:
        """The optimizer's step on gradients that are there, with what regularizers do around it."""
        if self.descent.ready():
            self.before(step)
            self.descent.step()
            self.after(step)
            self.descent.finish()

    def share_buffers(self) -> None:
        """Gives all processes that train the network together the running statistics of the first one."""
        self.group.same_buffers([buffer for buffer in self.network.buffers() if buffer.is_floating_point()])

    def before(self, step: Step) -> None:
        """What regularizers do between the backward pass and the optimizer's step."""
        step.parameters = self.readable
        if self.regularizers.changes_gradients:
            gradients = {name: p.grad for name, p in self.parameters.items() if p.grad is not None}
            if self.is_sharded:
                with written(everything := WholeWeights(gradients)):
                    self.regularizers.gradients(step, dict(everything))
            else:
                self.regularizers.gradients(step, gradients)
        with written(step.parameters):
            self.regularizers.map_parameters(step, "before")

    def after(self, step: Step) -> None:
        """What regularizers do after the optimizer's step."""
        step.parameters = self.readable
        with written(step.parameters):
            self.regularizers.map_parameters(step, "after")
            self.regularizers.parameters(step)

    def _train_by_shards(self, number: int, drawn: Drawn, values: Mapping[str, Any]) -> Float[Tensor, ""]:
        """A gradient for every shard of the batch, as if each were a worker's; a step on what they make."""
        aggregator = self.regularizers.aggregator
        assert aggregator is not None
        self.streams.seed_global("elementary_modules", number, self.group.rank)
        step = self._step(number, drawn, values, self.streams("elementary", number), perturbed=False)
        step.parameters = self.parameters
        losses, sizes = [], [p.numel() for p in self._trained]
        shards = torch.arange(step.size, device=self.device).tensor_split(aggregator.bound["workers"].value)
        precision = wide_type(*{parameter.dtype for parameter in self._trained})
        gradients = self._trained[0].new_empty(len(shards), sum(sizes), dtype=precision)
        for rows, row in zip(shards, gradients, strict=True):
            losses.append(self.part(step, rows))
            found = torch.autograd.grad(losses[-1], self._trained, materialize_grads=True)
            torch.cat([gradient.reshape(-1) for gradient in found], out=row)
        pieces = torch.split(aggregator.aggregate(step, self.group.mean(gradients)), sizes)
        give_gradients(self._trained, [piece.view_as(p) for piece, p in zip(pieces, self._trained, strict=True)])
        self.history.append(self.regularizers.terms)
        self.update(step)
        return torch.stack(losses).detach().mean()

    def _pass_boundary(self, number: int, drawn: Drawn, values: Mapping[str, Any]) -> None:
        """Before the first step of another stage: what the last one taught is remembered."""
        stage = self.batches.stage(number)
        if stage == self._stage:
            return
        step = self._step(number - 1, drawn, values, self.streams("elementary", number - 1), perturbed=True)
        step.parameters = self.parameters
        self.regularizers.boundary(step)
        if "old" in self.copies:
            self.copies["old"] = self._snapshot()
        self._stage = stage

    def forget_moments(self, step: Step, entries: Mapping[str, Bool[Tensor, "*shape"]] | None = None) -> None:
        """Makes the optimizer forget what it remembers of earlier steps; a perturbed step changes nothing."""
        if not step.perturbed:
            forget_moments(self.optimizer, self.parameters, entries)

    def smooth_loss(self, number: int, unconstrained: Float[Tensor, "n"], stream: str) -> Float[Tensor, ""]:
        """The regularized loss of the batch of a training step, with its graph, as a function of the weights and
        of the unconstrained hyperparameters; it changes neither running statistics nor regularizers' state.
        """
        values = self.space.values(unconstrained)
        step = self.begin(number, self.batches.at(number), values, stream, perturbed=True)
        self._twice = True
        try:
            return self.plain_loss(step, constant=True)
        finally:
            self._twice = False

    # Validation ----------------------------------------------------------------------------------------

    def judged(
        self,
        batch: Any,
        network: nn.Module | None = None,
        forward: Callable[..., Any] | None = None,
        whole: bool = False,
    ) -> Any:
        """What the validation loss judges: outputs in evaluation mode, in float32 at least.

        Args:
            network: another one than that which is trained.
            forward: how the network is run, where not by a call.
            whole: whether this process runs the network on all of it, also where several share a batch.
        """
        network = self.network if network is None else network
        with evaluating(network):
            part, rows = (None, 0) if whole else self._share_of(batch)
            with self.autocasting():
                outputs = self.objective.outputs(forward or network, part_of(batch, part, rows))
            return self._joined(mapped(widened, outputs), part, rows)

    def judgement(
        self, batch: Any, network: nn.Module | None = None, forward: Callable[..., Any] | None = None
    ) -> tuple[Losses, dict[str, Losses]]:
        """``measures`` of what is ``judged`` on a validation batch."""
        part, rows = self._share_of(batch)
        if part is None or not self._loses_by_row:
            return self.measures(batch, self.judged(batch, network, forward))
        own = part_of(batch, part, rows)
        losses, metrics = self.measures(own, self.judged(own, network, forward, whole=True))
        join = partial(self._joined, part=part, rows=rows)
        return losses.moved_by(join), {name: each.moved_by(join) for name, each in metrics.items()}

    def measures(self, batch: Any, outputs: Any) -> tuple[Losses, dict[str, Losses]]:
        """Plain losses of outputs on a validation batch, with their graph, and further measures without."""
        plain = mapped(lambda tensor: tensor.detach(), outputs)
        metrics = {name: as_losses(values) for name, values in self.objective.measure(plain, batch).items()}
        return as_losses(self.objective.judge(outputs, batch)), metrics

    def validation_batch(self, number: int) -> Any:
        """The validation batch of a hyper-step; those before will not be asked for any more."""
        self.validation.forget(before=number)
        return self.validation.at(number).batch

    def validation_losses(self, number: int) -> tuple[Losses, dict[str, Losses]]:
        """``measures`` of the validation batch of a hyper-step."""
        return self.judgement(self.validation_batch(number))

    def measuring(self, number: int) -> AbstractContextManager[Step]:
        """``looked_at`` a step over validation data."""
        return self.looked_at(number, self.sources.sample(_MEASURED))

    @torch.no_grad()
    def evaluate(self, network: nn.Module, split: str) -> dict[str, float]:
        """Plain loss and metrics of a network over a whole split, without regularization."""
        sums: dict[str, Any] = {}
        counts: dict[str, Any] = {}
        for batch in self.sources.whole(split, self.objective.evaluation_batch_size):
            loss, metrics = self.judgement(batch, network)
            for name, losses in {"loss": loss, **metrics}.items():
                total, count = losses.totals()
                sums[name] = sums.get(name, 0) + total
                counts[name] = counts.get(name, 0) + count
        return {f"{split}_{name}": float(total) / float(counts[name]) for name, total in sums.items()}

    # State ---------------------------------------------------------------------------------------------

    def state_dict(self, whole: bool = True) -> dict[str, Any]:
        """Where training stands; not ``whole``, without network and optimizer."""
        trained: dict[str, Any] = {}
        if whole:
            trained["descent"] = self.descent.state_dict()  # first: a schedule leaves its rates in the optimizer
            trained |= {"network": state_of(self.network), "optimizer": self.optimizer.state_dict()}
            trained = as_parts(trained) if self.is_sharded else trained
        return {
            **trained,
            "regularizers": self.regularizers.state_dict(),
            "copies": self.copies,
            "stage": self._stage,
            "sources": self.sources.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any], own_settings: bool = False) -> None:
        """Goes on where ``state_dict`` was taken.

        Args:
            own_settings: whether the optimizer is set as this objective says, whatever it was in the state.
        """
        if "network" in state:
            if self.is_sharded:
                state = of_parts(state, next(filter(is_sharded, self.parameters.values())))
            load_state(self.network, state["network"], hooked=not self.is_sharded)
            descent = self.descent  # which sets the optimizer's rates to those of the first step
            settings = settings_in(self.optimizer)
            self.optimizer.load_state_dict(state["optimizer"])
            descent.load_state_dict(state["descent"])
            if own_settings:
                descent.take_settings(settings)
        self.regularizers.load_state_dict(state["regularizers"])
        self.copies = {
            name: {key: tensor.to(self.device) for key, tensor in tensors.items()}
            for name, tensors in state["copies"].items()
        }
        self._stage = state["stage"]
        self.sources.load_state_dict(state["sources"])


def validation_measures(loss: Losses, metrics: Mapping[str, Losses]) -> dict[str, Float[Tensor, ""]]:
    """Means over a validation batch, as reports name them, on the device."""
    return {f"validation_{name}": losses.mean().detach() for name, losses in {"loss": loss, **metrics}.items()}

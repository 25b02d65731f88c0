"""Tuning the regularization of a network in somebody's own training loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from selftune.data.drawn import Drawn
from selftune.data.nested import moved
from selftune.errors import SettingError
from selftune.hypergradients.best_response import has_response
from selftune.hyperparameters import Tune
from selftune.lower_level.function_objective import Loss
from selftune.lower_level.losses import Losses
from selftune.lower_level.start_values import with_starts
from selftune.methods import HyperStep, Report, WorkOrder
from selftune.methods.reports import Trained, TrainingFinished
from selftune.methods.work_orders import FinishTraining, Train
from selftune.networks.network_state import state_of
from selftune.regularization.regularizer import Regularizer, built_regularizers
from selftune.regularization.step import Step
from selftune.schedule import Schedule
from selftune.shapes import Float, Tensor
from selftune.storage.state_tree import packed, unpacked
from selftune.training.coverage import Coverage, coverage
from selftune.training.divergence import blamed_on, check_hypergradient, mean_loss
from selftune.training.estimators.hypergradient_estimator import HypergradientEstimator, Measures
from selftune.training.estimators.tensors import tensors_of, with_tensors
from selftune.training.look import fetched, numbers
from selftune.training.loop_checks import (
    as_module,
    autocast_of,
    check_optimizer,
    check_regularizers,
    device_of,
    first_layer,
    held_by,
    validation_of,
)
from selftune.training.loop_objective import LoopObjective, LoopSources, OverlapWatch, RecentBatches, unwrapped
from selftune.training.loop_trainer import Channel, current_channel
from selftune.training.lower_level import LowerLevel
from selftune.training.method_record import estimator_of
from selftune.training.paths import pathless
from selftune.training.process_group import process_group
from selftune.training.seeds import Streams, check_seed
from selftune.training.steering import Steering, holds, steering_of

_LOSS = "training_loss"
_MICRO = 40  # a second batch of one training step draws from this many powers of two further on


class OnlineTuner:
    """Regularizes a network in a training loop, and tunes the regularization while it trains.

    The loop owns model, optimizer, data and schedule; ``loss`` gives the regularized loss of a batch, and ``step``
    takes the optimizer's step with what regularizers do around it, fits the response to the hyperparameters, and
    moves these when that is due. A loop that steps the optimizer itself calls ``before_step`` and ``after_step``.

    Under ``torch.distributed`` (torchrun, Accelerate, Lightning) what tuning needs of gradients is averaged over
    the processes; give it the model wrapped in ``DistributedDataParallel``.

    Args:
        model: in its place: on its device, in its type.
        optimizer: of the model's trained parameters.
        regularizers: settings by name, or regularizers; what is a ``Tune`` is tuned.
        loss: of outputs and batch: one value per example, or ``Losses`` per element.
        validation: a loader, or a loader and a validation loss like ``loss``, which is taken without one.
        forward: of model and batch, gives outputs; None calls the model with the batch.
        metrics: of outputs and batch, further validation measures by name.
        quantities: functions of outputs and batch, by the name of what regularizers need; see
            ``FunctionObjective``, which also says what is found without.
        examples: number of training examples, for tables and values per example, which need
            ``quantities["index"]``, too.
        example_weights: factors in [0, 1] of the losses of training examples, one for each; a ``Tune`` tunes them.
        build: makes a fresh model, for regularizers that have another network beside.
        steps: training steps of the run, after which hyperparameters stay as they are; None tunes on for ever.
            In a trial of Ray Tune the scheduler says when that is.
        seed: random numbers of regularizers and tuning follow from it and the training step; the loop's own
            random streams are left alone.
        method: ``self_tuning``, which is taken without a name, ``implicit``, or ``held``, which looks at the
            validation loss and moves nothing. In a trial of Ray Tune the scheduler brings method and settings.
        schedule: values to follow; then nothing is tuned, and ``method`` is not asked.
        saved: what ``state_dict`` saves beside, by name: whatever has ``state_dict`` and ``load_state_dict``,
            such as a learning-rate schedule or a stateful loader.
        settings: of the method, see ``SelfTuningSettings``, ``OnlineImplicitSettings`` and ``HeldSettings``.

    Raises:
        SettingError: if something does not fit; its key names the argument.

    >>> from selftune import Tune
    >>> x, y = torch.randn(64, 8), torch.randint(3, (64,))
    >>> loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=16)
    >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    >>> def loss(outputs, batch):
    ...     return nn.functional.cross_entropy(outputs, batch[1], reduction="none")
    >>> tuner = OnlineTuner(
    ...     model,
    ...     optimizer,
    ...     {"dropout": {"rate": Tune(0.1)}},
    ...     loss=loss,
    ...     validation=[(torch.randn(32, 8), torch.randint(3, (32,)))],
    ...     forward=lambda model, batch: model(batch[0]),
    ...     warmup_steps=2,
    ... )
    >>> for batch in [*loader, *loader]:
    ...     _ = tuner.loss(batch).backward()
    ...     tuner.step()
    >>> list(tuner.hyperparameters), len(tuner.trajectory)
    (['dropout.rate'], 1)
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        regularizers: Mapping[str, Mapping[str, Any]] | Iterable[Regularizer],
        *,
        loss: Loss,
        validation: Iterable[Any] | tuple[Iterable[Any], Loss],
        forward: Callable[[Callable[..., Any], Any], Any] | None = None,
        metrics: Callable[[Any, Any], Mapping[str, Tensor | Losses]] | None = None,
        quantities: Mapping[str, Callable[[Any, Any], Any]] | None = None,
        examples: int | None = None,
        example_weights: float | Tune | None = None,
        build: Callable[[], nn.Module] | None = None,
        steps: int | None = None,
        seed: int = 0,
        method: str | None = None,
        schedule: Schedule | None = None,
        saved: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        check_seed(seed)
        self.model, self.optimizer = model, optimizer
        network = unwrapped(as_module(model))
        self.device = device_of(network)
        self._first = first_layer(network)  # shows where the model is, without a walk through all of it
        if has_response(network):
            raise SettingError("model", "is tuned by another OnlineTuner already; call its close() first")
        check_optimizer(optimizer, network)
        channel = current_channel()
        streams = Streams(seed, channel.member if channel else 0, self.device, channel.team if channel else 0)
        loader, validation_loss = validation_of(validation)
        sources = LoopSources(loader, streams, self.device, examples)
        objective = LoopObjective(
            network,
            loss,
            sources.batch,
            forward=forward,
            validation_loss=validation_loss,
            metrics=metrics,
            quantities=quantities,
            examples=examples,
            build=build,
        )
        if example_weights is not None:
            objective = objective.with_values(example_weights=example_weights)
        built = with_starts(built_regularizers(regularizers), objective, steps, optimizer, examples)
        check_regularizers(built)
        self.lower = LowerLevel(objective, built, streams, self.device, steps, sources=sources, network=network)
        self.lower.optimizer = optimizer
        self.lower.runner = model
        self.lower.group = process_group()
        self._recent: RecentBatches = sources.train
        self._watch = OverlapWatch(sources.batch)
        self._give_new_parameters()
        self.space = self.lower.space
        self.saved = dict(saved or {})
        self.training_step = 0
        self.estimator: HypergradientEstimator | None = None
        self._values: Mapping[str, Any] = self.space.values(self.space.start.to(self.device))
        self._followed: dict[str, float] = {}
        self._schedule = schedule
        self._steering: Steering | None = None
        self._order: Train | FinishTraining | None = None
        self._left = 0
        self._losses: list[Tensor] = []
        self._began = time.perf_counter()
        self._step: Step | None = None
        self._micro = 0
        self._autocast: tuple[bool, torch.dtype] = (False, torch.float32)
        self.done = False
        """Whether the budget of ``steps`` is used up, so that hyperparameters stay as they are."""
        of_a_method = [*(["method"] if method is not None else []), *settings]
        if schedule is not None:
            if of_a_method:
                raise SettingError(
                    of_a_method[0], "is for tuning; a schedule is followed without, so leave it out"
                )
            schedule.check_space(self.space)
        elif channel is not None:
            if of_a_method:
                raise SettingError(of_a_method[0], "is the scheduler's in a trial of Ray Tune; leave it out")
            self._join(channel)
        elif len(self.space) or holds(method):
            self._steering = steering_of(method or "self_tuning", steps, settings, self.space)
            self._take(self._steering.exchange(None))
        elif of_a_method:
            raise SettingError(
                of_a_method[0], "is for tuning, but nothing is tuned; give a Tune(...), or leave it out"
            )

    def _join(self, channel: Channel) -> None:
        """The loop runs in a trial: orders come from its scheduler."""
        if channel.tuner is not None:
            raise SettingError("loop", "made a second OnlineTuner; a trial has one")
        channel.tuner, self._steering = self, channel
        self._take(channel.exchange(None))

    # The loop ------------------------------------------------------------------------------------------

    def loss(self, batch: Any) -> Float[Tensor, ""]:
        """The regularized training loss of a batch, to go backward from.

        Called several times before a step, it is that of several parts of a batch whose gradients add up; divide
        each by their number.

        Raises:
            SettingError: if the model has moved to another device since the tuner was made.
        """
        if device_of(self._first) != self.device:
            raise SettingError("model", f"has moved away from {self.device}; make the tuner after moving it")
        self._watch.look(batch)
        number = self.training_step + (self._micro << _MICRO)
        self._autocast = autocast_of(self.device)
        if self._schedule is not None:
            self._follow(self._schedule)
        with self._drawing():
            drawn = Drawn(self._index(batch), moved(batch, self.device))
            step = self.lower.begin(number, drawn, self._values, "elementary")
            loss = self.lower.plain_loss(step)
        self._step = step
        if self._order is not None:
            self._note(loss.detach())
        self._micro += 1
        return loss

    def _note(self, loss: Float[Tensor, ""]) -> None:
        """Remembers the loss of the training step, the mean over its parts."""
        if not self._micro:
            self._losses.append(loss)
            self.lower.history.append(self.lower.regularizers.terms)
        else:
            self._losses[-1] = torch.lerp(self._losses[-1], loss, 1 / (self._micro + 1))

    def step(self) -> None:
        """The optimizer's step, with what belongs before and after it; gradients are zero afterwards."""
        self.before_step()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.after_step()

    def before_step(self) -> None:
        """What regularizers do to gradients and weights between ``backward`` and the optimizer's step."""
        self.lower.before(self._taken())

    def after_step(self) -> None:
        """What follows the optimizer's step: maps of weights, the response, and a hyper-step when one is due.

        Raises:
            NotFinite: if a loss or a hypergradient is not finite any more.
        """
        step = self._taken()
        self._step, self._micro = None, 0
        with torch.enable_grad():
            self.lower.after(step)
            self._recent.keep(step.drawn)
            if self.estimator is not None and not self.done:
                with self._drawing(), self._as_trained():
                    self.estimator.after_step(self.training_step, step.drawn)
            self.training_step += 1
            if self._order is not None and not self.done:
                self._left -= 1
                self._go_on()

    def _taken(self) -> Step:
        if self._step is None:
            raise RuntimeError("no training step is under way; call loss(batch) and backward() before it")
        return self._step

    # What it found -------------------------------------------------------------------------------------

    @property
    def hyperparameters(self) -> dict[str, float]:
        """The tuned values now, by name, with ``[part]`` where there are parts."""
        if self._schedule is not None:
            return self._schedule.at(min(self.training_step, self._schedule.steps - 1))
        if self._order is None:
            return {}
        assert self._order.values is not None
        return dict(zip(self.space.names, self._order.values.constrained.tolist(), strict=True))

    @property
    def trajectory(self) -> Sequence[HyperStep]:
        """The hyper-steps so far."""
        return self._steering.trajectory if self._steering is not None else ()

    @property
    def schedule(self) -> Schedule:
        """What the hyperparameters did so far, to be saved, stretched and followed elsewhere.

        Raises:
            SettingError: if there was no hyper-step yet.
        """
        if self._schedule is not None:
            return self._schedule
        rows = self.trajectory
        if not rows:
            raise SettingError("schedule", "is empty: no hyper-step was taken yet")
        values = torch.stack([row.hyperparameters for row in rows]).numpy()
        steps = torch.tensor([row.training_step for row in rows]).numpy()
        return Schedule.of_run(self.space, steps, values, self.training_step)

    @property
    def coverage(self) -> Coverage:
        """How much of the network regularizers reach, and how much of it responds to them."""
        responding = None if self.estimator is None else self.estimator.responding
        return coverage(self.lower.regularizers, self.lower.inventory, responding)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Plain validation loss and metrics over the whole validation loader."""
        with self._drawing():
            return self.lower.evaluate(self.lower.network, "validation")

    def exported(self) -> dict[str, Tensor]:
        """The plain network's tensors by name, with what regularizers leave in it merged."""
        again = self.lower.aliases
        state = {name: value for name, value in state_of(self.lower.network).items() if name not in again}
        self.lower.regularizers.export(state)
        return state

    def close(self) -> None:
        """Gives the model's layers their own classes back; the network computes what it computed before."""
        if self.estimator is not None:
            self.estimator.close()

    # State ---------------------------------------------------------------------------------------------

    def state_dict(self, whole: bool = True) -> dict[str, Any]:
        """Model, optimizer, regularizers, response, method, validation data and what is ``saved``, at this step.

        Args:
            whole: with model and optimizer; a loop that saves these itself leaves them out here, and loads its own
                before this state.

        It holds plain containers and tensors only, so that ``torch.load(..., weights_only=True)`` reads it.

        Raises:
            RuntimeError: between ``loss`` and ``step``.
        """
        if self._step is not None:
            raise RuntimeError("a training step is under way; save the state after step()")
        state = {
            "training_step": self.training_step,
            "lower": self.lower.state_dict(whole),
            "estimator": self.estimator.state_dict() if self.estimator is not None else None,
            "steering": self._steering.state_dict() if self._steering is not None else None,
            "order": self._order,
            "left": self._left,
            "losses": self._losses,
            "seconds": time.perf_counter() - self._began,
            "done": self.done,
            "saved": {name: thing.state_dict() for name, thing in self.saved.items()},
        }
        tensors: dict[str, Tensor] = {}
        return {"tree": packed(state, tensors, {"space": self.space}), "tensors": tensors}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where ``state_dict`` was taken of a tuner made by the same call.

        Raises:
            SettingError: if it is the state of something else.
        """
        try:
            tree = unpacked(state["tree"], state["tensors"], {"space": self.space})
            self._load(tree)
        except (LookupError, TypeError, ValueError, RuntimeError) as error:  # what modules and optimizers raise
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise SettingError(
                "state", f"is not that of this tuner ({reason}); make the tuner as before"
            ) from error

    def _load(self, state: Mapping[str, Any]) -> None:
        self.training_step = state["training_step"]
        self.lower.load_state_dict(state["lower"])
        if self.estimator is None and isinstance(state["order"], Train):  # just made, waits for its first order
            self._make_estimator(state["order"])
        if self.estimator is not None:
            self.estimator.load_state_dict(state["estimator"])
        if self._steering is not None:
            self._steering.load_state_dict(state["steering"])
        self._order, self._left, self.done = state["order"], state["left"], state["done"]
        self._losses = [loss.to(self.device) for loss in state["losses"]]
        self._began = time.perf_counter() - state["seconds"]
        self._step, self._micro = None, 0
        if isinstance(self._order, FinishTraining):
            self._hold(self._order)
        elif self._order is not None and self.estimator is not None:
            self.estimator.begin(self._order)
            self._values = self.estimator.values
        for name, thing in self.saved.items():
            thing.load_state_dict(state["saved"][name])

    # Orders --------------------------------------------------------------------------------------------

    def _take(self, order: WorkOrder) -> None:
        """An order comes: so many steps with these hyperparameters."""
        if isinstance(order, FinishTraining):
            self._finish(order)
            return
        if not isinstance(order, Train):
            raise SettingError("method", f"has a {type(order).__name__} to do, which a loop of one's own cannot")
        self._order, self._left, self._losses = order, order.steps, []
        self.lower.history.clear()
        self._began = time.perf_counter()
        if self.estimator is None:
            self._make_estimator(order)
        assert self.estimator is not None
        self.estimator.begin(order)
        self._values = self.estimator.values

    def _make_estimator(self, order: Train) -> None:
        with self._drawing():
            self.estimator = estimator_of(order.estimator)(self.lower, order.settings)
            self._recent.wanted = self.estimator.looks_back
            if self.estimator.moves:
                for mistake in pathless(self.lower, self.estimator.differentiates):
                    raise mistake

    def _go_on(self) -> None:
        """Reports for as long as the steps of orders are done."""
        while self._left == 0 and not self.done:
            assert self._steering is not None
            self._take(self._steering.exchange(self._report()))

    def _report(self) -> Report:
        order, estimator, group = self._order, self.estimator, self.lower.group
        assert isinstance(order, Train)
        assert estimator is not None
        first = self.training_step - order.steps
        losses, found, tensors = self._losses, None, dict[str, Tensor]()
        measures: Measures = {_LOSS: torch.stack(losses).mean()} if losses else {}
        if order.hypergradient:
            failing = blamed_on(losses, first, self._values, self.lower.history)
            with self._drawing(), self._as_trained(), failing:
                found, measured = estimator.hypergradient(self.training_step)
            tensors = tensors_of(found)
            measures |= measured
        if group.size > 1:
            means = group.mean(torch.stack([value.double() for value in measures.values()]))
            measures = dict(zip(measures, means, strict=True))
        losses, tensors, measures = fetched((losses, tensors, measures))
        training_loss = mean_loss(losses, first, self._values, self.lower.history)
        check_hypergradient(tensors, self.training_step, self._values)
        of_all = numbers(measures)
        return Trained(
            number=order.number,
            version=order.version,
            training_step=self.training_step,
            training_loss=of_all.pop(_LOSS, training_loss),
            measures=of_all,
            hypergradient=found and with_tensors(found, tensors),
            seconds=time.perf_counter() - self._began,
        )

    def _finish(self, order: FinishTraining) -> None:
        """Tuning ends: hyperparameters stay where they are."""
        self.done = True
        self._hold(order)
        self._order = order
        assert self._steering is not None
        self._steering.end(self._last_report)

    def _hold(self, order: FinishTraining) -> None:
        assert order.values is not None
        self._values = self.space.unpack(order.values.constrained.to(self.device))

    def _last_report(self) -> Report:
        network = {name: tensor.cpu() for name, tensor in self.exported().items()}
        return TrainingFinished(training_step=self.training_step, measures=self.evaluate(), network=network)

    # Surroundings --------------------------------------------------------------------------------------

    def _index(self, batch: Any) -> Tensor | None:
        objective = self.lower.objective
        assert isinstance(objective, LoopObjective)
        return objective.index(batch, self.device)

    def _follow(self, schedule: Schedule) -> None:
        """Takes the values of the training step; the last ones hold after the schedule's end."""
        values = schedule.at(min(self.training_step, schedule.steps - 1))
        if values != self._followed:
            self._followed = values
            constrained = torch.tensor([values[name] for name in self.space.names], device=self.device)
            self._values = self.space.unpack(constrained)

    @contextmanager
    def _drawing(self) -> Iterator[None]:
        """Random numbers within are the tuner's; the loop's own streams go on after it as before it."""
        generators = self.lower.streams.global_generators
        states = [generator.get_state() for generator in generators]  # torch's fork_rng takes twice as long
        try:
            yield
        finally:
            for generator, state in zip(generators, states, strict=True):
                generator.set_state(state)

    def _as_trained(self) -> torch.autocast:
        """The precision in which the loop ran the last batch."""
        enabled, dtype = self._autocast
        return torch.autocast(self.device.type, dtype=dtype if enabled else None, enabled=enabled)

    def _give_new_parameters(self) -> None:
        """What regularizers put in place of the network's parameters is the optimizer's to train."""
        held = held_by(self.optimizer)
        new = [p for p in self.lower.parameters.values() if p.requires_grad and p not in held]
        if new:
            self.optimizer.add_param_group({"params": new})

"""Fitting the best response of a network to its hyperparameters, and moving through it to a hypergradient."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch

from selftune.data.drawn import Drawn
from selftune.data.nested import cut, moved, size_of
from selftune.errors import SettingError
from selftune.hypergradients.best_response import convert
from selftune.lower_level.losses import Losses
from selftune.lower_level.optimization import Optimization
from selftune.lower_level.optimizers import load_memory
from selftune.methods import Response
from selftune.methods.measures import DIAGNOSTIC, PERTURBED
from selftune.methods.reports import ResponseHypergradient
from selftune.methods.work_orders import Train, TrainWithResponse
from selftune.networks.gradients import give_gradients
from selftune.networks.modes import constant_buffers, evaluating
from selftune.regularization.step import Step
from selftune.shapes import Float, Tensor
from selftune.training.estimators.cost import CostKeeper, Economy
from selftune.training.estimators.gates import mixing_of
from selftune.training.estimators.hypergradient_estimator import HypergradientEstimator, Measures
from selftune.training.estimators.recent_means import RecentMeans
from selftune.training.lower_level import LowerLevel, validation_measures
from selftune.training.paths import responseless


class ResponseEstimator(HypergradientEstimator):
    """The response set of one network and the two steps that use it (Delta-STN, arXiv 2010.13514).

    Args:
        lower: the network to convert; it stays the plain network wherever the perturbation is zero.
        settings: those of ``Response``, and those about work of ``SelfTuningSettings``: ``cost``, ``scale_every``,
            ``validation_parts``, and ``cycle``, the training steps from one hypergradient to the next.

    Raises:
        SettingError: if no layer of the network can have a response.
    """

    differentiates = looks_back = False

    def __init__(self, lower: LowerLevel, settings: Mapping[str, Any]) -> None:
        self.lower = lower
        settings = dict(settings)
        work = {key: settings.pop(key, default) for key, default in _WORK.items()}
        self.settings = Response(**settings)
        economy = Economy(self.settings.every, self.settings.batch_parts, work.pop("validation_parts"))
        self._paired = self.settings.paired or work["cost"] is not None
        self.keeper = CostKeeper(**work, device=lower.device, mean=lower.group.mean, economy=economy)
        self._judgements = RecentMeans()
        try:
            self.response = convert(
                lower.network,
                hyperparameters=len(lower.space),
                example=lower.objective.feed(),
                rank=self.settings.rank,
                generator=lower.streams("conversion"),
                output_layer=self.settings.output_layer,
                without_rule=self.settings.without_rule,
                mixing=mixing_of(lower, self.settings),
            )
        except ValueError as error:
            raise SettingError("method", f"a response cannot be fitted: {error}") from error
        if not lower.checked:
            for mistake in responseless(lower.regularizers, self.response.responding):
                raise mistake
        unmoved = lower.regularizers.without_effect
        moving = torch.tensor([float(name not in unmoved) for name in lower.space.names])
        self._moving = moving.to(lower.device) if unmoved else None
        self.parameters = list(self.response.parameters())
        rule = Optimization(optimizer=self.settings.optimizer, learning_rate=self.settings.learning_rate)
        self.optimizer = rule.build(self.parameters)

    # Training ----------------------------------------------------------------------------------------

    def begin(self, order: Train) -> None:
        assert isinstance(order, TrainWithResponse)
        super().begin(order)
        self._scale = moved(order.scale, self.lower.device)
        self._tune_scale = order.tune_scale
        self.keeper.begin()

    def train(self, number: int) -> Float[Tensor, ""]:
        """An elementary and a response step, or one of both at once (STN)."""
        if not self.settings.joint:
            return super().train(number)
        self.lower.batches.forget(before=number)
        return self.fit(number, self.lower.batches.at(number))

    def after_step(self, number: int, drawn: Drawn) -> None:
        parts = self.keeper.due(number)
        if parts is None:
            return
        turn, size = number // self.keeper.economy.every, size_of(drawn.batch)
        each = 2 if self._paired else 1  # a pair is of one example
        part = self._part_in_turn(size, parts * each, turn)
        examples = part.stop - part.start
        with self.keeper.fitting(examples * each / size):
            self.fit(number, drawn if examples == size else drawn.cut(part))

    def _part_in_turn(self, size: int, parts: int, turn: int) -> slice:
        """One of so many parts of a batch, each in its turn; at least an example for every process."""
        parts = min(parts, max(1, size // self.lower.group.size))
        return slice(turn % parts * size // parts, (turn % parts + 1) * size // parts)

    def fit(self, number: int, drawn: Drawn) -> Float[Tensor, ""]:
        """Fits the response on the batch of training step ``number``; returns the perturbed loss, detached.

        Fitted separately, the elementary weights stay as they are; fitted jointly (STN), both sets move.
        """
        unconstrained, scale = self.unconstrained, self._scale
        lower = self.lower
        batch, shared = size_of(drawn.batch), self.response.shared_draw
        paired = self._paired and not shared
        draws = self._perturbation(1 if shared else batch, number, scale)
        delta = lower.group.own_draws(draws)
        if paired:
            drawn = drawn.part(torch.arange(batch, device=lower.device).repeat(2))
            delta, batch = torch.cat([delta, -delta]), 2 * batch
        perturbed = unconstrained + delta
        fed = self._of_moving(delta if self.settings.centered else perturbed)
        joint = self.settings.joint
        if joint:
            lower.descent.begin(number)
        step = lower.begin(
            number,
            drawn,
            lower.space.values(perturbed.expand(batch, -1)),
            "response",
            perturbed=not joint,
            paired=paired,
        )
        forward = self.response.linearized if self.settings.linearize else self.response.perturbed
        # fitted separately, the elementary step alone moves buffers; linearized sees to it
        freezes = not joint and not self.settings.linearize
        statistics = constant_buffers(lower.network) if freezes else nullcontext()
        one = delta[0] if shared else draws[0]
        first = self._of_moving(one if self.settings.centered else unconstrained + one)
        weights = _LazyWeights(self, first, joint)

        def run(*arguments: Any, **named: Any) -> Any:
            return forward(self._of_part(_rows(fed, step)), *arguments, **named)

        with statistics:
            loss = lower.loss(step, run, weights)
        if joint:  # the maps themselves act on the elementary weights, in update
            step.parameters = _LazyWeights(self, first, joint=False)
        surrogate = lower.regularizers.map_surrogate(step)
        objective = loss if surrogate is None else loss + surrogate
        if joint:
            self.optimizer.zero_grad()
            lower.descend(step, objective)
            give_gradients(self.parameters, lower.group.means([parameter.grad for parameter in self.parameters]))
        else:
            gradients = torch.autograd.grad(objective, self.parameters, allow_unused=True)
            give_gradients(self.parameters, lower.group.means(gradients))
        self.optimizer.step()
        for parameter in self.parameters:  # their memory is free for the next training step
            parameter.grad = None
        return loss.detach()

    def _of_moving(self, fed: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
        """What gates see: nothing of hyperparameters that change no weight, which have no response."""
        return fed if self._moving is None else fed * self._moving.to(fed)

    def _perturbation(
        self, batch: int, number: int, scale: Float[Tensor, "n"], stream: str = "perturbation"
    ) -> Float[Tensor, "batch n"]:
        """Draws for the batches of all processes together, of which ``_own`` are those of this one."""
        generator, rows = self.lower.streams(stream, number), self.lower.group.draws(batch)
        noise = torch.randn(rows, len(scale), generator=generator, device=self.lower.device)
        return self.lower.space.perturbation(scale, noise)

    def _of_part(self, fed: Float[Tensor, "batch n"]) -> Float[Tensor, "part n"]:
        """The perturbations of the examples on which this process runs the network."""
        part = self.lower.group.part(len(fed))
        return fed if part is None or len(fed) == 1 else fed[part]

    # Validation --------------------------------------------------------------------------------------

    def hypergradient(self, number: int) -> tuple[ResponseHypergradient, Measures]:
        """Gradients of the validation loss with respect to the hyperparameters (and the scales), and losses.

        With fixed scales and a centred response this is one plain backward pass and a contraction. Otherwise
        the gradient flows through the gates of the network; with scales that are tuned this network is perturbed.
        What it measures is then ``perturbed_validation_...``, and a pass without gradient measures the plain one.
        """
        lower = self.lower
        batch = lower.validation_batch(self.hyper_step)
        size = size_of(batch)
        part = self._part_in_turn(size, self.keeper.judged(size), self.hyper_step)
        seen = part.stop - part.start
        with self.keeper.judging(seen / size, self._tune_scale):
            found, measures = self._differentiated(batch if seen == size else cut(batch, part.start, part.stop))
        # Over as many examples as make a whole batch: where a part of them is easier the network is no better.
        measures = self._judgements.of(measures, seen, size)
        if self.keeper.expected is not None:
            measures[f"{DIAGNOSTIC}tuning_cost"] = torch.full((), self.keeper.expected, device=lower.device)
        return found, measures

    def _differentiated(self, batch: Any) -> tuple[ResponseHypergradient, Measures]:
        hyper_step, unconstrained, scale = self.hyper_step, self.unconstrained, self._scale
        tune_scale, lower = self._tune_scale, self.lower
        if self.settings.centered and not tune_scale:
            trained = {name: lower.parameters[name] for name in self.response.elementary}
            with evaluating(lower.network):  # on the way back as well, where checkpoints run modules again
                losses, metrics = lower.judgement(batch)
                gradients = torch.autograd.grad(losses.mean(), list(trained.values()), materialize_grads=True)
            by_name = dict(zip(trained, gradients, strict=True))
            with torch.no_grad():
                hypergradient = self.response.contract(by_name).to(unconstrained.dtype)
            found = ResponseHypergradient(hypergradient=lower.group.mean(hypergradient))
            return found, validation_measures(losses, metrics)
        rows = 1 if self.response.shared_draw else size_of(batch)
        draws = self._perturbation(rows, hyper_step, torch.ones_like(scale), "validation_noise")
        noise = lower.group.own_draws(draws)
        delta = (noise * scale if tune_scale else torch.zeros_like(noise)).requires_grad_()
        fed = self._of_moving(delta if self.settings.centered else delta + unconstrained)
        losses, metrics = self._measured(fed, batch)
        (gradient,) = torch.autograd.grad(losses.mean(), [delta])
        hypergradient = lower.group.mean(gradient.sum(dim=0))
        measures = validation_measures(losses, metrics)
        if not tune_scale:  # gates, but no perturbation
            return ResponseHypergradient(hypergradient=hypergradient), measures
        scale_gradient = lower.group.mean((gradient * noise).sum(dim=0))
        plain = torch.zeros_like(noise) if self.settings.centered else unconstrained.expand_as(noise)
        with torch.no_grad():
            losses, metrics = self._measured(self._of_moving(plain), batch)
        perturbed = {f"{PERTURBED}{name}": value for name, value in measures.items()}
        found = ResponseHypergradient(hypergradient=hypergradient, scale_gradient=scale_gradient)
        return found, validation_measures(losses, metrics) | perturbed

    def _measured(self, fed: Float[Tensor, "batch n"], batch: Any) -> tuple[Losses, dict[str, Losses]]:
        """Losses of a validation batch, with their graph, with the response at ``fed``, and further measures."""
        return self.lower.judgement(batch, forward=partial(self.response.perturbed, self._of_part(fed)))

    def weights(self, unconstrained: Float[Tensor, "n"]) -> dict[str, Tensor]:
        """The converted layers' weights at the given hyperparameters, detached."""
        fed = torch.zeros_like(unconstrained) if self.settings.centered else self._of_moving(unconstrained)
        return {name: tensor.detach() for name, tensor in self.response.weights(fed).items()}

    @property
    def responding(self) -> frozenset[str]:
        return self.response.responding

    def close(self) -> None:
        self.response.remove()

    def export(self, state: dict[str, Tensor], unconstrained: Float[Tensor, "n"] | None) -> None:
        if not self.settings.centered:
            assert unconstrained is not None
            state |= self.weights(unconstrained.to(self.lower.device))

    def state_dict(self) -> dict[str, Any]:
        return {
            "response": self.response.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "keeper": self.keeper.state_dict(),
            "judgements": self._judgements.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.response.load_state_dict(state["response"])
        load_memory(self.optimizer, state["optimizer"])
        self.keeper.load_state_dict(state["keeper"])
        self._judgements.load_state_dict(state["judgements"], self.lower.device)


_WORK = {"cost": None, "cycle": 5.0, "scale_every": 1, "validation_parts": 1}


def _rows(fed: Float[Tensor, "batch n"], step: Step) -> Float[Tensor, "rows n"]:
    """The perturbation of every example; those that a regularizer appended share the others'."""
    return fed if step.rows is None or len(fed) == 1 else fed[step.rows]


class _LazyWeights(Mapping[str, Tensor]):
    """The perturbed weights of a batch's first draw, built only when a regularizer reads them.

    Penalties on weights take one draw per batch: an unbiased sample of the average over examples. Elementary
    weights are constants in them, unless ``joint``.
    """

    def __init__(self, estimator: ResponseEstimator, fed: Float[Tensor, "n"], joint: bool) -> None:
        self._estimator = estimator
        self._fed = fed
        self._joint = joint
        self._built: dict[str, Tensor] | None = None

    def _weights(self) -> dict[str, Tensor]:
        if self._built is None:
            plain = self._estimator.lower.parameters
            constant = {name: tensor.detach() for name, tensor in plain.items()}
            moved = self._estimator.response.weights(self._fed)  # holds the elementary weights constant
            if self._joint:
                moved = {name: tensor + (plain[name] - constant[name]) for name, tensor in moved.items()}
                self._built = {**plain, **moved}
            else:
                self._built = constant | moved
        return self._built

    def __getitem__(self, name: str) -> Tensor:
        return self._weights()[name]

    def __iter__(self) -> Any:
        return iter(self._estimator.lower.parameters)

    def __len__(self) -> int:
        return len(self._estimator.lower.parameters)

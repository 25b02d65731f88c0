"""The exact metagradient of a run: reverse mode through its training steps, with checkpointed replay.

From where a trainer stands, training goes on for some steps with the hyperparameters held. The validation loss at
the end is differentiated in them, through every step: its batch, its draws, the momentum of SGD. States are kept
at intervals; on the way back the steps between two of them are done again, with their graph, so that memory holds
one interval and not the run ("Gradient-based Hyperparameter Optimization through Reversible Learning", arXiv
1502.03492, has the recursion; it undoes steps in the place of doing them again).

A dropout mask is no differentiable function of its rate. What is differentiated there is the difference of the
training loss at a rate a little higher and a little lower, on the same draws: the derivative of its mean over
masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from selftune.data.nested import size_of
from selftune.networks.modes import constant_buffers
from selftune.training.lower_level import LowerLevel

State = Sequence[Tensor]
"""Where training stands: the trained weights, then as many velocities of SGD."""

WIDTH = 0.25
"""By how much, in unconstrained units, a hyperparameter is moved up and down that has no derivative."""


class UnrolledRun:
    """Training from where a lower level stands, as a function of the unconstrained hyperparameters.

    Nothing of the lower level changes.

    Args:
        lower: trained by SGD without more around it than momentum, and without running statistics.
        first: number of the run's first training step, which decides its batches and draws.

    Raises:
        ValueError: if it is trained otherwise.
    """

    def __init__(self, lower: LowerLevel, first: int) -> None:
        optimization = lower.objective.optimization
        around = (optimization.schedule, optimization.clip_norm, optimization.clip_value, optimization.average)
        if (optimization.optimizer, optimization.accumulate) != ("sgd", 1) or optimization.settings or any(around):
            raise ValueError("a run is unrolled through plain SGD; take another optimization")
        if any(buffer.is_floating_point() for buffer in lower.network.buffers()):
            raise ValueError("a run is unrolled without running statistics; take a network that keeps none")
        self.lower = lower
        self.first = first
        self.names = [name for name, parameter in lower.parameters.items() if parameter.requires_grad]
        weights = [lower.parameters[name].detach().clone() for name in self.names]
        memory = [lower.optimizer.state[lower.parameters[name]].get("momentum_buffer") for name in self.names]
        velocities = [
            torch.zeros_like(weight) if velocity is None else velocity.clone()
            for weight, velocity in zip(weights, memory, strict=True)
        ]
        self.start: State = [*weights, *velocities]
        self._rough = [not h.smooth for h in lower.space.tuned for _ in range(h.size)]

    def step(self, number: int, state: State, u: Tensor, graph: bool) -> list[Tensor]:
        """The state after a training step; with its graph, if that is wanted."""
        half = len(state) // 2
        weights = [tensor if graph else tensor.detach().requires_grad_() for tensor in state[:half]]
        with torch.enable_grad():
            loss = self.training_loss(number, weights, u) if graph else self._loss(number, weights, u.detach())
            gradients = torch.autograd.grad(loss, weights, create_graph=graph)
        rate, momentum = self.lower.learning_rate, self.lower.momentum
        moved = [momentum * v + gradient for v, gradient in zip(state[half:], gradients, strict=True)]
        stepped = [w - rate * v for w, v in zip(weights, moved, strict=True)]
        return [*stepped, *moved] if graph else [tensor.detach() for tensor in (*stepped, *moved)]

    def training_loss(self, number: int, weights: State, u: Tensor) -> Tensor:
        """The regularized loss of a training step, of which the mixed derivatives in weights and u are right."""
        rough = torch.tensor(self._rough)
        here = u.detach()
        loss = self._loss(number, weights, torch.where(rough, here, u))
        for column in rough.nonzero().flatten().tolist():
            move = torch.zeros_like(here)
            move[column] = WIDTH
            rise = self._loss(number, weights, here + move) - self._loss(number, weights, here - move)
            loss = loss + (u - here)[column] * rise / (2 * WIDTH)  # the second factor alone counts: u is here
        return loss

    def _loss(self, number: int, weights: State, u: Tensor) -> Tensor:
        lower, named = self.lower, dict(zip(self.names, weights, strict=True))
        tensors, drawn = {**lower.parameters, **named}, lower.batches.at(number)
        # a row for each example: numbers alone would be taken down to the single precision of draws and labels
        values = lower.space.values(u.expand(size_of(drawn.batch), -1))
        with constant_buffers(lower.network):
            step = lower.begin(number, drawn, values, "elementary", perturbed=True)
            return lower.loss(step, lower.with_tensors(tensors), tensors)

    def validation_loss(self, state: State) -> Tensor:
        """The plain loss over the whole validation split, with its graph."""
        lower = self.lower
        forward = lower.with_tensors({**lower.parameters, **dict(zip(self.names, state, strict=False))})
        total: Any = 0
        count: Any = 0
        for batch in lower.sources.whole("validation", lower.objective.evaluation_batch_size):
            losses, counted = lower.judgement(batch, forward=forward)[0].totals()
            total, count = total + losses, count + counted
        return total / count

    def end(self, u: Tensor, steps: int) -> float:
        """The validation loss after so many steps: what finite differences of whole runs are made of."""
        with torch.random.fork_rng(devices=[]):
            state = self.start
            for number in range(self.first, self.first + steps):
                state = self.step(number, state, u, graph=False)
            return float(self.validation_loss(state))

    def metagradient(self, u: Tensor, steps: int, every: int = 16) -> Tensor:
        """The derivative of the validation loss after so many steps in u, held over all of them.

        Args:
            u: unconstrained hyperparameters, in the precision of the weights.
            every: training steps from one state that is kept to the next.
        """
        with torch.random.fork_rng(devices=[]):
            numbers = range(self.first, self.first + steps)
            kept, state = [], self.start
            for place, number in enumerate(numbers):
                if place % every == 0:
                    kept.append(state)
                state = self.step(number, state, u, graph=False)
            leaves = _leaves(state)
            adjoint = torch.autograd.grad(self.validation_loss(leaves), leaves, materialize_grads=True)
            found = torch.zeros_like(u)
            for place, before in reversed(list(enumerate(kept))):
                leaves, hyperparameters = _leaves(before), u.detach().requires_grad_()
                state = leaves
                for number in numbers[place * every : (place + 1) * every]:
                    state = self.step(number, state, hyperparameters, graph=True)
                *adjoint, in_u = torch.autograd.grad(
                    state, [*leaves, hyperparameters], adjoint, materialize_grads=True
                )
                found += in_u
            return found


def _leaves(state: State) -> list[Tensor]:
    return [tensor.detach().requires_grad_() for tensor in state]

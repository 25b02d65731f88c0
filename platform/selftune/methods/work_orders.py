"""Work orders: what a method has its trainers do, a class per kind.

They hold numbers, strings, tuples, ``Values`` and CPU tensors only, so that they travel between processes and
through checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from selftune.methods.values import Values
from selftune.shapes import Float, Tensor
from selftune.storage.state_tree import record


@record
@dataclass(frozen=True, repr=False, kw_only=True)
class WorkOrder:
    """What one trainer is to do next.

    Args:
        number: counts the orders of one member from 0; the runner stamps it.
        checkpoint: whether the trainer's state is saved right after the order.
        after_absence: whether its team went on without the trainer, which has missed the orders before this one.
        start: key of the state to start from; None for the one the trainer is in, or a cold start. Whoever
            carries the order carries the state along where the trainer does not keep it.
        end: key under which the state at the end is kept; None for none.
        states: keys of the states that are still wanted: of those that it has the trainer forgets all others.
        source: the member whose state is carried along; the runner stamps it.

    ``kind`` is the word for it in tables of orders and reports.
    """

    kind: ClassVar[str] = ""
    number: int = -1
    checkpoint: bool = False
    after_absence: bool = False
    start: str | None = None
    end: str | None = None
    states: tuple[str, ...] = ()
    source: int | None = None

    @property
    def version(self) -> int:
        """That of the values that the order brings, which its report repeats; -1 where it brings none."""
        values: Values | None = getattr(self, "values", None)
        return -1 if values is None else values.version

    def __repr__(self) -> str:  # short: Ray formats every result it sees
        return f"{type(self).__name__}(number={self.number})"


@record
class Finish(WorkOrder):
    """The order that ends a trainer."""

    kind = "finish"


# Networks --------------------------------------------------------------------------------------------


@record
@dataclass(frozen=True, repr=False, kw_only=True)
class Train(WorkOrder):
    """Training steps at values, then, if asked, a hypergradient of the validation loss.

    Args:
        values: in force from now on; their version is the number of the hyper-step.
        steps: training steps.
        hypergradient: whether one is wanted at the end.
        estimator: the method whose hypergradient estimator trains and differentiates.
        settings: of the estimator.
        keep: what the trainer has now is the best network so far, trained with these values; None where it is not.
        unchecked: whether a hypergradient that is not finite is reported, too, because the team outvotes it.

    It goes on from the state of another trainer, if it is to start from one, with random numbers of its own.
    """

    kind = "cycle"
    values: Values
    steps: int
    hypergradient: bool
    estimator: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    keep: Values | None = None
    unchecked: bool = False


@record
@dataclass(frozen=True, repr=False, kw_only=True)
class TrainWithResponse(Train):
    """``Train`` that fits a best response to hyperparameters perturbed by ``scale``, in unconstrained units."""

    scale: Float[Tensor, "n"]
    tune_scale: bool = False


@record
@dataclass(frozen=True, repr=False, kw_only=True)
class TrainPenalized(Train):
    """``Train`` of one network of a pair: on h, or where it is ``penalized`` on h + sigma g.

    ``draws`` is the number of the pair, whose random numbers its trainers use.
    """

    sigma: float
    penalized: bool
    draws: int


@record
@dataclass(frozen=True, repr=False, kw_only=True)
class FollowSchedule(WorkOrder):
    """Plain training with given values: (training steps, constrained values), one after the other."""

    kind = "replay"
    segments: tuple[tuple[int, Float[Tensor, "n"]], ...]


@record
@dataclass(frozen=True, repr=False, kw_only=True)
class TrainArm(WorkOrder):
    """Training from a state that is kept, judged at its end by validation examples.

    Args:
        values: in force during the arm.
        steps: training steps.
        fresh: whether a trainer's own first state will do as the start, if nobody keeps another one.
        gamma: weight of the proximal term, 0 for none.
        sample: number of the validation sample.
        samples: its size; None for half of the split.
        hyper_step: whose diagnostics are due in case this is the arm kept; None for none.
    """

    values: Values
    steps: int
    start: str = field()
    end: str = field()
    fresh: bool = False
    gamma: float = 0.0
    sample: int = 0
    samples: int | None = None
    hyper_step: int | None = None


@record
@dataclass(frozen=True, repr=False, kw_only=True)
class TrainStayArm(TrainArm):
    """The arm whose hyperparameters stay as they are, with the hypergradient at its end if that is wanted."""

    kind = "stay"
    hypergradient: bool
    curvature: float | None = None
    lanczos_steps: int = 1
    system_steps: int = 1


@record
@dataclass(frozen=True, repr=False, kw_only=True)
class TrainCandidate(TrainArm):
    """An arm with the values of a candidate.

    Args:
        candidate: its number in the search; -1 where a lost state is made once more.
        attempt: number of the search.
    """

    kind = "candidate"
    candidate: int = -1
    attempt: int = -1

    @property
    def again(self) -> bool:
        """Whether a state that was lost is made once more."""
        return self.candidate < 0


@record
@dataclass(frozen=True, repr=False, kw_only=True)
class FinishTraining(Finish):
    """The plain network and its measures are wanted; the trainer takes no further orders.

    Args:
        values: at the end; None where the network does not depend on them.
        keep: as for ``Train``.
        best_state: key of the state that holds the best network; None where it was kept by itself.
        metric, mode: which of the best network's weights come out, those that were trained or their average:
            those with the better metric over the whole validation split.
        remark: what the report says of the end.
    """

    values: Values | None = None
    keep: Values | None = None
    best_state: str | None = None
    metric: str = "validation_loss"
    mode: Literal["min", "max"] = "min"
    remark: str = ""


@record
@dataclass(frozen=True, repr=False, kw_only=True)
class EvaluateNetwork(WorkOrder):
    """The plain network as it is now is measured; nothing of its training changes.

    Args:
        values: at which a network is taken that depends on them; None where it does not.
        splits: of the data; one that is not there is left out.
        network: whether its tensors are wanted.
    """

    kind = "evaluation"
    values: Values | None = None
    splits: tuple[str, ...] = ("validation",)
    network: bool = False


# Smooth problems -------------------------------------------------------------------------------------


@record
@dataclass(frozen=True, repr=False, kw_only=True)
class Solve(WorkOrder):
    """Solves the lower level.

    Args:
        values: at which.
        error: how far from the minimiser the solution may be.

    It starts cold where the state to start from is gone.
    """

    values: Values
    error: float


@record
@dataclass(frozen=True, repr=False, kw_only=True)
class Iterate(Solve):
    """Moves parameters and hyperparameters together, on batches; nothing is solved, so ``error`` is not read.

    Args:
        iterations: how many.
        low, high: of the unconstrained hyperparameters, in every iteration.
    """

    kind = "iterations"
    end: str = field()
    iterations: int
    low: Float[Tensor, "n"]
    high: Float[Tensor, "n"]


@record
@dataclass(frozen=True, repr=False, kw_only=True)
class Differentiate(Solve):
    """Solves, and gives the implicit hypergradient there.

    Args:
        residual: of the linear system.
        bounds: whether the hypergradient's error is bounded ``always``, ``never``, or where that is ``free``.
    """

    kind = "hypergradient"
    residual: float
    end: str = field()
    bounds: Literal["always", "free", "never"] = "free"


@record
@dataclass(frozen=True, repr=False, kw_only=True)
class SolveCandidate(Solve):
    """Solves at a candidate, which is accepted if its upper level is proven to be at most ``threshold``.

    The solution of one that is not accepted is not kept.

    Args:
        early_acceptance, early_rejection: whether the solve ends as soon as that is decided.
    """

    kind = "candidate"
    end: str = field()
    threshold: float
    early_acceptance: bool = True
    early_rejection: bool = True


@record
@dataclass(frozen=True, repr=False, kw_only=True)
class FinishSolving(Finish):
    """The solution and its measures are wanted; ``stopped`` is what the report says of the end."""

    values: Values
    error: float
    stopped: str = ""

"""Reports: what trainers answer to work orders, a class per kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, ClassVar

from selftune.shapes import Float, Tensor
from selftune.storage.state_tree import record

_NOT_SHOWN = ("number", "message", "version")


@record
@dataclass(frozen=True, repr=False, kw_only=True)
class Report:
    """What one trainer answers to one order, whose ``number`` it repeats. Tensors are on the CPU.

    ``kind`` is the word for it in tables, ``message`` what there is to say. ``version`` is that of the values that
    it was computed at, -1 where the order brought none.
    """

    kind: ClassVar[str] = ""
    number: int = -1
    message: str = ""
    version: int = -1

    @property
    def metrics(self) -> dict[str, float]:
        """The numbers of the report by name, as tables and trackers show them."""
        found = _entries(self)
        return {name: float(value) for name, value in found if isinstance(value, int | float)}

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors of the report by name; those of networks as ``network.NAME``."""
        return {name: value for name, value in _entries(self, within=True) if isinstance(value, Tensor)}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(number={self.number})"


def _entries(part: Any, within: bool = False) -> Iterator[tuple[str, Any]]:
    """The fields, those of parts and mappings among them; names of mappings of tensors start with the field's."""
    for one in fields(part):
        value = getattr(part, one.name)
        if one.name in _NOT_SHOWN:
            continue
        if is_dataclass(value):
            yield from _entries(value, within)
        elif isinstance(value, Mapping):
            prefix = one.metadata.get("prefix", "")
            yield from ((f"{prefix}{name}", entry) for name, entry in value.items())
        else:
            yield one.name, value


def _named(prefix: str) -> Any:
    """A mapping whose entries have the prefix in ``metrics`` or ``tensors``."""
    return field(default_factory=dict, metadata={"prefix": prefix})


@record
@dataclass(frozen=True, repr=False, kw_only=True)
class Diverged(Report):
    """A loss is not finite any more; the trainer takes no further orders."""

    kind = "diverged"
    training_step: int = 0


@record
class Finished(Report):
    """A trainer has come to its end."""

    kind = "finish"


# Networks --------------------------------------------------------------------------------------------


@record
@dataclass(frozen=True, kw_only=True)
class Hypergradient:
    """The gradient of the validation loss with respect to the unconstrained hyperparameters."""

    hypergradient: Float[Tensor, "n"]


@record
@dataclass(frozen=True, kw_only=True)
class ResponseHypergradient(Hypergradient):
    """That through a best response; ``scale_gradient`` is with respect to the scales, where they are tuned."""

    scale_gradient: Float[Tensor, "n"] | None = None


@record
@dataclass(frozen=True, kw_only=True)
class ImplicitHypergradient(Hypergradient):
    """That by implicit differentiation, with the residual of its linear system relative to the right side."""

    system_residual: Float[Tensor, ""]


@record
@dataclass(frozen=True, kw_only=True)
class PenaltyGradient(Hypergradient):
    """grad_u h of one network of a pair: the mean, and a row for every batch.

    ``gradient_norm`` is that of grad_x h, of a network that is not penalized.
    """

    per_batch: Float[Tensor, "batches n"]
    gradient_norm: Float[Tensor, ""] | None = None


@record
@dataclass(frozen=True, kw_only=True)
class ProximalHypergradient(Hypergradient):
    """That of a proximal lower level with weight ``gamma``, and what was met on the way to it."""

    ritz_min: float
    ritz_max: float
    gamma: float
    residual: float


@record
@dataclass(frozen=True, repr=False, kw_only=True)
class Trained(Report):
    """Training steps are done.

    Args:
        training_step: how many by now.
        training_loss: mean over the steps of the order; not a number where there were none.
        measures: of the validation data and diagnostics, by name.
        hypergradient: where one was wanted.
        seconds: that it took.
    """

    kind = "cycle"
    training_step: int
    training_loss: float
    measures: Mapping[str, float] = field(default_factory=dict)
    hypergradient: Hypergradient | None = None
    seconds: float = 0.0


@record
class Followed(Trained):
    """Training steps with given values are done."""

    kind = "replay"


@record
@dataclass(frozen=True, repr=False, kw_only=True)
class ArmTrained(Trained):
    """An arm has come to its end.

    Args:
        work: training steps that it took.
        losses: of the validation examples that judge the arms.
    """

    kind = "stay"
    work: int
    losses: Float[Tensor, "m"]


@record
class CandidateTrained(ArmTrained):
    """The arm of a candidate has come to its end."""

    kind = "candidate"


@record
@dataclass(frozen=True, repr=False, kw_only=True)
class CandidateDiverged(Report):
    """The loss of a candidate is not finite any more; its trainer is as good as before."""

    kind = "candidate"
    training_step: int
    work: int
    seconds: float = 0.0


@record
@dataclass(frozen=True, repr=False, kw_only=True)
class StateMissing(Report):
    """The state to start from is not there, so nothing was done."""

    kind = "missing"
    training_step: int = 0


@record
@dataclass(frozen=True, repr=False, kw_only=True)
class NetworkEvaluated(Report):
    """A plain network is measured.

    Args:
        training_step: training steps that it has behind it.
        measures: over whole splits, by name.
        network: its tensors by name, where they were wanted.
        seconds: that the measures took.
    """

    kind = "evaluation"
    training_step: int
    measures: Mapping[str, float] = field(default_factory=dict)
    network: Mapping[str, Tensor] = _named("network.")
    seconds: float = 0.0


@record
@dataclass(frozen=True, repr=False, kw_only=True)
class TrainingFinished(Finished):
    """The plain network at the end, and the best one on the way.

    Args:
        training_step: training steps that were done.
        measures, best_measures: over the validation and test data, of the last and of the best network.
        network, best_network: their tensors by name; the best one's are left out where they are the same.
        seconds: that the measures took.
    """

    training_step: int
    measures: Mapping[str, float] = field(default_factory=dict)
    best_measures: Mapping[str, float] = _named("best_")
    network: Mapping[str, Tensor] = _named("network.")
    best_network: Mapping[str, Tensor] = _named("best.")
    seconds: float = 0.0


# Smooth problems -------------------------------------------------------------------------------------


@record
@dataclass(frozen=True, repr=False, kw_only=True)
class Solved(Report):
    """A lower level is solved: what that took, in gradients, products of second derivatives, and seconds."""

    gradients: int = 0
    products: int = 0
    work: int = 0
    seconds: float = 0.0


@record
@dataclass(frozen=True, repr=False, kw_only=True)
class Iterated(Solved):
    """Where iterations led.

    Args:
        moved: the unconstrained hyperparameters at the end; not finite where anything is not.
        hypergradient: the estimate of where they started, and both levels there.
        inner_rate: the last step of the parameters.
    """

    kind = "iterations"
    moved: Float[Tensor, "n"]
    hypergradient: Float[Tensor, "n"]
    training_loss: float
    validation_loss: float
    inner_rate: float


@record
@dataclass(frozen=True, repr=False, kw_only=True)
class Differentiated(Solved):
    """The implicit hypergradient.

    Args:
        hypergradient: its value.
        error: that the lower level was solved to.
        residual: of the linear system.
        bound: of the hypergradient's error; not a number where nobody asked for it.
        bound_by_residual: the share of the bound that the system's residual has.
        slope: norm of the upper level's gradient in the parameters.
        lower_bound: of the upper level, whose value at the solution is ``validation_loss``.
        certified: whether the bounds follow from proven constants.
        active_set_certified: whether the active set is known, of lower levels that are not smooth.
    """

    kind = "hypergradient"
    hypergradient: Float[Tensor, "n"]
    error: float
    residual: float
    bound: float
    bound_by_residual: float
    slope: float
    lower_bound: float
    validation_loss: float
    certified: bool
    active_set_certified: bool | None = None


@record
@dataclass(frozen=True, repr=False, kw_only=True)
class CandidateSolved(Solved):
    """A candidate of a line search.

    Args:
        accepted: whether its upper level is proven to be low enough.
        hopeless: whether it is proven to be too high.
        upper_bound: of the upper level, whose value at the solution is ``validation_loss``.
        error: that the lower level was solved to.
    """

    kind = "candidate"
    accepted: bool
    hopeless: bool
    upper_bound: float
    error: float
    validation_loss: float
    training_loss: float


@record
@dataclass(frozen=True, repr=False, kw_only=True)
class SolvingFinished(Solved, Finished):
    """The solution at the end: measures and parameters by name, and the unconstrained hyperparameters."""

    kind = "finish"
    measures: Mapping[str, float] = field(default_factory=dict)
    parameters: Mapping[str, Tensor] = _named("parameters.")
    unconstrained: Float[Tensor, "n"]

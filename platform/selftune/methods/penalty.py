"""The penalty method as a state machine: two networks per pair, trained with and without the validation loss."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch

from selftune.errors import SettingError
from selftune.hyperparameters import Space
from selftune.methods.budget import Budget
from selftune.methods.cycles import Cycle, CycleMethod
from selftune.methods.measures import average
from selftune.methods.method import HyperStep
from selftune.methods.penalty_settings import PenaltySettings
from selftune.methods.reports import PenaltyGradient, Report, Trained
from selftune.methods.tunable import not_differentiable
from selftune.methods.work_orders import TrainPenalized
from selftune.shapes import Float, Tensor


class Penalty(CycleMethod):
    """Hypergradients without second derivatives, from pairs of trainers (arXiv 2309.01753, 2301.10945).

    Of every pair the lower member, 2k, trains its network w on the regularized training loss h: it is the network
    that comes out. The penalized one, 2k + 1, trains y on ``h + sigma g``, g the validation loss. Where both have
    arrived, ``(grad_u h(y) - grad_u h(w)) / sigma`` is the gradient of the upper level up to O(sigma), u the
    unconstrained hyperparameters. Both members of a pair are to draw the same random numbers, so that these cancel
    in the difference: make trainers with ``group_size=2``.

    Several pairs are averaged. A pair that loses a member no longer counts: what is left of it is ended, and
    nobody waits for it, and its network is no result. ``stopped`` is ``budget``, or ``lost`` once no pair is left;
    ``message`` says so.

    Args:
        budget: when to stop.
        settings: see ``PenaltySettings``.
        team_size: number of trainers, even; nothing is asked before all have joined.

    Raises:
        SettingError: if the team is not made of pairs; by ``join``, if the start is not in the constraint.

    >>> from selftune.hyperparameters import Hyperparameter, Positive
    >>> method = Penalty(Budget(steps=10), PenaltySettings(warmup_steps=0))
    >>> space = Space([Hyperparameter("weight_decay.strength", Positive(), 1e-3, tuned=True)])
    >>> for member in range(2):
    ...     method.join(member, space)
    >>> [order.penalized for order in method.ask().values()]
    [False, True]
    """

    group_size = 2
    SAVED = (*CycleMethod.SAVED, "_broken")

    def __init__(self, budget: Budget, settings: PenaltySettings | None = None, team_size: int = 2) -> None:
        self.settings = settings or PenaltySettings()
        super().__init__(budget, self.settings, team_size)
        self._broken: list[int] = []  # pairs that lost a member

    def mistakes(self, space: Space) -> Iterator[SettingError]:
        yield from super().mistakes(space)
        yield from not_differentiable(space, "penalty")
        try:
            self.settings.check_start(space.start_as(self.PRECISION))
        except SettingError as error:
            yield SettingError(f"method.{error.key}", error.message)

    # Pairs -------------------------------------------------------------------------------------------

    def join(self, member: int, space: Space) -> None:
        super().join(member, space)
        if member in self._members and member // 2 in self._broken:
            self._dismiss(member)

    def leave(self, member: int) -> HyperStep | None:
        pair = member // 2
        if member in self._dismissed:
            return super().leave(member)
        if pair in self._broken:
            return None
        if self.stopped is not None:  # its partner has come to its end all the same
            return super().leave(member)
        self._broken.append(pair)
        partner = member ^ 1
        if partner in self._members:
            self._dismiss(partner)
        self.team_size -= 1  # the partner; super counts the member
        step = super().leave(member)
        if len(self._broken) == self._groups:
            self.stopped = self.stopped or "lost"
            self.message = self.message or "every pair has lost a trainer"
        return step

    # Ask and tell ------------------------------------------------------------------------------------

    def _train(self, member: int, cycle: Cycle) -> TrainPenalized:
        settings = self.settings
        return TrainPenalized(
            **cycle,
            estimator="penalty",
            settings={key: getattr(settings, key) for key in ("proximal", "relaxation", "batches", "momentum")},
            sigma=settings.sigma_of(self._hyper_step),
            penalized=member % 2 == 1,
            draws=member // 2,
        )

    def results(self, reports: Mapping[int, Report]) -> dict[int, Report]:
        finished = super().results(reports)
        return {m: report for m, report in finished.items() if m % 2 == 0 and m // 2 not in self._broken}

    def _counted(self, reports: dict[int, Trained]) -> list[Trained]:
        return [report for member, report in reports.items() if member % 2 == 0]

    def _votes(self, reports: dict[int, Trained]) -> dict[int, list[Float[Tensor, "batches n"]]]:
        found = {member: report.hypergradient for member, report in reports.items()}
        rows = {member: one.per_batch for member, one in found.items() if isinstance(one, PenaltyGradient)}
        sigma = self.settings.sigma_of(self._hyper_step)
        return {m // 2: [(rows[m + 1] - rows[m]) / sigma] for m in rows if m % 2 == 0}

    def _move(self, reports: dict[int, Trained], together: list[Tensor]) -> HyperStep:
        (hypergradient,) = together
        lower, penalized = self._counted(reports), [reports[m] for m in reports if m % 2 == 1]
        in_lower = [r.hypergradient for r in lower if isinstance(r.hypergradient, PenaltyGradient)]
        certificate = {
            "sigma": self.settings.sigma_of(self._hyper_step),
            "penalized_validation_loss": average(r.measures["validation_loss"] for r in penalized),
            "lower_gradient_norm": average(
                float(one.gradient_norm) for one in in_lower if one.gradient_norm is not None
            ),
            "certified": 0.0,
        }
        if self.settings.batches > 1:
            per_batch = torch.cat([rows for (rows,) in self._votes(reports).values()])
            error = per_batch.std(dim=0) / math.sqrt(len(per_batch))
            certificate["hypergradient_noise"] = float(error.norm())
        step = self._row(lower, hypergradient, certificate=certificate)
        self._update([hypergradient])
        if self._gate is None:
            self._u.copy_(self.settings.project(self._u))
        else:
            self._gate.project(self.settings.project)
        return step

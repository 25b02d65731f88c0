"""One search of the line search for networks: which steps are tried, and which of them passes the test."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from selftune.methods.network_line_search_settings import NetworkLineSearchSettings
from selftune.methods.paired_test import level_of_test, upper_bound_of_mean
from selftune.methods.reports import ArmTrained, CandidateDiverged, ProximalHypergradient
from selftune.shapes import Float, Tensor
from selftune.storage.state_tree import record

_FIRST_MOVE = 0.5  # of the hyperparameters in the mean square, where no first step is set
_FARTHEST_MOVE = 2.0  # of any hyperparameter in one step: beyond it a linear model of the loss says nothing


@record
@dataclass
class Candidate:
    """Hyperparameters to try, the decrease that the hypergradient expects of them, and their step size."""

    u: Float[Tensor, "n"]
    expected: float
    step: float


@record
@dataclass
class Search:
    """Candidates in the order in which they are tested, and the arm that they are compared with.

    Args:
        stay: report of the arm that kept the hyperparameters.
        hypergradient: at its end.
        step: first step size.
        at_floor: whether the smallest move decided the first step.
    """

    stay: ArmTrained
    hypergradient: Float[Tensor, "n"]
    candidates: list[Candidate]
    step: float
    at_floor: bool
    reports: dict[int, ArmTrained | CandidateDiverged] = field(default_factory=dict)
    tested: int = 0
    level: float = math.nan
    bound: float = math.nan

    @classmethod
    def along(
        cls,
        z: Float[Tensor, "n"],
        u: Float[Tensor, "n"],
        step: float | None,
        stay: ArmTrained,
        settings: NetworkLineSearchSettings,
    ) -> Search:
        """Steps from u against the hypergradient z; none where it vanishes or points out of the bounds."""
        largest = float(z.abs().max())
        if largest == 0:
            return cls(stay, z, [], step or 0.0, at_floor=False)
        unit = math.sqrt(len(z)) / float(z.norm())  # moves hyperparameters by 1 in the mean square
        wanted, floor = step or _FIRST_MOVE * unit, settings.smallest_move * unit
        first = min(max(wanted, floor), _FARTHEST_MOVE / largest)
        candidates = []
        for backtrack in range(settings.backtracks):
            beta = first * settings.step_shrink**backtrack
            moved = (u - beta * z).clamp(-settings.bound, settings.bound)
            candidates.append(Candidate(moved, float((u - moved) @ z), beta))
        return cls(stay, z, [c for c in candidates if c.expected > 0], first, at_floor=wanted <= floor)

    @property
    def proximal(self) -> ProximalHypergradient:
        """The hypergradient with what was met on the way to it."""
        assert isinstance(self.stay.hypergradient, ProximalHypergradient)
        return self.stay.hypergradient

    def decide(self, tests: int, settings: NetworkLineSearchSettings) -> tuple[int, bool, int | None]:
        """Tests candidates in their order as far as reports are there, as a sequential search does.

        Args:
            tests: tests that the run has made before; each one makes the next ones stricter.

        Returns:
            Tests made until now, whether the search is over, and the candidate that passed, if one did.
        """
        while self.tested in self.reports:
            report, candidate = self.reports[self.tested], self.candidates[self.tested]
            self.tested += 1
            if isinstance(report, CandidateDiverged):
                self.bound = math.inf
                continue
            tests += 1
            self.level = level_of_test(settings.alpha, tests)
            differences = report.losses.double() - self.stay.losses.double()
            self.bound = upper_bound_of_mean(differences, self.level)
            if self.bound <= -settings.decrease * candidate.expected:
                return tests, True, self.tested - 1
        return tests, self.tested == len(self.candidates), None

    def next_step(self, accepted: int | None, settings: NetworkLineSearchSettings) -> float:
        """The step size that the next search starts from."""
        if accepted is not None:
            return settings.step_growth * self.candidates[accepted].step
        return settings.step_shrink * self.step if self.candidates else self.step

    def certificate(self, accepted: int | None) -> dict[str, float]:
        """What the search tells about an outer step; the bound is that of the candidate tested last."""
        return {
            "candidates": float(self.tested),
            "decrease_bound": self.bound,
            "alpha_k": self.level,
            "hypergradient_norm": float(self.hypergradient.norm()),
            "step": self.step if accepted is None else self.candidates[accepted].step,
            "at_floor": float(self.at_floor),
            "ritz_min": self.proximal.ritz_min,
            "gamma": self.proximal.gamma,
            "residual": self.proximal.residual,
        }

"""Levels by the name that orders give."""

from __future__ import annotations

from selftune.training.implicit_level import ImplicitLevel
from selftune.training.level import Level
from selftune.training.penalty_level import PenaltyLevel
from selftune.training.response_level import ResponseLevel

LEVELS: dict[str, type[Level]] = {"response": ResponseLevel, "implicit": ImplicitLevel, "penalty": PenaltyLevel}

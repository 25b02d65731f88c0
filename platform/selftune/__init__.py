"""selftune tunes regularization while the network trains.

The names below are loaded when first used, so that ``import selftune`` costs nothing; Ray, MLflow and Optuna
are loaded only by what needs them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selftune.data.loading import Loading as Loading
    from selftune.errors import SettingError as SettingError
    from selftune.hyperparameters import Choice as Choice
    from selftune.hyperparameters import Integer as Integer
    from selftune.hyperparameters import Interval as Interval
    from selftune.hyperparameters import Positive as Positive
    from selftune.hyperparameters import Tune as Tune
    from selftune.hyperparameters import Unit as Unit
    from selftune.lower_level.binary_classification import BinaryClassification as BinaryClassification
    from selftune.lower_level.classification import Classification as Classification
    from selftune.lower_level.function_objective import FunctionObjective as FunctionObjective
    from selftune.lower_level.language_modelling import LanguageModelling as LanguageModelling
    from selftune.lower_level.losses import Losses as Losses
    from selftune.lower_level.multi_label_classification import (
        MultiLabelClassification as MultiLabelClassification,
    )
    from selftune.lower_level.objective import Stage as Stage
    from selftune.lower_level.objective import tasks as tasks
    from selftune.lower_level.optimization import Optimization as Optimization
    from selftune.lower_level.proximal_terms import ActiveSet as ActiveSet
    from selftune.lower_level.proximal_terms import Box as Box
    from selftune.lower_level.proximal_terms import GroupNorm as GroupNorm
    from selftune.lower_level.proximal_terms import L1Norm as L1Norm
    from selftune.lower_level.proximal_terms import Simplex as Simplex
    from selftune.lower_level.regression import Regression as Regression
    from selftune.lower_level.self_supervised import SelfSupervised as SelfSupervised
    from selftune.lower_level.smooth_objective import SmoothObjective as SmoothObjective
    from selftune.lower_level.smooth_problem import SmoothProblem as SmoothProblem
    from selftune.methods import Budget as Budget
    from selftune.methods import ImplicitSettings as ImplicitSettings
    from selftune.methods import InexactLineSearchSettings as InexactLineSearchSettings
    from selftune.methods import NetworkLineSearchSettings as NetworkLineSearchSettings
    from selftune.methods import OnlineImplicitSettings as OnlineImplicitSettings
    from selftune.methods import PenaltySettings as PenaltySettings
    from selftune.methods import Response as Response
    from selftune.methods import SelfTuning as SelfTuning
    from selftune.methods import SelfTuningSettings as SelfTuningSettings
    from selftune.registries.diagnostics import Measurement as Measurement
    from selftune.registries.diagnostics import diagnostics as diagnostics
    from selftune.regularization.quantity import Quantity as Quantity
    from selftune.regularization.regularizer import regularizers as regularizers
    from selftune.regularization.step_quantities import quantities as quantities
    from selftune.schedule import Schedule as Schedule
    from selftune.schedulers import ImplicitScheduler as ImplicitScheduler
    from selftune.schedulers import InexactLineSearchScheduler as InexactLineSearchScheduler
    from selftune.schedulers import NetworkLineSearchScheduler as NetworkLineSearchScheduler
    from selftune.schedulers import PenaltyScheduler as PenaltyScheduler
    from selftune.schedulers import SelfTuningScheduler as SelfTuningScheduler
    from selftune.studies.replay_schedule import replay as replay
    from selftune.studies.result import Result as Result
    from selftune.studies.smooth_result import SmoothResult as SmoothResult
    from selftune.studies.tune import tune as tune

_HOMES = {
    "Loading": "selftune.data.loading",
    "SettingError": "selftune.errors",
    "FunctionObjective": "selftune.lower_level.function_objective",
    "Losses": "selftune.lower_level.losses",
    "OnlineTuner": "selftune.training.online_tuner",
    "Choice": "selftune.hyperparameters",
    "Integer": "selftune.hyperparameters",
    "Interval": "selftune.hyperparameters",
    "Positive": "selftune.hyperparameters",
    "Tune": "selftune.hyperparameters",
    "Unit": "selftune.hyperparameters",
    "Budget": "selftune.methods",
    "Response": "selftune.methods",
    "SelfTuning": "selftune.methods",
    "SelfTuningSettings": "selftune.methods",
    "Classification": "selftune.lower_level.classification",
    "BinaryClassification": "selftune.lower_level.binary_classification",
    "MultiLabelClassification": "selftune.lower_level.multi_label_classification",
    "Regression": "selftune.lower_level.regression",
    "LanguageModelling": "selftune.lower_level.language_modelling",
    "Optimization": "selftune.lower_level.optimization",
    "tasks": "selftune.lower_level.objective",
    "Quantity": "selftune.regularization.quantity",
    "quantities": "selftune.regularization.step_quantities",
    "regularizers": "selftune.regularization.regularizer",
    "Schedule": "selftune.schedule",
    "SelfTuningScheduler": "selftune.schedulers",
    "Measurement": "selftune.registries.diagnostics",
    "diagnostics": "selftune.registries.diagnostics",
    "InexactLineSearchSettings": "selftune.methods",
    "ImplicitSettings": "selftune.methods",
    "NetworkLineSearchSettings": "selftune.methods",
    "OnlineImplicitSettings": "selftune.methods",
    "PenaltySettings": "selftune.methods",
    "Stage": "selftune.lower_level.objective",
    "ImplicitScheduler": "selftune.schedulers",
    "InexactLineSearchScheduler": "selftune.schedulers",
    "NetworkLineSearchScheduler": "selftune.schedulers",
    "PenaltyScheduler": "selftune.schedulers",
    "ActiveSet": "selftune.lower_level.proximal_terms",
    "Box": "selftune.lower_level.proximal_terms",
    "GroupNorm": "selftune.lower_level.proximal_terms",
    "L1Norm": "selftune.lower_level.proximal_terms",
    "Simplex": "selftune.lower_level.proximal_terms",
    "SelfSupervised": "selftune.lower_level.self_supervised",
    "SmoothObjective": "selftune.lower_level.smooth_objective",
    "SmoothProblem": "selftune.lower_level.smooth_problem",
    "replay": "selftune.studies.replay_schedule",
    "Result": "selftune.studies.result",
    "SmoothResult": "selftune.studies.smooth_result",
    "tune": "selftune.studies.tune",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name == "__version__":  # of the installed package; pyproject.toml is where it is written
        from importlib.metadata import version

        return version("selftune")
    if name not in _HOMES:
        raise AttributeError(f"module 'selftune' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), "__version__", *_HOMES])

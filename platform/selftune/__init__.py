"""selftune tunes regularization while the network trains.

The names below are loaded when first used, so that ``import selftune`` costs nothing; Ray, MLflow and Optuna
are loaded only by what needs them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selftune.binary_classification import BinaryClassification as BinaryClassification
    from selftune.classification import Classification as Classification
    from selftune.data.loading import Loading as Loading
    from selftune.diagnostics import Measurement as Measurement
    from selftune.diagnostics import diagnostics as diagnostics
    from selftune.errors import SettingError as SettingError
    from selftune.function_objective import FunctionObjective as FunctionObjective
    from selftune.hyperparameters import Choice as Choice
    from selftune.hyperparameters import Integer as Integer
    from selftune.hyperparameters import Interval as Interval
    from selftune.hyperparameters import Positive as Positive
    from selftune.hyperparameters import Tune as Tune
    from selftune.hyperparameters import Unit as Unit
    from selftune.language_modelling import LanguageModelling as LanguageModelling
    from selftune.losses import Losses as Losses
    from selftune.methods import Budget as Budget
    from selftune.methods import ImplicitSettings as ImplicitSettings
    from selftune.methods import InexactLineSearchSettings as InexactLineSearchSettings
    from selftune.methods import NetworkLineSearchSettings as NetworkLineSearchSettings
    from selftune.methods import OnlineImplicitSettings as OnlineImplicitSettings
    from selftune.methods import PenaltySettings as PenaltySettings
    from selftune.methods import Response as Response
    from selftune.methods import SelfTuning as SelfTuning
    from selftune.methods import SelfTuningSettings as SelfTuningSettings
    from selftune.multi_label_classification import MultiLabelClassification as MultiLabelClassification
    from selftune.objective import Stage as Stage
    from selftune.objective import tasks as tasks
    from selftune.optimization import Optimization as Optimization
    from selftune.provided import quantities as quantities
    from selftune.proximal_terms import ActiveSet as ActiveSet
    from selftune.proximal_terms import Box as Box
    from selftune.proximal_terms import GroupNorm as GroupNorm
    from selftune.proximal_terms import L1Norm as L1Norm
    from selftune.proximal_terms import Simplex as Simplex
    from selftune.quantity import Quantity as Quantity
    from selftune.regression import Regression as Regression
    from selftune.regularizer import regularizers as regularizers
    from selftune.schedule import Schedule as Schedule
    from selftune.schedulers import ImplicitScheduler as ImplicitScheduler
    from selftune.schedulers import InexactLineSearchScheduler as InexactLineSearchScheduler
    from selftune.schedulers import NetworkLineSearchScheduler as NetworkLineSearchScheduler
    from selftune.schedulers import PenaltyScheduler as PenaltyScheduler
    from selftune.schedulers import SelfTuningScheduler as SelfTuningScheduler
    from selftune.self_supervised import SelfSupervised as SelfSupervised
    from selftune.smooth_objective import SmoothObjective as SmoothObjective
    from selftune.smooth_problem import SmoothProblem as SmoothProblem
    from selftune.studies.replay_schedule import replay as replay
    from selftune.studies.result import Result as Result
    from selftune.studies.tune import tune as tune
    from selftune.studies.tune_smooth import SmoothResult as SmoothResult

_HOMES = {
    "Loading": "selftune.data.loading",
    "SettingError": "selftune.errors",
    "FunctionObjective": "selftune.function_objective",
    "Losses": "selftune.losses",
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
    "Classification": "selftune.classification",
    "BinaryClassification": "selftune.binary_classification",
    "MultiLabelClassification": "selftune.multi_label_classification",
    "Regression": "selftune.regression",
    "LanguageModelling": "selftune.language_modelling",
    "Optimization": "selftune.optimization",
    "tasks": "selftune.objective",
    "Quantity": "selftune.quantity",
    "quantities": "selftune.provided",
    "regularizers": "selftune.regularizer",
    "Schedule": "selftune.schedule",
    "SelfTuningScheduler": "selftune.schedulers",
    "Measurement": "selftune.diagnostics",
    "diagnostics": "selftune.diagnostics",
    "InexactLineSearchSettings": "selftune.methods",
    "ImplicitSettings": "selftune.methods",
    "NetworkLineSearchSettings": "selftune.methods",
    "OnlineImplicitSettings": "selftune.methods",
    "PenaltySettings": "selftune.methods",
    "Stage": "selftune.objective",
    "ImplicitScheduler": "selftune.schedulers",
    "InexactLineSearchScheduler": "selftune.schedulers",
    "NetworkLineSearchScheduler": "selftune.schedulers",
    "PenaltyScheduler": "selftune.schedulers",
    "ActiveSet": "selftune.proximal_terms",
    "Box": "selftune.proximal_terms",
    "GroupNorm": "selftune.proximal_terms",
    "L1Norm": "selftune.proximal_terms",
    "Simplex": "selftune.proximal_terms",
    "SelfSupervised": "selftune.self_supervised",
    "SmoothObjective": "selftune.smooth_objective",
    "SmoothProblem": "selftune.smooth_problem",
    "replay": "selftune.studies.replay_schedule",
    "Result": "selftune.studies.result",
    "SmoothResult": "selftune.studies.tune_smooth",
    "tune": "selftune.studies.tune",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'selftune' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])

"""Bilevel methods as ask/tell state machines."""

from selftune.methods.aggregation import Aggregation
from selftune.methods.best_step import BestStep
from selftune.methods.budget import Budget
from selftune.methods.held import Held, HeldSettings
from selftune.methods.implicit import Implicit, ImplicitSettings
from selftune.methods.inexact_line_search import InexactLineSearch
from selftune.methods.inexact_line_search_settings import InexactLineSearchSettings
from selftune.methods.method import Fault, HyperStep, Method
from selftune.methods.network_line_search import NetworkLineSearch
from selftune.methods.network_line_search_settings import NetworkLineSearchSettings
from selftune.methods.online_implicit import OnlineImplicit, OnlineImplicitSettings
from selftune.methods.penalty import Penalty
from selftune.methods.penalty_settings import PenaltySettings
from selftune.methods.projections import Ball, Box, Projection, Simplex
from selftune.methods.replay import Replay, Segment
from selftune.methods.reports import Report
from selftune.methods.self_tuning import SelfTuning
from selftune.methods.self_tuning_settings import Response, SelfTuningSettings
from selftune.methods.stochastic_bilevel import StochasticBilevel, StochasticBilevelSettings
from selftune.methods.synchronization import Synchronization
from selftune.methods.values import Values
from selftune.methods.work_orders import WorkOrder

__all__ = [
    "Aggregation",
    "Ball",
    "BestStep",
    "Box",
    "Budget",
    "Fault",
    "Held",
    "HeldSettings",
    "HyperStep",
    "Implicit",
    "ImplicitSettings",
    "InexactLineSearch",
    "InexactLineSearchSettings",
    "Method",
    "NetworkLineSearch",
    "NetworkLineSearchSettings",
    "OnlineImplicit",
    "OnlineImplicitSettings",
    "Penalty",
    "PenaltySettings",
    "Projection",
    "Replay",
    "Report",
    "Response",
    "Segment",
    "SelfTuning",
    "SelfTuningSettings",
    "Simplex",
    "StochasticBilevel",
    "StochasticBilevelSettings",
    "Synchronization",
    "Values",
    "WorkOrder",
]

"""Ray Tune: bilevel methods as schedulers, and the trainable that they drive."""

from selftune.schedulers.callback import StateCallback
from selftune.schedulers.errors import SchedulerError
from selftune.schedulers.implicit import ImplicitScheduler
from selftune.schedulers.inexact_line_search import InexactLineSearchScheduler, NetworkLineSearchScheduler
from selftune.schedulers.loop import loop_trainable
from selftune.schedulers.method import MethodScheduler
from selftune.schedulers.penalty import PenaltyScheduler
from selftune.schedulers.run import run_on_ray
from selftune.schedulers.scheduler import BilevelScheduler
from selftune.schedulers.self_tuning import SelfTuningScheduler
from selftune.schedulers.trainable import OrderTrainable, trainable

__all__ = [
    "BilevelScheduler",
    "ImplicitScheduler",
    "InexactLineSearchScheduler",
    "MethodScheduler",
    "NetworkLineSearchScheduler",
    "OrderTrainable",
    "PenaltyScheduler",
    "SchedulerError",
    "SelfTuningScheduler",
    "StateCallback",
    "loop_trainable",
    "run_on_ray",
    "trainable",
]

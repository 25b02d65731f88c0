"""The worker side: trainers execute work orders; the in-process runner moves them."""

from selftune.training.runner import run_in_process
from selftune.training.simulator import simulate
from selftune.training.smooth_trainer import SmoothTrainer, SmoothTrainerFactory
from selftune.training.team_run import NoTrainerLeft
from selftune.training.trainer import Trainer, TrainerFactory

__all__ = [
    "NoTrainerLeft",
    "SmoothTrainer",
    "SmoothTrainerFactory",
    "Trainer",
    "TrainerFactory",
    "run_in_process",
    "simulate",
]

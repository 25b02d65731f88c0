"""The worker side: trainers execute work orders; the in-process runner moves them."""

from selftune.training.runner import NoTrainerLeft, run_in_process
from selftune.training.smooth_trainer import SmoothTrainer
from selftune.training.trainer import Trainer, TrainerFactory

__all__ = ["NoTrainerLeft", "SmoothTrainer", "Trainer", "TrainerFactory", "run_in_process"]

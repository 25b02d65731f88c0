"""A small study whose trainers have two workers."""

import torch

from selftune.listener import Listener
from selftune.studies.study_file import parse_study
from selftune.training import run_in_process

STUDY = parse_study(
    """
study: digits
objective: {task: digits, hidden: [16], train_examples: 100, validation_examples: 60, batch_size: 20}
regularizers:
  dropout: {rate: {start: 0.1}}
  weight_decay: {parts: layer, strength: {start: 1.0e-3}}
  mixup: {alpha: 0.2}
method: {name: self_tuning, warmup_steps: 6, train_steps: 3, checkpoint_every: 2}
trainers: {number: 1, workers: 2}
budget: {steps: 30}
metric: validation_loss
"""
)


class Kept(Listener):
    """The hyper-steps of a run."""

    def __init__(self):
        self.steps, self.departures = [], []

    def departed(self, member, reason):
        self.departures.append((member, reason))

    def hyper_step(self, step):
        self.steps.append(step)

    @property
    def values(self):
        return torch.stack([step.hyperparameters for step in self.steps])


def alone():
    """What one process makes of the study."""
    kept, machine = Kept(), STUDY.strategy.method()
    reports = machine.results(run_in_process(machine, {0: STUDY.strategy.trainers()(0)}, kept))
    return kept, reports[0]

"""A trial that learns along a curve which its values give, and who hears of trials."""

import json
import os
import signal
from pathlib import Path

from ray import tune

from selftune.search.trial_record import TrialsListener


class Curve(tune.Trainable):
    """Its loss falls from 1 towards ``floor``; every report is ten steps."""

    def setup(self, config, steps=100, every=10, floor=lambda values: values["x"], kill=None, fails=None):
        self.length, self.every, self.floor, self.kill, self.fails = steps, every, floor, kill, fails
        self.begin(config)

    def begin(self, config):
        self.values = config["values"]
        self.training_step, self.loss, self.donors = 0, 1.0, []

    def step(self):
        if self.fails is not None and self.values["x"] > self.fails and self.training_step >= 20:
            raise ArithmeticError("the toy broke")
        floor = self.floor(self.values)
        self.loss = floor + (self.loss - floor) * 0.8
        self.training_step += self.every
        result = {"training_step": self.training_step, "validation_loss": self.loss, "learned": self.loss}
        result["done"] = self.training_step >= self.length
        return result

    def reset_config(self, config):
        self.begin(config)
        return True

    def save_checkpoint(self, folder):
        state = {"step": self.training_step, "loss": self.loss}
        Path(folder, "state.json").write_text(json.dumps(state))

    def load_checkpoint(self, folder):
        state = json.loads(Path(folder, "state.json").read_text())
        self.training_step, self.loss = state["step"], state["loss"]


class Heard(TrialsListener):
    """Keeps what it hears; kills its own process after so many reports, if told to."""

    def __init__(self, dies_after=None):
        self.trials, self.states, self.ends = [], [], 0
        self.dies_after = dies_after

    def resumed(self, trials):
        self.states.append(dict(trials))

    def heard(self, trial):
        self.trials.append(trial)
        if self.dies_after is not None and len(self.trials) >= self.dies_after:
            os.kill(os.getpid(), signal.SIGKILL)

    def ended(self):
        self.ends += 1

    @property
    def last(self):
        return {trial.number: trial for trial in self.trials}

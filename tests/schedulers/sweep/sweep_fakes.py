"""A trial that learns along a curve which its values give, who hears of trials, and searches over them."""

import json
import os
import signal
import threading
from pathlib import Path

from ray import tune

from selftune.hyperparameters.distribution import Uniform
from selftune.schedulers import ray_internals
from selftune.schedulers.sweep.run import run_trials_on_ray
from selftune.search import SearchSettings, SearchSpace, Swept
from selftune.search.searchers import TPESearch
from selftune.search.trial_record import TrialsListener
from selftune.search.trial_schedulers import (
    AshaSettings,
    HyperbandSettings,
    MedianSettings,
    Pb2Settings,
    PbtSettings,
)
from selftune.training.runner import never

SPACE = SearchSpace((Swept("x", Uniform(0, 1)),))
SETTINGS = {
    "pbt": {"trials": 4, "scheduler": PbtSettings(20)},
    "asha": {"trials": 6, "scheduler": AshaSettings(20, reduction_factor=2), "searcher": TPESearch(2)},
    "hyperband": {"trials": 8, "scheduler": HyperbandSettings()},
    "median": {"trials": 6, "scheduler": MedianSettings(trials=2)},
    "pb2": {"trials": 4, "scheduler": Pb2Settings(20)},
}


class Curve(tune.Trainable):
    """Its loss falls from 1 towards the value of x; every report is ten steps.

    It raises beyond step 20 where x is above ``fails``, or hangs there once: then there is the file ``blocks``.
    """

    def setup(self, config, steps=100, every=10, fails=None, blocks=None):
        self.length, self.every, self.fails, self.blocks = steps, every, fails, blocks
        self.begin(config)

    def begin(self, config):
        self.values, self.start = config["values"], config.get("start")
        self.training_step, self.loss = 0, 1.0

    def step(self):
        if self.start is not None:
            self.load_checkpoint(self.start["folder"])
        if self.fails is not None and self.values["x"] > self.fails and self.training_step >= 20:
            raise ArithmeticError("the toy broke")
        if self.blocks is not None and self.training_step >= 20 and not self.blocks.exists():
            self.blocks.touch()
            threading.Event().wait()
        floor = self.values["x"]
        self.loss = floor + (self.loss - floor) * 0.8
        self.training_step += self.every
        result = {"training_step": self.training_step, "validation_loss": self.loss}
        result["done"] = self.training_step >= self.length
        return result

    def reset_config(self, config):
        self.begin(config)
        return True

    def save_checkpoint(self, folder):
        state = {"step": self.training_step, "loss": self.loss, "trial": str(ray_internals.folder_of(self))}
        Path(folder, "state.json").write_text(json.dumps(state))

    def load_checkpoint(self, folder):
        self.start = None
        state = json.loads(Path(folder, "state.json").read_text())
        self.training_step, self.loss = state["step"], state["loss"]


class Heard(TrialsListener):
    """Keeps what it hears; kills its own process as soon as ``dies_when()`` says so."""

    def __init__(self, dies_when=lambda: False):
        self.trials, self.states, self.ends = [], [], 0
        self.hangs, self.departures = [], []
        self.dies_when = dies_when

    def resumed(self, trials):
        self.states.append(dict(trials))

    def heard(self, trial):
        self.trials.append(trial)
        if self.dies_when():
            os.kill(os.getpid(), signal.SIGKILL)

    def hung(self, number, reason):
        self.hangs.append((number, reason))

    def departed(self, number, reason):
        self.departures.append((number, reason))

    def ended(self):
        self.ends += 1

    @property
    def last(self):
        return {trial.number: trial for trial in self.trials}


def search(
    folder,
    cluster,
    curve=None,
    members=1,
    check=lambda values: None,
    heard=None,
    say=lambda sentence: None,
    resume=False,
    stop=never,
    hang_after=None,
    **settings,
):
    """Runs a search whose trials take a hundred steps and report every ten; returns who heard of it."""
    heard = heard or Heard()
    run_trials_on_ray(
        tune.with_parameters(Curve, **(curve or {})),
        check=check,
        space=SPACE,
        settings=SearchSettings(metric="validation_loss", mode="min", report_every=10, **settings),
        members=members,
        cpus=1,
        gpus=0,
        trial_steps=100,
        folder=Path(folder),
        listener=heard,
        resume=resume,
        address=cluster,
        say=say,
        stop=stop,
        hang_after=hang_after,
    )
    return heard

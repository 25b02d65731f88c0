"""Sweeps on Ray Tune: a trial is a whole team, so that Tune's own searchers and schedulers act on teams."""

from selftune.schedulers.sweep.run import run_trials_on_ray
from selftune.schedulers.sweep.trial import TrialPlan, best_network, sweep_trial

__all__ = ["TrialPlan", "best_network", "run_trials_on_ray", "sweep_trial"]

"""Sweeps on Ray Tune: a trial is a whole team, so that Tune's own searchers and schedulers act on teams."""

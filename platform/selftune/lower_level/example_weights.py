"""One weight per training example: how much each of them counts in the training loss."""

from __future__ import annotations

from selftune.hyperparameters import Hyperparameter, Unit

EXAMPLE_WEIGHTS = Hyperparameter("example_weights", Unit(), 0.5, per_example=True)
"""Factors of the losses of training examples, tuned by the validation loss: wrong labels lose theirs.

Source: hyper-cleaning in "Forward and Reverse Gradient-Based Hyperparameter Optimization" (arXiv 1703.01785).
"""

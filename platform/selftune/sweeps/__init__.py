"""Sweeps: a study whose section ``sweep`` says which of its keys are searched over, and how."""

"""Registries: regularizers, tasks, diagnostics, solvers and methods by name."""

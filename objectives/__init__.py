"""The catalogue: tasks, regularizers, diagnostics and solvers."""

"""Lower-level and inner solvers of the catalogue."""

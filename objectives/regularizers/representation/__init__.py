"""Self-supervision, metric learning, and the rank of representations."""

"""Training steps for tests."""


def begun(trainer, number=0, perturbed=False):
    """A training step of a trainer that has begun, with the hyperparameters at their start."""
    lower = trainer.lower
    values = trainer.space.values(trainer.space.start)
    return lower.begin(number, lower.batches.at(number), values, "elementary", perturbed=perturbed)

"""Work orders for trainers, as tests give them."""

from selftune.methods.values import Values
from selftune.methods.work_orders import TrainWithResponse


def start_of(space, shift=0.0, version=0):
    """The values at the start, moved by a shift in the unconstrained space."""
    unconstrained = space.start + shift
    return Values(unconstrained, space.constrain(unconstrained), version)


def with_response(
    trainer, response, steps=4, shift=0.0, scale=0.3, version=0, hypergradient=True, tune_scale=True
):
    """A cycle of ``self_tuning``; ``response`` holds the settings of the estimator."""
    values = start_of(trainer.space, shift, version)
    return TrainWithResponse(
        values=values,
        steps=steps,
        hypergradient=hypergradient,
        estimator="self_tuning",
        settings=response,
        scale=values.unconstrained.new_full(values.unconstrained.shape, scale),
        tune_scale=tune_scale,
    )

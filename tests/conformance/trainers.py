"""Trainers of every regularizer of the catalogue, and the orders that they are given."""

import functools

import torch
from conformance_objectives import OBJECTIVES, objective_for, objective_name, partners_of
from orders import start_of, with_response

from selftune.hyperparameters import Tune
from selftune.methods import OnlineImplicitSettings, Response
from selftune.methods.work_orders import FollowSchedule, Train
from selftune.regularization.regularizer import has_a_response, is_in_the_loss, regularizers
from selftune.training import Trainer

NAMES = regularizers.names()
STEPS = 8  # of a replay, where a test does not say otherwise

STARTS = {
    "max_norm": {"limit": 0.5},
    "delayed_dropout": {"start": 0.1},
    "weight_perturbation": {"radius": 0.1},
    "stochastic_restore": {"rate": 0.5},
    "magnitude_pruning": {"every": 1},
    "dynamic_sparse_training": {"every": 2},
    "inter_environment_gradient_alignment": {"strength": 1.0},
    "invariant_risk_minimization": {"strength": 1.0},
    "fishr": {"strength": 10.0, "anneal": 3},
    "hessian_gradient_alignment": {"alpha": 1.0},
    "top_singular_mass": {"top": 1},
    "architecture_entropy": {"schedule": False},
    "vicreg_variance": {"strength": 1.0, "target_std": 3.0},
    "field_of_experts": {"experts": 3, "size": 3},
    "self_distillation_targets": {"rounds": 20},
    "co_teaching": {"ramp": 0},
    "gradient_clipping": {"max_norm": 0.1},
    "ghost_batch_norm": {"ghost_size": 4},
    "cutout": {"size": 4},
    "entropic_transport_cost": {"iterations": 20},
    "sinkhorn_divergence": {"iterations": 20},
}
"""Values at which a regularizer acts within a few steps, where its default does not, or does so at less cost."""


def fixed(name, **changes):
    """The regularizer as a study without tuning has it, with what it needs of others."""
    values = STARTS.get(name, {}) | changes
    return [regularizers[name](**values), *(regularizers[partner]() for partner in partners_of(name))]


def tuned(name, only_smooth=False):
    """The regularizer with everything tuned that may be."""
    starts = {}
    for h in regularizers[name].hyperparameters:
        if h.online and h.domain.movable and (h.smooth or not only_smooth):
            value = STARTS.get(name, {}).get(h.name, h.value)
            starts[h.name] = Tune(value if h.domain.is_interior(value) else _inside(h.domain))
    return [regularizers[name](**(STARTS.get(name, {}) | starts)), *(regularizers[p]() for p in partners_of(name))]


def _inside(domain):
    return next(value for value in (0.5, 0.1, 1.5, 2.0) if domain.is_interior(value))


def _has_tuned(member):
    return any(isinstance(value, Tune) for value in member.settings.values())


ONLINE = [name for name in NAMES if _has_tuned(tuned(name)[0])]
"""Names of which something may change during training."""

RESPOND = [name for name in ONLINE if has_a_response(tuned(name)[0])]
"""Names of which self-tuning finds a response."""

_smooth = {name: tuned(name, only_smooth=True)[0] for name in NAMES}
SMOOTH = [name for name, member in _smooth.items() if _has_tuned(member) and is_in_the_loss(member)]
"""Names to which implicit differentiation applies."""


def trainer_of(name, members, dtype=torch.float32, **settings):
    return Trainer(objective_for(name, dtype), members, steps=40, **settings)


def replay(trainer, steps=STEPS):
    values = trainer.space.constrain(trainer.space.start)
    return trainer.execute(FollowSchedule(segments=((steps, values),)))


def cycle(trainer, steps=4, hyper_step=0):
    return with_response(trainer, vars(Response(learning_rate=0.01)), steps, version=hyper_step)


def implicit_cycle(trainer, steps=4):
    settings = OnlineImplicitSettings(system="neumann", system_steps=3)
    system = {key: getattr(settings, key) for key in ("system", "system_steps", "system_rate", "damping", "warm")}
    return Train(
        values=start_of(trainer.space), steps=steps, hypergradient=True, estimator="implicit", settings=system
    )


def weights(trainer):
    """The tensors of the plain network, as it would be exported."""
    return torch.cat([p.detach().flatten().double() for p in trainer.plain_network().state_dict().values()])


def go_on(trainer, steps):
    """More training: tuned where something of it is online."""
    return trainer.execute(cycle(trainer, steps)) if len(trainer.space) else replay(trainer, steps)


@functools.cache
def _weights_of(objective, partners, dtype):
    members = [regularizers[partner]() for partner in partners]
    trainer = Trainer(OBJECTIVES[objective](dtype), members, steps=40)
    replay(trainer)
    return weights(trainer)


def weights_without(name, dtype=torch.float32):
    """The weights after the same steps without the regularizer, its partners there."""
    return _weights_of(objective_name(name), tuple(partners_of(name)), dtype)

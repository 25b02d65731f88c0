"""Small tuned runs of every online method, on any device."""

import torch
from torch import nn

from selftune import OnlineTuner, Tune
from selftune.lower_level.classification import Classification
from selftune.lower_level.optimization import Optimization
from selftune.methods import Budget, Response
from selftune.training import TrainerFactory
from selftune.training.method_record import methods
from selftune.training.team_run import TeamRun

SMOOTH = {
    "label_smoothing": {"epsilon": Tune(0.1)},
    "weight_decay": {"parts": "layer", "strength": Tune(1e-3)},
    "confidence_penalty": {"strength": Tune(0.1)},
}
"""What every method can tune."""

HOOKS = SMOOTH | {
    "dropout": {"rate": Tune(0.2)},
    "mixup": {"alpha": Tune(0.3)},
    "gaussian_input_noise": {"sigma": Tune(0.2)},
    "max_norm": {"limit": Tune(2.0)},
    "early_learning": {"strength": Tune(0.5)},
    "decoupled_weight_decay": {"strength": Tune(0.1)},
    "gradient_clipping": {"max_norm": 1.0},
    "mean_teacher": {},
}
"""Every kind of hook: on the batch, on layers, on targets, in the loss, around the optimizer's step."""

WARM_UP, CYCLE, STEPS = 4, 2, 12
_SHORT = {"warmup_steps": WARM_UP, "train_steps": CYCLE}
METHODS = {
    "self_tuning": _SHORT,
    "self_tuning, fixed scales": {**_SHORT, "tune_scale": False},
    "self_tuning, STN": {**_SHORT, "response": Response(centered=False, joint=True, linearize=False)},
    "self_tuning, factored gates": {**_SHORT, "response": Response(gates="factored")},
    "implicit, neumann": {**_SHORT, "system_steps": 2},
    "implicit, descent": {**_SHORT, "system": "descent", "system_steps": 2},
    "implicit, conjugate gradients": {**_SHORT, "system": "conjugate_gradient", "system_steps": 2},
    "penalty": _SHORT,
    "penalty, single loop": {"warmup_steps": WARM_UP, "momentum": 0.5, "train_steps": 1},
    "held": {"train_steps": CYCLE},
}
"""Online methods in their variants, with settings that take few steps."""

OF_LOOPS = [label for label in METHODS if not label.startswith("penalty") and "STN" not in label]
"""Those that a loop of one's own can use."""


def network():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 16),
        nn.LayerNorm(16),
        nn.ReLU(),
        nn.Linear(16, 3),
    )


def blobs(examples, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(examples) % 3
    return torch.randn(examples, 1, 4, 4, generator=generator) + labels[:, None, None, None], labels


SPLITS = [blobs(examples, seed) for seed, examples in enumerate((96, 48, 48))]


def objective(**optimization):
    settings = {"batch_size": 16, "learning_rate": 0.05, "average": 0.9, **optimization}
    return Classification(network, *SPLITS, Optimization(**settings))


def team_of(label, device, regularizers=None, **optimization):
    """A method with its trainers on a device, before its first order."""
    name = label.partition(",")[0]
    form = methods[name].network
    if regularizers is None:
        regularizers = HOOKS if name == "self_tuning" else SMOOTH
    factory = TrainerFactory(
        objective(**optimization), regularizers, device=device, steps=STEPS, group_size=form.group_size
    )
    members = range(form.group_size)
    method = form.make(Budget(steps=STEPS), form.settings(**METHODS[label]), len(members))
    return TeamRun(method, {member: factory(member) for member in members})


def warmed_up(label, device, **settings):
    """A team after two hyper-steps: from there on, one round is like the other."""
    team = team_of(label, device, **settings)
    team.join()
    while team.hyper_steps < 2:
        team.round()
    return team


def end_of(team):
    """The weights that the first trainer of a team sends when the run is over."""
    while not team.done:
        team.round()
    return {name: tensor for name, tensor in team.last[0].tensors.items() if name.startswith("network.")}


def batches(device, number=8, examples=16, seed=100):
    """Batches of a loop of one's own, on the device."""
    made = (blobs(examples, seed) for seed in range(seed, seed + number))
    return [(x.to(device), labels.to(device)) for x, labels in made]


def tuner_of(label, device, **settings):
    """A tuner in a loop of one's own, and the model and the optimizer that it is of."""
    torch.manual_seed(0)
    model = network().to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    tuner = OnlineTuner(
        model,
        optimizer,
        SMOOTH,
        loss=lambda outputs, batch: nn.functional.cross_entropy(outputs, batch[1], reduction="none"),
        validation=batches(device, 1, 32, seed=99),
        forward=lambda model, batch: model(batch[0]),
        method=label.partition(",")[0],
        **METHODS[label],
        **settings,
    )
    return tuner, model, optimizer

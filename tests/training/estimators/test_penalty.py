import copy
import math

import pytest
import torch
from full_matrix import first_of
from orders import start_of
from torch import nn

from selftune.errors import SettingError
from selftune.hyperparameters import Tune
from selftune.listener import Listener
from selftune.lower_level.classification import Classification
from selftune.lower_level.objective import Stage
from selftune.lower_level.optimization import Optimization
from selftune.methods import Box, Budget, Penalty, PenaltySettings
from selftune.methods.work_orders import FollowSchedule, TrainPenalized
from selftune.registries.reference import Reference
from selftune.regularization.regularizer import Regularizer, regularizers
from selftune.training import Trainer, TrainerFactory, run_in_process

VARIANTS = {
    "double_loop": {},
    "all_options": {"proximal": 2.0, "relaxation": 0.7, "batches": 3},
    "single_loop": {"momentum": 0.3},
}


@pytest.fixture
def smooth():
    """Everything smooth that can be tuned, beside fixed noise, a table, and a map of weights."""
    return [
        regularizers["weight_decay"](parts="layer", strength=Tune(1e-2)),
        regularizers["gaussian_input_noise"](sigma=Tune(0.1)),
        regularizers["label_smoothing"](epsilon=Tune(0.05)),
        regularizers["mixup"](alpha=Tune(0.3)),
        regularizers["early_learning"](strength=Tune(0.5)),
        regularizers["dropout"](rate=0.2),
        regularizers["max_norm"](limit=2.0),
    ]


def cycle(trainer, steps=4, sigma=0.3, penalized=False, shift=0.0, hypergradient=True, **settings):
    options = {"proximal": None, "relaxation": 1.0, "batches": 1, "momentum": None}
    return TrainPenalized(
        values=start_of(trainer.space, shift),
        steps=steps,
        hypergradient=hypergradient,
        estimator="penalty",
        settings=options | settings,
        sigma=sigma,
        penalized=penalized,
        draws=trainer.lower.streams.member,
    )


def replay(trainer, steps):
    return FollowSchedule(segments=((steps, trainer.space.constrain(trainer.space.start)),))


def weights(trainer):
    return copy.deepcopy(trainer.lower.network.state_dict())


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


def distance(a, b):
    return float(torch.stack([(a[name] - b[name]).square().sum() for name in a]).sum().sqrt())


# Training ---------------------------------------------------------------------------------------------


def test_the_lower_network_is_trained_bit_for_bit_as_without_tuning(objective, smooth):
    every_hook = [*smooth, regularizers["decoupled_weight_decay"](strength=0.1)]
    tuned, plain = (Trainer(objective, every_hook, seed=1) for _ in range(2))
    tuned.execute(cycle(tuned, steps=5))
    tuned.execute(cycle(tuned, steps=3, batches=2))
    plain.execute(replay(plain, 8))
    assert same(weights(tuned), weights(plain))


def test_the_penalized_network_has_the_lower_validation_loss(objective, smooth):
    pair = [Trainer(objective, smooth, member=m, draws=0) for m in range(2)]
    assert same(weights(pair[0]), weights(pair[1]))
    losses = [
        pair[m].execute(cycle(pair[m], steps=60, sigma=3.0, penalized=m == 1)).metrics["validation_loss"]
        for m in range(2)
    ]
    assert losses[1] < losses[0] - 0.01
    # a small share of the validation loss moves the network little
    near = Trainer(objective, smooth, member=1, draws=0)
    near.execute(cycle(near, steps=60, sigma=1e-4, penalized=True))
    small, large = (distance(weights(pair[0]), weights(t)) for t in (near, pair[1]))
    assert small < 0.01 * large


def test_a_pair_with_the_same_weights_report_the_same_gradients(objective, smooth):
    reports = []
    for member in range(2):
        trainer = TrainerFactory(objective, smooth, seed=2, group_size=2)(member)
        trainer.execute(replay(trainer, 5))
        reports.append(trainer.execute(cycle(trainer, steps=0, penalized=member == 1, batches=3)))
    assert same(reports[1].tensors, reports[0].tensors)
    assert reports[0].tensors["per_batch"].shape == (3, len(trainer.space))
    assert reports[0].tensors.keys() - reports[1].tensors.keys() == {"gradient_norm"}


def test_a_hypergradient_changes_nothing(objective, smooth):
    trainer = Trainer(objective, smooth)
    trainer.execute(cycle(trainer))
    before = copy.deepcopy(trainer.state_dict())
    trainer.estimator.hypergradient(4)
    after = trainer.state_dict()
    assert same(before["lower"]["network"], after["lower"]["network"])
    assert torch.equal(
        before["lower"]["regularizers"]["early_learning"]["table"],
        after["lower"]["regularizers"]["early_learning"]["table"],
    )


def test_the_reported_gradient_is_that_of_the_training_loss(objective, smooth):
    trainer = Trainer(objective, smooth)
    report = trainer.execute(cycle(trainer, batches=2))
    u, n = trainer.space.start, len(trainer.space)

    def loss(at):
        return sum(float(trainer.lower.smooth_loss(4 + b, at, "hypergradient").detach()) for b in range(2)) / 2

    for column in range(n):
        e = 1e-2 * torch.eye(n)[column]
        difference = (loss(u + e) - loss(u - e)) / 2e-2
        assert float(report.tensors["hypergradient"][column]) == pytest.approx(difference, rel=0.02, abs=2e-5)


def test_the_proximal_term_keeps_a_phase_close_to_its_start(objective, smooth):
    moved = {}
    for proximal in (None, 10.0, 1.0, 0.2):
        trainer = Trainer(objective, smooth, seed=3)
        start = weights(trainer)
        trainer.execute(cycle(trainer, steps=20, proximal=proximal))
        moved[proximal] = distance(start, weights(trainer))
    assert moved[None] > moved[10.0] > moved[1.0] > moved[0.2] > 0


def test_the_proximal_gradient_is_the_offset_over_rho(objective):
    slow = Classification(
        objective.network,
        *[tuple(s.values()) for s in objective.splits().values()],
        Optimization(16, "sgd", 0.05, 0),
    )
    plain, anchored = (Trainer(slow, [regularizers["weight_decay"](strength=Tune(1e-2))]) for _ in range(2))
    start = weights(plain)
    plain.execute(cycle(plain, steps=1))
    first = weights(plain)
    anchored.execute(cycle(anchored, steps=2, proximal=0.5))
    plain.execute(cycle(plain, steps=1))
    for name, tensor in weights(plain).items():  # the first step starts at the anchor
        expected = tensor - 0.05 * (first[name] - start[name]) / 0.5
        torch.testing.assert_close(weights(anchored)[name], expected)


def test_a_relaxed_phase_ends_between_its_start_and_its_end(objective):
    decay = [regularizers["weight_decay"](strength=Tune(1e-2))]
    plain, relaxed = (Trainer(objective, decay) for _ in range(2))
    start = weights(plain)
    plain.execute(cycle(plain))
    relaxed.execute(cycle(relaxed, relaxation=0.25))
    for name, tensor in weights(plain).items():
        torch.testing.assert_close(weights(relaxed)[name], 0.75 * start[name] + 0.25 * tensor)
    again = weights(relaxed)
    relaxed.execute(cycle(relaxed, steps=0, relaxation=0.25))
    assert same(weights(relaxed), again)


def test_warming_up_is_plain_training_whatever_the_phases_are(objective, smooth):
    plain, other = (Trainer(objective, smooth) for _ in range(2))
    plain.execute(cycle(plain, hypergradient=False))
    other.execute(cycle(other, hypergradient=False, proximal=0.1, relaxation=0.5))
    assert same(weights(plain), weights(other))


@pytest.fixture
def staged(objective):
    """Two stages: even examples, then odd ones."""
    splits = [tuple(split.values()) for split in objective.splits().values()]
    stages = [Stage(torch.arange(start, 96, 2), 3) for start in (0, 1)]
    return Classification(
        objective.network, *splits, Optimization(batch_size=16, learning_rate=0.05), stages=stages
    )


class Own(Regularizer):
    """Makes the training step itself, as sharpness-aware methods do."""

    name = "own"
    family = "supervision"
    kind = "solver"
    reference = Reference("A test")

    def replace(self, step):
        begun = step.asks.recompute(step)
        step.asks.descend(step, begun)
        return begun


SPECIAL = {
    "aggregated": lambda: regularizers["multi_krum"](workers=8, faulty=1),
    "own_steps": Own,
    "clipped": lambda: regularizers["gradient_clipping"](max_norm=0.05),
    "co_teaching": lambda: regularizers["co_teaching"](),
    "stages": lambda: regularizers["label_smoothing"](),
}


@pytest.mark.parametrize("special", SPECIAL)
def test_training_steps_of_every_kind_stay_what_they_are(objective, staged, special):
    task = staged if special == "stages" else objective
    rows = [regularizers["weight_decay"](strength=Tune(1e-2)), SPECIAL[special]()]
    plain, lower, penalized = (Trainer(task, rows) for _ in range(3))
    plain.execute(replay(plain, 6))
    lower.execute(cycle(lower, steps=6))
    assert same(weights(plain), weights(lower))
    report = penalized.execute(cycle(penalized, steps=6, sigma=1.0, penalized=True))
    assert not same(weights(plain), weights(penalized))
    assert (
        report.metrics["validation_loss"]
        < plain.lower.evaluate(plain.plain_network(), "validation")["validation_loss"]
    )


@pytest.mark.parametrize("special", ["aggregated", "own_steps", "stages"])
def test_a_single_loop_refuses_training_steps_without_one_gradient(objective, staged, special):
    task = staged if special == "stages" else objective
    trainer = Trainer(task, [regularizers["weight_decay"](strength=Tune(1e-2)), SPECIAL[special]()])
    with pytest.raises(SettingError, match="one gradient per training step") as error:
        trainer.execute(cycle(trainer, momentum=0.5))
    assert error.value.key == "method.momentum"


def test_the_gradient_above_is_sigma_times_that_of_the_validation_loss(objective):
    splits = [tuple(split.values()) for split in objective.splits().values()]
    slow = Classification(objective.network, *splits, Optimization(16, "sgd", 0.05, momentum=0.0))
    plain, penalized = (Trainer(slow, [regularizers["weight_decay"](strength=Tune(1e-2))]) for _ in range(2))
    losses, _ = plain.lower.validation_losses(0)
    gradients = torch.autograd.grad(losses.mean(), list(plain.lower.parameters.values()))
    plain.execute(cycle(plain, steps=1))
    penalized.execute(cycle(penalized, steps=1, sigma=0.7, penalized=True))
    for (name, tensor), gradient in zip(weights(plain).items(), gradients, strict=True):
        torch.testing.assert_close(weights(penalized)[name], tensor - 0.05 * 0.7 * gradient)


def normed():
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))


@pytest.fixture
def norm_layers(objective):
    splits = [tuple(split.values()) for split in objective.splits().values()]
    return Classification(normed, *splits, Optimization(batch_size=16, learning_rate=0.05))


@pytest.mark.parametrize("variant", VARIANTS)
def test_norm_layers_count_every_training_batch_once(norm_layers, variant):
    decay = [regularizers["weight_decay"](strength=Tune(1e-2))]
    for penalized in (False, True):
        trainer = Trainer(norm_layers, decay)
        trainer.execute(cycle(trainer, steps=5, penalized=penalized, **VARIANTS[variant]))
        assert int(trainer.lower.network[1].num_batches_tracked) == 5


# Single loop ------------------------------------------------------------------------------------------


def test_without_memory_the_single_loop_is_plain_gradient_descent(objective, smooth):
    splits = [tuple(split.values()) for split in objective.splits().values()]
    plain_sgd = Classification(objective.network, *splits, Optimization(16, "sgd", 0.05, momentum=0.0))
    for penalized in (False, True):  # C22
        plain, single = (Trainer(plain_sgd, smooth) for _ in range(2))
        for _ in range(4):
            plain.execute(cycle(plain, steps=1, penalized=penalized))
            single.execute(cycle(single, steps=1, penalized=penalized, momentum=1.0))
        for name, tensor in weights(plain).items():
            torch.testing.assert_close(weights(single)[name], tensor)


def test_the_estimate_is_storm_with_both_gradients_on_the_same_batch(objective):
    """Against the recursion written out, on a network with nothing random."""
    eta, rate, sigmas, shifts = 0.4, 0.05, (0.5, 0.4, 0.3), (0.0, 0.2, -0.1)
    trainer = Trainer(objective, [regularizers["weight_decay"](strength=Tune(1e-2))])
    lower = trainer.lower
    train, validation = lower.objective.splits()["train"], lower.objective.splits()["validation"]
    network = objective.network()

    def gradient(number, point, u, sigma):
        u = u.clone().requires_grad_()
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in point.items()}
        batch = lower.batches.at(number).index
        outputs = torch.func.functional_call(network, leaves, train["inputs"][batch])
        squares = sum(leaves[name].square().sum() for name in ("0.weight", "2.weight"))
        loss = nn.functional.cross_entropy(outputs, train["labels"][batch]) + 0.5 * u.exp().sum() * squares
        above = torch.func.functional_call(network, leaves, validation["inputs"])
        loss = loss + sigma * nn.functional.cross_entropy(above, validation["labels"])
        found = torch.autograd.grad(loss, [*leaves.values(), u])
        return dict(zip([*leaves, "u"], found, strict=True))

    point, before, direction = weights(trainer), None, None
    for number, (sigma, shift) in enumerate(zip(sigmas, shifts, strict=True)):
        u = trainer.space.start + shift
        report = trainer.execute(cycle(trainer, 1, sigma, penalized=True, shift=shift, momentum=eta))
        new = gradient(number, point, u, sigma)
        if before is None:
            direction = new
        else:
            old = gradient(number, *before)
            direction = {name: new[name] + (1 - eta) * (direction[name] - old[name]) for name in new}
        before = point, u, sigma
        point = {name: tensor - rate * direction[name] for name, tensor in point.items()}
        torch.testing.assert_close(report.tensors["hypergradient"], direction["u"])
        for name, tensor in weights(trainer).items():
            torch.testing.assert_close(tensor, point[name])


def test_momentum_takes_the_noise_off_hypergradients(objective):
    """At weights that hardly move, the scatter of the estimate is below that of single batches."""
    splits = [tuple(split.values()) for split in objective.splits().values()]
    still = Classification(objective.network, *splits, Optimization(16, "sgd", 1e-4, momentum=0.0))
    scatter = {}
    for momentum in (1.0, 0.1):
        trainer = Trainer(still, [regularizers["label_smoothing"](epsilon=Tune(0.1))])
        found = [trainer.execute(cycle(trainer, 1, momentum=momentum)).tensors["hypergradient"] for _ in range(60)]
        scatter[momentum] = float(torch.stack(found)[20:].std())
    assert scatter[0.1] < 0.4 * scatter[1.0]  # sqrt(0.1 / 1.9) = 0.23 in the long run


def test_maps_and_changes_of_gradients_act_in_the_single_loop(objective):
    rows = [regularizers["max_norm"](limit=0.3), regularizers["weight_decay"](strength=Tune(1e-2))]
    trainer = Trainer(objective, rows)
    trainer.execute(cycle(trainer, steps=3, momentum=0.5))
    for name, tensor in weights(trainer).items():
        if tensor.ndim == 2:
            assert float(tensor.norm(dim=1).max()) <= 0.3 + 1e-6, name
    clipped = Trainer(
        objective,
        [regularizers["gradient_clipping"](max_norm=0.1), regularizers["weight_decay"](strength=Tune(1e-2))],
    )
    before = weights(clipped)
    clipped.execute(cycle(clipped, steps=1, momentum=0.5))
    assert distance(before, weights(clipped)) == pytest.approx(0.05 * 0.1, rel=1e-3)


# State and runs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("penalized", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_state_round_trip_gives_the_same_reports(objective, smooth, variant, penalized):
    settings = {"penalized": penalized, "steps": 1 if variant == "single_loop" else 4, **VARIANTS[variant]}
    first = Trainer(objective, smooth, seed=5)
    for shift in (0.0, 0.1):
        first.execute(cycle(first, shift=shift, **settings))
    second = Trainer(objective, smooth, seed=5)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for shift in (0.2, 0.3):
        reports = [t.execute(cycle(t, shift=shift, **settings)) for t in (first, second)]
        assert same(reports[0].tensors, reports[1].tensors)
        assert same(weights(first), weights(second))
        known = [{k: v for k, v in r.metrics.items() if k != "seconds"} for r in reports]
        assert known[0] == known[1]


class Recorder(Listener):
    def __init__(self, stop_after=None):
        self.steps, self.stop_after = [], stop_after

    def hyper_step(self, step):
        self.steps.append(step)
        if step.number == self.stop_after:
            raise KeyboardInterrupt

    def rows(self):
        return {
            s.number: [
                *s.hyperparameters.tolist(),
                *s.hypergradient.tolist(),
                s.training_loss,
                s.validation_loss,
                *sorted(s.certificate.items()),
            ]
            for s in self.steps
        }


def run(objective, regularization, folder=None, stop_after=None, team=2, steps=50, **changes):
    settings = PenaltySettings(**{"warmup_steps": 10, "train_steps": 4, "checkpoint_every": 3} | changes)
    factory = TrainerFactory(objective, regularization, seed=3, group_size=2)
    method = Penalty(Budget(steps=steps), settings, team)
    recorder = Recorder(stop_after)
    last = run_in_process(method, {m: factory(m) for m in range(team)}, recorder, folder)
    return last, recorder, method


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_interrupted_run_goes_on_to_the_same_trajectory(objective, smooth, tmp_path, variant):
    changes = {"train_steps": 1, **VARIANTS[variant]} if variant == "single_loop" else VARIANTS[variant]
    whole, undisturbed, _ = run(objective, smooth, **changes)
    with pytest.raises(KeyboardInterrupt):
        run(objective, smooth, tmp_path, stop_after=7, **changes)
    last, resumed, _ = run(objective, smooth, tmp_path, **changes)
    assert resumed.steps[0].number == 6  # what was checkpointed is not repeated
    expected = undisturbed.rows()
    assert resumed.rows() == {number: row for number, row in expected.items() if number >= 6}
    for member in (0, 1):
        assert same(whole[member].tensors, last[member].tensors)


def test_a_team_of_two_pairs_runs_and_the_first_network_is_a_lower_one(objective, smooth):
    last, recorder, _ = run(objective, smooth, team=4, batches=2, learning_rate=0.0)
    assert len(recorder.steps) == 10
    assert recorder.steps[-1].certificate["hypergradient_noise"] > 0
    plain = TrainerFactory(objective, smooth, seed=3, group_size=2)(0)
    plain.execute(replay(plain, 50))
    delivered = {k.removeprefix("network."): v for k, v in last[0].tensors.items()}
    assert same(plain.plain_network().state_dict(), delivered)


# A strongly convex case -------------------------------------------------------------------------------


def overlapping(examples, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(examples) % 3
    return torch.randn(examples, 6, generator=generator) + 0.5 * labels[:, None], labels


def linear():
    return nn.Linear(6, 3, bias=False)


@pytest.fixture
def convex():
    """Logistic regression on full batches."""
    data = [overlapping(96, 0), overlapping(48, 1), overlapping(48, 2)]
    return Classification(linear, *data, Optimization(96, "sgd", 0.5, momentum=0.0))


def lowest(objective, u, sigma):
    """min_x of h + sigma g, in double precision."""
    splits = objective.splits()
    (x, y), (x_val, y_val) = (
        (splits[name]["inputs"].double(), splits[name]["labels"]) for name in ("train", "validation")
    )
    weight = torch.zeros(3, 6, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS(
        [weight], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )

    def closure():
        solver.zero_grad()
        loss = nn.functional.cross_entropy(x @ weight.T, y) + 0.5 * math.exp(u) * weight.square().sum()
        loss = loss + sigma * nn.functional.cross_entropy(x_val @ weight.T, y_val)
        loss.backward()
        return loss

    solver.step(closure)
    return float(closure().detach())


def psi(objective, u, sigma):
    return (lowest(objective, u, sigma) - lowest(objective, u, 0.0)) / sigma


@pytest.mark.parametrize("sigma", first_of([0.3, 0.03]))
@pytest.mark.parametrize("strength", [1e-2, 1.0])
@pytest.mark.parametrize("variant", ["double_loop", "single_loop"])
def test_a_hypergradient_after_long_training_is_the_derivative_of_psi(convex, strength, sigma, variant):
    decay = [regularizers["weight_decay"](strength=Tune(strength))]
    settings = {"warmup_steps": 800, "learning_rate": 0.0, "sigma": sigma, "train_steps": 1}
    _, recorder, _ = run(convex, decay, steps=801, **settings, **VARIANTS[variant])
    u = math.log(strength)
    expected = (psi(convex, u + 1e-3, sigma) - psi(convex, u - 1e-3, sigma)) / 2e-3
    (found,) = recorder.steps[0].hypergradient.tolist()
    assert found == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("start", first_of([1e-4, 1.0]))
def test_tuned_weight_decay_goes_to_the_minimiser_of_psi(convex, start):
    sigma = 0.1
    decay = [regularizers["weight_decay"](strength=Tune(start))]
    _, _, method = run(
        convex,
        decay,
        steps=2000,
        warmup_steps=100,
        train_steps=20,
        optimizer="adam",
        learning_rate=0.2,
        sigma=sigma,
        sigma_decay=0.0,
    )
    found = math.log(float(method.hyperparameters))
    grid = [-8 + 0.25 * k for k in range(49)]
    best = min(grid, key=lambda u: psi(convex, u, sigma))
    assert abs(found - best) < 0.5
    assert psi(convex, found, sigma) <= psi(convex, best, sigma) + 1e-4
    assert psi(convex, found, sigma) < psi(convex, math.log(start), sigma) - 1e-3


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_smooth_hyperparameter_moves_within_its_constraint(objective, smooth, variant):
    train_steps = 1 if variant == "single_loop" else 4
    constraint = Box(-5.0, 0.0)
    _, recorder, method = run(
        objective, smooth, train_steps=train_steps, constraint=constraint, **VARIANTS[variant]
    )
    trajectory = torch.stack([step.hyperparameters for step in recorder.steps])
    assert bool((trajectory[0] != trajectory[-1]).all())
    assert bool(torch.isfinite(trajectory).all())
    unconstrained = method.space.unconstrain(method.hyperparameters)
    torch.testing.assert_close(constraint(unconstrained), unconstrained)

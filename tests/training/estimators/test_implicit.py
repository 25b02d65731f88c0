"""Hypergradients by implicit differentiation: closed forms where there are some, dense matrices elsewhere."""

import copy
import math

import pytest
import torch
from orders import start_of
from torch import nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode

from selftune.hyperparameters import Tune
from selftune.lower_level.classification import Classification
from selftune.lower_level.objective import NetworkObjective
from selftune.lower_level.optimization import Optimization
from selftune.methods.work_orders import FollowSchedule, Train
from selftune.regularization.regularizer import regularizers
from selftune.training import Trainer

SYSTEMS = ("neumann", "descent", "conjugate_gradient")
STRENGTH = 0.2


class Ridge(NetworkObjective):
    """Least squares in float64, trained on all examples at once: the lower level has a closed form."""

    provides = frozenset({"parameters"})
    optimization = Optimization(batch_size=40, learning_rate=0.2, momentum=0.5)

    def __init__(self):
        generator = torch.Generator().manual_seed(3)
        scales = torch.tensor([0.3, 0.6, 1.0, 1.5, 0.8], dtype=torch.float64)
        truth = torch.tensor([1.0, -2.0, 0.5, 1.5, -1.0], dtype=torch.float64)
        self._splits = {}
        for name in ("train", "validation", "test"):
            inputs = torch.randn(40, 5, generator=generator, dtype=torch.float64) * scales
            noise = torch.randn(40, generator=generator, dtype=torch.float64)
            self._splits[name] = {"inputs": inputs, "labels": (inputs @ truth + noise)[:, None]}

    def network(self):
        return nn.Sequential(nn.Linear(5, 1, bias=False, dtype=torch.float64))

    def splits(self):
        return self._splits

    def targets(self, labels):
        return labels

    def loss(self, outputs, targets):
        return 0.5 * (outputs - targets).square().sum(dim=-1)

    validation_loss = loss


class ClosedForm:
    """What the lower level of ``Ridge`` and its derivatives are."""

    def __init__(self):
        splits = Ridge().splits()
        x, y = splits["train"].values()
        self.hessian = x.T @ x / len(x)
        self.projection = x.T @ y[:, 0] / len(x)
        self.x, self.y = splits["validation"].values()
        self.identity = torch.eye(5, dtype=torch.float64)

    def weights(self, strength):
        return torch.linalg.solve(self.hessian + strength * self.identity, self.projection)

    def validation_gradient(self, weights):
        return self.x.T @ (self.x @ weights - self.y[:, 0]) / len(self.x)

    def hypergradient(self, strength):
        """With respect to the logarithm of the strength."""
        weights = self.weights(strength)
        q = torch.linalg.solve(self.hessian + strength * self.identity, self.validation_gradient(weights))
        return -strength * weights @ q

    def validation_loss(self, strength):
        return 0.5 * (self.x @ self.weights(strength) - self.y[:, 0]).square().mean()


def cycle(trainer, steps=0, hypergradient=True, shift=0.0, hyper_step=0, **settings):
    settings = {"damping": 0.0} | settings
    values = start_of(trainer.space, shift, hyper_step)
    return Train(values=values, steps=steps, hypergradient=hypergradient, estimator="implicit", settings=settings)


def replay(trainer, steps):
    return FollowSchedule(segments=((steps, trainer.space.constrain(trainer.space.start)),))


@pytest.fixture
def minimised():
    """Makes trainers whose network is at the minimiser, by plain training."""

    def make():
        trainer = Trainer(Ridge(), [regularizers["weight_decay"](strength=Tune(STRENGTH))])
        trainer.execute(replay(trainer, 400))
        return trainer

    return make


def estimator_of(trainer, **settings):
    trainer.execute(cycle(trainer, hypergradient=False, **settings))
    trainer.estimator.begin(cycle(trainer))
    return trainer.estimator


# The closed form -------------------------------------------------------------------------------------


def test_conjugate_gradients_give_the_derivative_of_the_retrained_validation_loss(minimised):
    trainer = minimised()
    report = trainer.execute(cycle(trainer, system="conjugate_gradient", system_steps=5))
    exact = ClosedForm()
    weights = next(iter(trainer.lower.parameters.values())).detach()[0]
    torch.testing.assert_close(weights, exact.weights(STRENGTH), rtol=1e-6, atol=0)
    numeric = [exact.validation_loss(STRENGTH * math.exp(e)) for e in (1e-4, -1e-4)]
    slope = (numeric[0] - numeric[1]) / 2e-4
    torch.testing.assert_close(exact.hypergradient(STRENGTH), slope, rtol=1e-5, atol=0)
    found = report.tensors["hypergradient"][0].double()
    torch.testing.assert_close(found, slope, rtol=1e-5, atol=0)
    assert report.tensors["system_residual"] < 1e-6
    assert report.metrics["validation_loss"] == pytest.approx(exact.validation_loss(STRENGTH).item(), rel=1e-6)


@pytest.mark.parametrize("terms", [1, 2, 8, 32, 128])
def test_the_error_of_the_series_falls_as_one_minus_rate_times_the_smallest_curvature(minimised, terms):
    exact = ClosedForm()
    hessian = exact.hessian + STRENGTH * exact.identity
    eigenvalues = torch.linalg.eigvalsh(hessian)
    rate = 1 / float(eigenvalues[-1])
    estimator = estimator_of(minimised(), system_steps=terms, system_rate=rate)
    weights = exact.weights(STRENGTH)
    b = exact.validation_gradient(weights)
    found, residual = estimator.differentiate(400, b)
    shrunk = torch.linalg.matrix_power(exact.identity - rate * hessian, terms)
    error = STRENGTH * weights @ torch.linalg.solve(hessian, shrunk @ b)
    torch.testing.assert_close(found[0].double() - exact.hypergradient(STRENGTH), error, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(residual, (shrunk @ b).norm() / b.norm(), rtol=1e-4, atol=1e-6)
    assert residual <= (1 - rate * float(eigenvalues[0])) ** terms * 1.0001


@pytest.mark.parametrize("system", ["descent", "conjugate_gradient"])
def test_a_warm_system_is_solved_over_the_hyper_steps(minimised, system):
    exact = ClosedForm()
    wanted = exact.hypergradient(STRENGTH)
    errors = {}
    for warm in (True, False):
        trainer = minimised()
        order = cycle(trainer, system=system, system_steps=1, warm=warm)
        for _ in range(250):
            report = trainer.execute(order)
        errors[warm] = float((report.tensors["hypergradient"][0] - wanted).abs() / wanted.abs())
    assert errors[True] < 1e-3
    assert errors[False] > 1e-2


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_the_series_is_the_derivative_of_so_many_gradient_steps(minimised, steps):
    rate, exact = 0.3, ClosedForm()
    u = torch.tensor(STRENGTH, dtype=torch.float64).log().requires_grad_()
    weights = exact.weights(STRENGTH)
    for _ in range(steps):
        weights = weights - rate * (exact.hessian @ weights - exact.projection + u.exp() * weights)
    loss = 0.5 * (exact.x @ weights - exact.y[:, 0]).square().mean()
    (unrolled,) = torch.autograd.grad(loss, u)
    trainer = minimised()
    report = trainer.execute(cycle(trainer, system_steps=steps, system_rate=rate))
    torch.testing.assert_close(report.tensors["hypergradient"][0].double(), unrolled, rtol=1e-5, atol=0)


def test_the_rate_follows_from_that_of_training(minimised):
    assert estimator_of(minimised()).rate == pytest.approx(0.2 / 1.5)
    assert estimator_of(minimised(), system_rate=0.03).rate == 0.03


def test_damping_is_added_to_the_curvature(minimised):
    exact = ClosedForm()
    trainer = minimised()
    report = trainer.execute(cycle(trainer, system="conjugate_gradient", system_steps=5, damping=0.4))
    weights = exact.weights(STRENGTH)
    damped = exact.hessian + (STRENGTH + 0.4) * exact.identity
    wanted = -STRENGTH * weights @ torch.linalg.solve(damped, exact.validation_gradient(weights))
    torch.testing.assert_close(report.tensors["hypergradient"][0].double(), wanted, rtol=1e-5, atol=0)
    assert report.tensors["system_residual"] < 1e-6


def test_a_warm_start_stays_in_the_ball_that_holds_the_damped_solution(minimised):
    estimator = estimator_of(minimised(), system="descent", system_steps=1, system_rate=1e-9, damping=0.5)
    estimator.load_state_dict({"solution": torch.full((5,), 1e6, dtype=torch.float64)})
    b = torch.ones(5, dtype=torch.float64)
    estimator.differentiate(400, b)
    solution = estimator.state_dict()["solution"]
    torch.testing.assert_close(solution, 2 * b, rtol=1e-6, atol=0)  # |b| / damping, in the start's direction
    estimator.differentiate(400, b)
    torch.testing.assert_close(estimator.state_dict()["solution"], solution, rtol=1e-6, atol=0)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_validation_loss_at_its_minimum_has_no_hypergradient(minimised, system):
    estimator = estimator_of(minimised(), system=system)
    found, residual = estimator.differentiate(400, torch.zeros(5, dtype=torch.float64))
    assert torch.equal(found.abs(), torch.zeros(1))
    assert residual == 0


# Networks --------------------------------------------------------------------------------------------


def test_products_are_those_of_the_dense_second_derivatives(objective):
    tuned = {"weight_decay": {"strength": Tune(0.03)}, "label_smoothing": {"epsilon": Tune(0.2)}}
    trainer = Trainer(objective, [regularizers[name](**values) for name, values in tuned.items()])
    trainer.execute(replay(trainer, 20))
    estimator = estimator_of(trainer, damping=0.07)
    network, names = trainer.lower.network, list(trainer.lower.parameters)
    sizes = [p.numel() for p in network.parameters()]
    batch = trainer.lower.batches.at(31).batch
    u = trainer.space.start

    def loss(flat):
        pieces = torch.split(flat[2:], sizes)
        weights = {
            name: piece.view(p.shape) for name, piece, p in zip(names, pieces, network.parameters(), strict=True)
        }
        epsilon, strength = (trainer.space.constrain(flat[:2])[i] for i in range(2))
        logits = functional_call(network, weights, batch["inputs"])
        wanted = (1 - epsilon) * nn.functional.one_hot(batch["labels"], 3) + epsilon / 3
        decay = sum((w**2).sum() for w in weights.values() if w.ndim > 1)
        return nn.functional.cross_entropy(logits, wanted) + 0.5 * strength * decay

    assert trainer.space.names == ("label_smoothing.epsilon", "weight_decay.strength")
    point = torch.cat([u, *(p.detach().reshape(-1) for p in network.parameters())])
    dense = torch.autograd.functional.hessian(loss, point)
    v = torch.randn(len(point) - 2, generator=torch.Generator().manual_seed(0))
    product, mixed = estimator.batch(31).products(v)
    torch.testing.assert_close(product, dense[2:, 2:] @ v + 0.07 * v, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mixed, dense[:2, 2:] @ v, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(estimator.batch(31).product(v), product, rtol=1e-5, atol=1e-6)


def noisy_network():
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3))


@pytest.fixture
def noisy(objective):
    """A network and regularizers that draw random numbers and keep state."""
    data = [tuple(split.values()) for split in objective.splits().values()]
    with_statistics = Classification(noisy_network, *data, objective.optimization)
    terms = {
        "weight_decay": {"parts": "layer", "strength": Tune(1e-2)},
        "label_smoothing": {"epsilon": Tune(0.05)},
        "early_learning": {"strength": Tune(0.5)},
        "gaussian_input_noise": {"sigma": Tune(0.1)},
        "dropout": {"rate": 0.2},
        "mixup": {"alpha": 0.3},
        "max_norm": {"limit": 2.0},
    }

    def make(seed=1):
        return Trainer(
            with_statistics, [regularizers[name](**values) for name, values in terms.items()], seed=seed
        )

    return make


def test_one_batch_is_one_symmetric_matrix(noisy):
    trainer = noisy()
    estimator = estimator_of(trainer, damping=0.5)
    batch = estimator.batch(4)
    size = sum(p.numel() for p in trainer.lower.parameters.values())
    v, w = torch.randn(2, size, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(batch.product(v + w), batch.product(v) + batch.product(w), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(v @ batch.product(w), w @ batch.product(v), rtol=1e-4, atol=1e-4)
    assert torch.equal(batch.product(v), estimator.batch(4).product(v))
    assert not torch.allclose(batch.product(v), estimator.batch(5).product(v))


def same(a, b):
    """Whether two nested states are equal to the last bit."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_hypergradient_leaves_network_optimizer_and_regularizers_as_they_are(noisy, system):
    trainer = noisy()
    trainer.execute(cycle(trainer, steps=3, hypergradient=False, system=system))
    before = copy.deepcopy(trainer.lower.state_dict())
    gradients = [p.grad.clone() for p in trainer.lower.network.parameters()]
    report = trainer.execute(cycle(trainer, system=system))
    assert report.tensors["hypergradient"].abs().sum() > 0
    assert same(before, trainer.lower.state_dict())
    assert same(gradients, [p.grad for p in trainer.lower.network.parameters()])
    assert trainer.lower.network.training


@pytest.mark.parametrize("system", SYSTEMS)
def test_between_hyper_steps_the_network_is_trained_as_if_there_were_none(noisy, system):
    tuned, plain = noisy(), noisy()
    for hyper_step, steps in enumerate((5, 0, 3)):
        tuned.execute(cycle(tuned, steps=steps, hyper_step=hyper_step, system=system))
    plain.execute(replay(plain, 8))
    assert same(tuned.lower.state_dict(), plain.lower.state_dict())
    assert same(tuned.plain_network().state_dict(), plain.plain_network().state_dict())


@pytest.mark.parametrize("system", SYSTEMS)
def test_state_round_trip_gives_the_same_reports(noisy, system):
    first = noisy(seed=5)
    for hyper_step in range(2):
        first.execute(cycle(first, steps=2, hyper_step=hyper_step, system=system))
    second = noisy(seed=5)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for hyper_step in (2, 3):
        reports = [
            t.execute(cycle(t, steps=2, shift=0.1, hyper_step=hyper_step, system=system)) for t in (first, second)
        ]
        assert same(*(dict(r.tensors) for r in reports))
        assert reports[0].metrics["training_loss"] == reports[1].metrics["training_loss"]


class NoLooks(TorchDispatchMode):
    """Refuses what would make the host wait for a device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in {"_local_scalar_dense", "item", "nonzero", "masked_select", "is_nonzero"}, name
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_hypergradient_never_waits_for_the_device(noisy, system):
    trainer = noisy()
    estimator = estimator_of(trainer, system=system)
    b = torch.ones(sum(p.numel() for p in estimator.weights))
    estimator.differentiate(0, b)
    with NoLooks():
        estimator.train(0)
        estimator.differentiate(1, b)


def test_attention_has_second_derivatives():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
            self.head = nn.Linear(8, 3)

        def forward(self, inputs):
            return self.head(self.layer(inputs).mean(dim=1))

    generator = torch.Generator().manual_seed(0)
    data = torch.randn(32, 4, 8, generator=generator), torch.arange(32) % 3
    objective = Classification(Attention, data, data, data, Optimization(batch_size=16))
    trainer = Trainer(objective, [regularizers["weight_decay"](strength=Tune(0.01))])
    report = trainer.execute(cycle(trainer, steps=1))
    assert report.kind == "cycle"
    assert report.tensors["hypergradient"].abs() > 0


def test_frozen_weights_stay_out_of_the_system(objective):
    def build():
        network = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))
        network[0].requires_grad_(False)
        return network

    data = [tuple(split.values()) for split in objective.splits().values()]
    trainer = Trainer(
        Classification(build, *data, objective.optimization), [regularizers["weight_decay"](strength=Tune(0.1))]
    )
    assert sum(w.numel() for w in estimator_of(trainer).weights) == 15
    assert trainer.execute(cycle(trainer, steps=1)).kind == "cycle"


# Refusals --------------------------------------------------------------------------------------------


def test_a_series_that_explodes_is_reported_as_diverged(minimised):
    trainer = minimised()
    report = trainer.execute(cycle(trainer, system_steps=400, system_rate=1e3))
    assert report.kind == "diverged"
    assert "hypergradient is not finite after training step 400" in report.message

"""Loops of the family ``dynamics``: what is judged is made of the network's outputs, see ``Shaped``."""

import torch
import torch.nn.functional as F
from authors.bench import POINTS, cross_entropy, image_of, loop, trained, weights_of


def _of_images(bench, strength, term):
    def loss(network, batch):
        logits = network(batch.x)
        return cross_entropy(logits, batch.y) + strength * term(image_of(logits)).mean()

    return trained(bench, loss)


def _differences(images):
    """Downwards and to the right, zero across the border."""
    down, right = torch.zeros_like(images), torch.zeros_like(images)
    down[:, :, :-1], right[..., :-1] = images[:, :, 1:] - images[:, :, :-1], images[..., 1:] - images[..., :-1]
    return down, right


@loop("tikhonov", kind="shaped", strength=0.3)
@loop("tikhonov", kind="shaped", strength=0.3, operator="gradient")
def tikhonov(bench, operator="identity"):
    def term(images):
        parts = (images,) if operator == "identity" else _differences(images)
        return sum((part**2).flatten(1).sum(dim=1) for part in parts) / 2

    return _of_images(bench, 0.3, term)


@loop("total_variation", kind="shaped", strength=0.3, smoothing=0.02)
@loop("total_variation", kind="shaped", strength=0.3, smoothing=0.02, isotropic=False)
def total_variation(bench, isotropic=True):
    def term(images):
        down, right = _differences(images)
        if isotropic:
            return (down**2 + right**2 + 0.02**2).sqrt().flatten(1).sum(dim=1)
        inside = down[:, :, :-1], right[..., :-1]
        return sum((part**2 + 0.02**2).sqrt().flatten(1).sum(dim=1) for part in inside)

    return _of_images(bench, 0.3, term)


@loop("wavelet_sparsity", kind="shaped", strength=0.3, levels=2, smoothing=0.02)
def wavelet_sparsity(bench):
    """Haar's transform as a matrix, one level after the other."""

    def term(images):
        approximation, total = images, 0.0
        for side in (4, 2):
            low = torch.zeros(side // 2, side)
            low[torch.arange(side // 2), torch.arange(0, side, 2)] = 0.5**0.5
            high = low.clone()
            low[torch.arange(side // 2), torch.arange(1, side, 2)] = 0.5**0.5
            high[torch.arange(side // 2), torch.arange(1, side, 2)] = -(0.5**0.5)
            details = [a @ approximation @ b.T for a, b in ((low, high), (high, low), (high, high))]
            total = total + sum((d**2 + 0.02**2).sqrt().flatten(1).sum(dim=1) for d in details)
            approximation = low @ approximation @ low.T
        return total

    return _of_images(bench, 0.3, term)


_FILTERS = [0.5, -0.5, 0.0, 0.2, -0.4, 0.2, 0.0, 0.1, -0.1, 0.3, 0.0, -0.3, 0.1, -0.2, 0.1, 0.3, 0.0, -0.3]


@loop(
    "field_of_experts",
    kind="shaped",
    strength=0.3,
    experts=2,
    size=3,
    filters=_FILTERS,
    log_weights=-0.5,
    log_smoothing=-2.0,
)
def field_of_experts(bench):
    filters = torch.tensor(_FILTERS).view(2, 1, 3, 3)

    def term(images):
        responses = F.conv2d(F.pad(images, (1, 1, 1, 1), mode="reflect"), filters)
        lengths = (responses**2 + torch.tensor(-2.0).exp() ** 2).sqrt()
        return torch.tensor(-0.5).exp() * lengths.flatten(1).sum(dim=1)

    return _of_images(bench, 0.3, term)


@loop("l1_sparsity", strength=0.2, smoothing=0.05)
def l1_sparsity(bench):
    def loss(network, batch):
        seen = network.relu2(network.second(network.relu1(network.first(batch.x))))
        term = (seen**2 + 0.05**2).sqrt().sum(dim=1).mean()
        return cross_entropy(network.last(seen), batch.y) + 0.2 * term

    return trained(bench, loss)


@loop("orthogonal_convolution", kind="images", strength=0.2)
def orthogonal_convolution(bench):
    """The Gram operator of a layer with circular padding, by its block of input-output pairs at every offset."""

    def loss(network, batch):
        total = 0.0
        for kernel in weights_of(network)[1:3]:  # all convolutions but the first
            padded = F.pad(kernel, (2, 2, 2, 2))
            for i in range(5):
                for j in range(5):
                    block = torch.einsum("oikl,pikl->op", kernel, padded[:, :, i : i + 3, j : j + 3])
                    total = total + ((block - (torch.eye(2) if i == j == 2 else 0)) ** 2).sum()
        return cross_entropy(network(batch.x), batch.y) + 0.2 * total

    return trained(bench, loss)


def _entropic(cost, epsilon):
    """Sinkhorn's iteration on the kernel until it stands still; the plan is a constant of the gradient."""
    n, m = cost.shape
    kernel = (-cost.detach() / epsilon.detach()).exp()
    u, v = torch.ones(n), torch.ones(m)
    for _ in range(300):
        u = 1 / (kernel @ v / m)
        v = 1 / (kernel.T @ u / n)
    density = u[:, None] * kernel * v
    plan = density / (n * m)
    return (plan * cost).sum() + epsilon * (plan * density.log()).sum()


def _squared(x, y):
    return ((x[:, None] - y[None]) ** 2).sum(dim=2)


@loop("entropic_transport_cost", kind="shaped", strength=0.4, epsilon=0.5, iterations=200, slack=1e2)
def entropic_transport_cost(bench):
    def loss(network, batch):
        logits = network(batch.x)
        cost = _squared(logits, POINTS())
        return cross_entropy(logits, batch.y) + 0.4 * _entropic(cost, 0.5 * cost.mean().detach())

    return trained(bench, loss)


@loop("sinkhorn_divergence", kind="shaped", strength=0.4, epsilon=0.5, iterations=200, slack=1e2)
def sinkhorn_divergence(bench):
    def loss(network, batch):
        logits = network(batch.x)
        data = POINTS()
        epsilon = 0.5 * _squared(logits, data).mean().detach()
        within = _entropic(_squared(logits, logits), epsilon) + _entropic(_squared(data, data), epsilon)
        return cross_entropy(logits, batch.y) + 0.4 * (_entropic(_squared(logits, data), epsilon) - within / 2)

    return trained(bench, loss)

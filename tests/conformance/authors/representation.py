"""Loops of the family ``representation``."""

import torch
import torch.nn.functional as F
from authors.bench import BATCH, cross_entropy, descend, jitter, loop, trained
from selftune.objectives.mathematics.draws import symmetric_beta


def _two_views(bench, loss):
    """An encoder that learns from two views of every example, and from nothing else."""
    network, optimizer = bench.start()
    for batch in bench.batches():
        one, two = jitter(batch.x, batch.generator), jitter(batch.x, batch.generator)
        descend(optimizer, loss(network, batch, one, two, network(one), network(two)))
    return network


def _standardised(z, eps):
    return (z - z.mean(dim=0)) / (z.var(dim=0, correction=0) + eps).sqrt()


def _barlow(a, b, weight):
    correlation = _standardised(a, 1e-5).T @ _standardised(b, 1e-5) / BATCH
    squares = (correlation - torch.eye(4)) ** 2
    return squares.trace() + weight * (squares.sum() - squares.trace())


@loop("barlow_twins", kind="views", strength=0.3, off_diagonal_weight=0.05)
def barlow_twins(bench):
    return _two_views(bench, lambda net, b, x1, x2, z1, z2: 0.3 * _barlow(z1, z2, 0.05))


@loop("mixed_barlow_twins", kind="views", beside={"barlow_twins": {"strength": 0.3}}, strength=0.2, alpha=1.5)
def mixed_barlow_twins(bench):
    """Correlations of mixed embeddings against the mixed correlations, for each of the views."""

    def loss(network, batch, x1, x2, z1, z2):
        lam, partner = symmetric_beta(batch, torch.tensor(1.5)), batch.permutation()
        mixed = network(lam * x1 + (1 - lam) * x2[partner])
        m, a, b = (_standardised(z, 1e-5) for z in (mixed, z1, z2))
        term = 0.0
        for view in (a, b):
            truth = lam * a.T @ view + (1 - lam) * b[partner].T @ view
            term = term + 0.5 * (((m.T @ view - truth) / BATCH) ** 2).sum()
        return 0.3 * _barlow(z1, z2, 0.0051) + 0.2 * term

    return _two_views(bench, loss)


@loop("vicreg_invariance", kind="views", strength=2.0)
def vicreg_invariance(bench):
    return _two_views(bench, lambda net, b, x1, x2, z1, z2: 2.0 * F.mse_loss(z1, z2))


@loop("vicreg_variance", kind="views", strength=2.0)
def vicreg_variance(bench):
    def hinge(z):
        return F.relu(1 - torch.sqrt(z.var(dim=0) + 1e-4)).mean()

    return _two_views(bench, lambda net, b, x1, x2, z1, z2: 2.0 * (hinge(z1) + hinge(z2)) / 2)


@loop("vicreg_covariance", kind="views", strength=2.0)
def vicreg_covariance(bench):
    def off_diagonal(z):
        squares = torch.cov(z.T) ** 2
        return (squares.sum() - squares.trace()) / 4

    return _two_views(bench, lambda net, b, x1, x2, z1, z2: 2.0 * (off_diagonal(z1) + off_diagonal(z2)))


@loop("info_nce", kind="views", strength=0.5, temperature=0.4)
def info_nce(bench):
    def loss(network, batch, x1, x2, z1, z2):
        cosines = F.cosine_similarity(z1[:, None], z2[None], dim=2)
        return 0.5 * F.cross_entropy(cosines / 0.4, torch.arange(BATCH))

    return _two_views(bench, loss)


@loop("nt_xent", kind="views", strength=0.5, temperature=0.4)
def nt_xent(bench):
    """SimCLR: every embedding against the 2 N - 1 others."""

    def loss(network, batch, x1, x2, z1, z2):
        z = torch.cat([z1, z2])
        cosines = F.cosine_similarity(z[:, None], z[None], dim=2) / 0.4
        terms = []
        for i in range(2 * BATCH):
            others = [j for j in range(2 * BATCH) if j != i]
            terms.append(cosines[i, others].logsumexp(0) - cosines[i, (i + BATCH) % (2 * BATCH)])
        return 0.5 * torch.stack(terms).mean()

    return _two_views(bench, loss)


def _features(network, x):
    return network.relu2(network.second(network.relu1(network.first(x))))


@loop("supervised_contrastive", strength=0.6, temperature=0.5)
def supervised_contrastive(bench):
    """Khosla et al., L_out, on the features of one view."""

    def loss(network, batch):
        seen = _features(network, batch.x)
        units = F.normalize(seen, dim=1)
        terms = []
        for i in range(BATCH):
            others = [j for j in range(BATCH) if j != i]
            positives = [j for j in others if batch.y[j] == batch.y[i]]
            logits = units[i] @ units.T / 0.5
            found = [logits[others].logsumexp(0) - logits[p] for p in positives]
            terms.append(sum(found) / len(found) if found else torch.zeros(()))
        return cross_entropy(network.last(seen), batch.y) + 0.6 * torch.stack(terms).mean()

    return trained(bench, loss)


@loop("triplet", strength=0.6, margin=0.5)
def triplet(bench):
    """FaceNet's loss, with a random positive and a random negative for every anchor."""

    def loss(network, batch):
        seen = _features(network, batch.x)
        units, indices = F.normalize(seen, dim=1), torch.arange(BATCH)
        same = batch.y[:, None] == batch.y
        positive = (batch.rand(BATCH, BATCH) + 1).where(same & (indices[:, None] != indices), 0)
        negative = (batch.rand(BATCH, BATCH) + 1).where(~same, 0)
        terms = []
        for i in range(BATCH):
            if not (positive[i].any() and negative[i].any()):
                continue
            near = ((units[i] - units[positive[i].argmax()]) ** 2).sum()
            far = ((units[i] - units[negative[i].argmax()]) ** 2).sum()
            terms.append((near - far + 0.5).clamp_min(0))
        return cross_entropy(network.last(seen), batch.y) + 0.6 * sum(terms) / BATCH

    return trained(bench, loss)


@loop("bellman_rank", kind="shaped", strength=0.6, discount=0.9)
def bellman_rank(bench):
    """BEER: consecutive features are no more alike than the bound allows; the bound is a number."""

    def loss(network, batch):
        seen = _features(network, batch.x)
        after, rewards = seen.roll(1, dims=0).detach(), batch.x[:, 0]
        head = float((network.last.weight.detach() ** 2).sum())
        terms = []
        for one, two, reward in zip(seen, after, rewards, strict=True):
            n1, n2 = float(one.detach().norm()), float(two.norm())
            bound = (n1**2 + (0.9 * n2) ** 2 - float(reward) ** 2 / head) / (2 * 0.9 * n1 * n2)
            terms.append((one @ two / (one.norm() * two.norm()) - bound).clamp_min(0))
        return cross_entropy(network.last(seen), batch.y) + 0.6 * torch.stack(terms).mean()

    return trained(bench, loss)

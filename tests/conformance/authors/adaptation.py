"""Loops of the family ``adaptation``."""

import copy

import torch
import torch.nn.functional as F
from authors.bench import BATCH, cross_entropy, descend, loop, trained
from torch.autograd import grad

LR = 0.1

# Domain generalisation: after DomainBed, which draws a mini-batch of every domain ------------------------------


def _by_domain(batch):
    """The batch apart by domain."""
    return [batch.others["domains"] == domain for domain in batch.others["domains"].unique()]


def _annealed(bench, terms, before, strength, switch):
    """Weight ``before`` until the switch, where the optimizer is made anew; risks of domains count alike."""
    network, optimizer = bench.start()
    for batch in bench.batches():
        logits, members = network(batch.x), _by_domain(batch)
        risk = sum(cross_entropy(logits[m], batch.y[m]) for m in members) / len(members)
        weight = strength if batch.number >= switch else before
        if batch.number == switch:
            optimizer = bench.optimizer(network.parameters())
        descend(optimizer, risk + weight * terms(network, batch, logits, members))
    return network


@loop("invariant_risk_minimization", kind="domains", optimizer="adam", strength=3.0, anneal=4)
@loop("invariant_risk_minimization", kind="domains", strength=3.0, anneal=4)
@loop("invariant_risk_minimization", kind="domains", strength=3.0, total=30)  # the switch is after a tenth
@loop("invariant_risk_minimization", kind="domains", strength=3.0, anneal=2, unbiased=False)
def invariant_risk_minimization(bench, anneal=3, unbiased=True):
    def slope(logits, y):
        scale = torch.ones((), requires_grad=True)
        return grad(F.cross_entropy(logits * scale, y), scale, create_graph=True)[0]

    def terms(network, batch, logits, members):
        found = []
        for m in members:
            z, y = logits[m], batch.y[m]
            if not unbiased:
                found.append(slope(z, y) ** 2)
            elif len(z) == 1:
                found.append(torch.zeros(()))
            else:
                found.append(slope(z[::2], y[::2]) * slope(z[1::2], y[1::2]))
        return sum(found) / len(found)

    return _annealed(bench, terms, 1.0, 3.0, anneal)


@loop("risk_extrapolation", kind="domains", optimizer="adam", strength=5.0, anneal=4)
@loop("risk_extrapolation", kind="domains", strength=5.0, anneal=4)
def risk_extrapolation(bench):
    def terms(network, batch, logits, members):
        risks = torch.stack([cross_entropy(logits[m], batch.y[m]) for m in members])
        return ((risks - risks.mean()) ** 2).mean()

    return _annealed(bench, terms, 1.0, 5.0, 4)


@loop("inter_environment_gradient_alignment", kind="domains", strength=0.5)
def inter_environment_gradient_alignment(bench):
    """The authors add up over domains; the strength here is theirs times the number of domains."""

    def terms(network, batch, logits, members):
        parameters = list(network.parameters())
        grads = [grad(cross_entropy(logits[m], batch.y[m]), parameters, create_graph=True) for m in members]
        mean = [sum(each) / len(members) for each in zip(*grads, strict=True)]
        apart = [sum(((g - m) ** 2).sum() for g, m in zip(each, mean, strict=True)) for each in grads]
        return sum(apart) / len(members)

    return _annealed(bench, terms, 0.5, 0.5, 0)


@loop("fishr", kind="domains", optimizer="adam", strength=20.0, decay=0.9, anneal=3)
@loop("fishr", kind="domains", strength=2.0, decay=0.9, anneal=0)
def fishr(bench, strength, anneal):
    """Variances of single examples' gradients in the head, with a moving average per domain."""
    averages = {}

    def terms(network, batch, logits, members):
        head = [network.last.weight, network.last.bias]
        singles = [
            torch.cat([g.flatten() for g in grad(cross_entropy(z[None], y[None]), head, create_graph=True)])
            for z, y in zip(logits, batch.y, strict=True)
        ]
        variances, gradients = [], torch.stack(singles)
        for m in members:
            domain = int(batch.others["domains"][m][0])
            variance = ((gradients[m] - gradients[m].mean(dim=0)) ** 2).mean(dim=0)
            moved = 0.9 * averages.get(domain, 0.0) + 0.1 * variance
            averages[domain] = moved.detach()
            variances.append(moved / 0.1)
        mean = sum(variances) / len(variances)
        return sum(((v - mean) ** 2).mean() for v in variances) / len(variances)

    return _annealed(bench, terms, 0.0, strength, anneal)


@loop("fish", kind="domains", step=0.4)
@loop("fish", kind="domains", optimizer="adam", step=0.4)
def fish(bench):
    """Inner steps on every domain in turn, whose optimizer goes on, then part of the way."""
    network, _ = bench.start()
    inner = copy.deepcopy(network)
    optimizer = bench.optimizer(inner.parameters())
    for batch in bench.batches():
        inner.load_state_dict(network.state_dict())
        for m in _by_domain(batch):
            descend(optimizer, cross_entropy(inner(batch.x[m]), batch.y[m]))
        with torch.no_grad():
            for own, moved in zip(network.parameters(), inner.parameters(), strict=True):
                own += 0.4 * (moved - own)
    return network


@loop("correlation_alignment", kind="domains", strength=0.7)
@loop("correlation_alignment", kind="domains", strength=0.7, include_mean=False)
def correlation_alignment(bench, include_mean=True):
    def terms(network, batch, logits, members):
        seen = network.relu2(network.second(network.relu1(network.first(batch.x))))
        if len(members) < 2:
            return torch.zeros(())
        one, two = (seen[m] for m in members)
        covariances = [torch.cov(x.T, correction=1) if len(x) > 1 else torch.zeros(6, 6) for x in (one, two)]
        apart = ((covariances[0] - covariances[1]) ** 2).mean()
        return apart + ((one.mean(0) - two.mean(0)) ** 2).mean() if include_mean else apart

    return _annealed(bench, terms, 0.7, 0.7, 0)


def _head_gradients(network, batch, members):
    """Gradients in the head of every domain's risk, with their graph, as vectors; and the risks."""
    seen = network.relu2(network.second(network.relu1(network.first(batch.x))))
    head = [network.last.weight, network.last.bias]
    risks = [cross_entropy(network.last(seen[m]), batch.y[m]) for m in members]
    return [_vector(grad(risk, head, create_graph=True)) for risk in risks], head


def _vector(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors])


@loop("hessian_gradient_alignment", kind="domains", alpha=0.8, beta=0.6)
def hessian_gradient_alignment(bench):
    """HGP: the gradient of half the squared gradient is the Hessian times the gradient."""

    def terms(network, batch, logits, members):
        gradients, head = _head_gradients(network, batch, members)
        mean = sum(gradients) / len(gradients)
        products = [_vector(grad((g @ g) / 2, head, create_graph=True)) for g in gradients]
        centre = _vector(grad((mean @ mean) / 2, head, retain_graph=True)).detach()
        hessian = sum(((p - centre) ** 2).sum() for p in products) / len(members)
        return 0.8 * hessian + 0.6 * sum(((g - mean.detach()) ** 2).sum() for g in gradients) / len(members)

    return _annealed(bench, terms, 1.0, 1.0, 0)


@loop("hessian_diagonal_alignment", kind="domains", alpha=0.8, beta=0.6, draws=3)
def hessian_diagonal_alignment(bench):
    """Hutchinson's estimates of the diagonals, with signs that all domains share."""

    def terms(network, batch, logits, members):
        gradients, head = _head_gradients(network, batch, members)
        mean = (sum(gradients) / len(gradients)).detach()
        signs = 2.0 * (batch.rand(3, len(mean)) < 0.5) - 1
        diagonals = [
            sum(z * _vector(grad(g @ z, head, create_graph=True)) for z in signs) / len(signs) for g in gradients
        ]
        centre = (sum(diagonals) / len(members)).detach()
        hessian = sum(((d - centre) ** 2).sum() for d in diagonals) / len(members)
        return 0.8 * hessian + 0.6 * sum(((g - mean) ** 2).sum() for g in gradients) / len(members)

    return _annealed(bench, terms, 1.0, 1.0, 0)


# Flatness ------------------------------------------------------------------------------------------------------


@loop("sam", kind="normalised", rho=0.2)
@loop("sam", kind="normalised", rho=1.0, adaptive=True)
def sam(bench, rho, adaptive=False):
    """Foret et al., and Kwon et al.: up by rho along the gradient, back, and a step with what was found there."""
    network, optimizer = bench.start()
    for batch in bench.batches():
        optimizer.zero_grad()
        cross_entropy(network(batch.x), batch.y).backward()
        parameters = list(network.parameters())
        before = [p.detach().clone() for p in parameters]
        scales = [p.detach().abs() if adaptive else torch.ones_like(p) for p in parameters]
        norm = torch.cat([(s * p.grad).flatten() for s, p in zip(scales, parameters, strict=True)]).norm()
        with torch.no_grad():
            for p, s in zip(parameters, scales, strict=True):
                p += rho * s**2 * p.grad / (norm + 1e-12)
        statistics = copy.deepcopy(dict(network.named_buffers()))
        optimizer.zero_grad()
        cross_entropy(network(batch.x), batch.y).backward()
        with torch.no_grad():
            for p, start in zip(parameters, before, strict=True):
                p.copy_(start)
            for name, buffer in network.named_buffers():
                buffer.copy_(statistics[name])
        optimizer.step()
    return network


# Continual learning --------------------------------------------------------------------------------------------


def _continual(bench, term, boundary=lambda network, batch: None):
    """The usual loop over stages; ``boundary`` sees the network at the end of every stage but the last."""
    network, optimizer = bench.start()
    old, stage = None, 0
    for batch in bench.batches():
        if batch.others["stage"] != stage:
            boundary(network, stage)
            old, stage = copy.deepcopy(network), batch.others["stage"]
        logits = network(batch.x)
        loss = cross_entropy(logits, batch.y)
        descend(optimizer, loss if old is None else loss + term(network, old, batch, logits))
    return network


@loop("ewc", kind="three stages", strength=2.0, samples=1000, mode="separate")
@loop("ewc", kind="three stages", strength=2.0, samples=1000, decay=0.7)
def ewc(bench, mode="online"):
    """Squared gradients of single examples. Kirkpatrick et al.: a term for every task that is over; online, one
    anchor and what is left of the information before."""
    terms = []

    def boundary(network, stage):
        train, index = bench.objective.splits()["train"], bench.objective.stages()[stage].index
        fisher = [torch.zeros_like(p) for p in network.parameters()]
        for x, y in zip(train["inputs"][index], train["labels"][index], strict=True):
            single = grad(cross_entropy(network(x[None]), y[None]), list(network.parameters()))
            fisher = [t + g**2 / len(index) for t, g in zip(fisher, single, strict=True)]
        if mode == "online" and terms:
            fisher = [new + 0.7 * before for new, before in zip(fisher, terms.pop()[0], strict=True)]
        terms.append((fisher, [p.detach().clone() for p in network.parameters()]))

    def term(network, old, batch, logits):
        total = 0.0
        for fisher, anchor in terms:
            moved = zip(fisher, network.parameters(), anchor, strict=True)
            total = total + sum((f * (p - before) ** 2).sum() for f, p, before in moved)
        return 2.0 * total

    return _continual(bench, term, boundary)


@loop("l2_to_old_parameters", kind="stages", strength=0.5)
def l2_to_old_parameters(bench):
    def term(network, old, batch, logits):
        moved = zip(network.parameters(), old.parameters(), strict=True)
        return 0.5 * sum(((p - before.detach()) ** 2).sum() for p, before in moved)

    return _continual(bench, term)


@loop("old_feature_distillation", kind="stages", strength=0.5)
def old_feature_distillation(bench):
    def term(network, old, batch, logits):
        features = [n.relu2(n.second(n.relu1(n.first(batch.x)))) for n in (network, old)]
        return 0.5 * ((features[0] - features[1].detach()) ** 2).sum(dim=1).mean()

    return _continual(bench, term)


@loop("prediction_distillation", kind="stages", strength=0.9, temperature=2.0)
@loop("prediction_distillation", kind="stages", strength=0.9, temperature=2.0, link="sigmoid")
def prediction_distillation(bench, link="softmax"):
    """Learning without forgetting: the old network's answers among the classes that it has seen."""
    seen = [0, 1]

    def term(network, old, batch, logits):
        new, taught = logits[:, seen] / 2.0, old(batch.x).detach()[:, seen] / 2.0
        if link == "softmax":
            return 0.9 * cross_entropy(new, taught.softmax(dim=1))
        return 0.9 * F.binary_cross_entropy_with_logits(new, taught.sigmoid(), reduction="none").sum(1).mean()

    return _continual(bench, term)


@loop("experience_replay", weight=0.7, capacity=12, replayed=1)
def experience_replay(bench):
    """A reservoir by random keys; as many examples of it as the batch has are learned beside."""
    network, optimizer = bench.start()
    memory = []
    for batch in bench.batches():
        keys = batch.rand(BATCH)
        loss = cross_entropy(network(batch.x), batch.y)
        if memory:
            chosen = [memory[i] for i in batch.rand(len(memory)).argsort()[:BATCH].tolist()]
            x, y = (torch.stack([entry[part] for entry in chosen]) for part in (1, 2))
            loss = loss + 0.7 * cross_entropy(network(x), y)
        descend(optimizer, loss)
        memory += list(zip(keys.tolist(), batch.x, batch.y, strict=True))
        memory = sorted(memory, key=lambda entry: -entry[0])[:12]
    return network


# Preferences and symmetries ------------------------------------------------------------------------------------


@loop("dpo", kind="shaped", strength=0.9, beta=0.3, label_smoothing=0.1)
def dpo(bench):
    """Class 0 is the preferred response, class 1 the other one."""
    reference = bench.networks(1)[0]

    def loss(network, batch):
        logits = network(batch.x)
        own, before = logits.log_softmax(dim=1), reference(batch.x).detach().log_softmax(dim=1)
        reward = 0.3 * ((own[:, 0] - before[:, 0]) - (own[:, 1] - before[:, 1]))
        term = -(0.9 * reward.sigmoid().log() + 0.1 * (-reward).sigmoid().log())
        return cross_entropy(logits, batch.y) + 0.9 * term.mean()

    return trained(bench, loss)


@loop("kl_to_reference", kind="shaped", strength=0.9)
@loop("kl_to_reference", kind="shaped", strength=0.9, direction="reference")
def kl_to_reference(bench, direction="policy"):
    """Two tokens per example, of which every second example has one."""
    reference = bench.networks(1)[0]

    def loss(network, batch):
        logits, old = network(batch.x), reference(batch.x).detach()
        total = 0.0
        for factor, counts in ((1.0, torch.ones(BATCH)), (2.0, torch.arange(BATCH) % 2)):
            p, q = ((factor * z).log_softmax(dim=1) for z in (logits, old))
            p, q = (p, q) if direction == "policy" else (q, p)
            total = total + (counts * (p.exp() * (p - q)).sum(dim=1)).mean()
        return cross_entropy(logits, batch.y) + 0.9 * total

    return trained(bench, loss)


@loop("soft_equivariance", kind="shaped", strength=0.3)
def soft_equivariance(bench):
    """The group has two elements: nothing, and reversing the order of whatever a layer sees and puts out."""

    def loss(network, batch):
        total = 0.0
        for layer in (network.first, network.second, network.last):
            w, b = layer.weight, layer.bias
            total = total + ((w - (w + w.flip(0, 1)) / 2) ** 2).sum() + ((b - (b + b.flip(0)) / 2) ** 2).sum()
        return cross_entropy(network(batch.x), batch.y) + 0.3 * total / 2

    return trained(bench, loss)

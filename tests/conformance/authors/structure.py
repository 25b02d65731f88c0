"""Loops of the family ``structure``."""

import copy
import math

import torch
import torch.nn.functional as F
from authors.bench import BATCH, CLASSES, LAYERS, cross_entropy, descend, loop, trained, weights_of
from torch import nn

from selftune.training.seeds import seed_of

LR = 0.1


def _plain(network, batch):
    return cross_entropy(network(batch.x), batch.y)


# Aggregation of workers' gradients ---------------------------------------------------------------------------


def _by_workers(bench, workers, combine):
    """Every worker has a part of the batch; a step on what is made of their gradients."""
    network, optimizer = bench.start()
    parameters = list(network.parameters())
    for batch in bench.batches():
        rows = []
        for part in torch.arange(BATCH).tensor_split(workers):
            found = torch.autograd.grad(cross_entropy(network(batch.x[part]), batch.y[part]), parameters)
            rows.append(torch.cat([g.flatten() for g in found]))
        combined = combine(torch.stack(rows)).split([p.numel() for p in parameters])
        for p, g in zip(parameters, combined, strict=True):
            p.grad = g.view_as(p)
        optimizer.step()
    return network


@loop("mean_aggregation", workers=4, changes=False)
def mean_aggregation(bench):
    return _by_workers(bench, 4, lambda rows: rows.mean(dim=0))


@loop("trimmed_mean", workers=5, faulty=1)
def trimmed_mean(bench):
    return _by_workers(bench, 5, lambda rows: rows.sort(dim=0).values[1:-1].mean(dim=0))


@loop("coordinate_median", workers=4)
@loop("coordinate_median", workers=5)
def coordinate_median(bench, workers):
    return _by_workers(bench, workers, lambda rows: rows.quantile(0.5, dim=0))


def _krum_scores(rows, left, neighbours):
    """Sums of squared distances to the nearest neighbours among those that are left, by worker."""
    scores = {}
    for i in left:
        distances = sorted(float(((rows[i] - rows[j]) ** 2).sum()) for j in left if j != i)
        scores[i] = sum(distances[:neighbours])
    return scores


@loop("krum", workers=8, faulty=2)
def krum(bench):
    def combine(rows):
        scores = _krum_scores(rows, range(8), 8 - 2 - 2)
        return rows[min(scores, key=scores.get)]

    return _by_workers(bench, 8, combine)


@loop("multi_krum", workers=8, faulty=1, selected=3)
def multi_krum(bench):
    def combine(rows):
        scores = _krum_scores(rows, range(8), 8 - 1 - 2)
        return rows[sorted(scores, key=scores.get)[:3]].mean(dim=0)

    return _by_workers(bench, 8, combine)


@loop("flag_aggregation", workers=8, rank=2, iterations=3)
def flag_aggregation(bench):
    """Singular vectors of directions that are reweighted by what the last subspace left out of them."""

    def combine(rows):
        units = (rows / rows.norm(dim=1, keepdim=True)).double().T
        basis = torch.linalg.svd(units, full_matrices=False)[0][:, :2]
        for _ in range(3):
            left_out = (1 - (basis.T @ units).square().sum(dim=0)).clamp_min(0)
            turned = torch.linalg.svd(units * (left_out + 1e-7) ** -0.25, full_matrices=False)[0][:, :2]
            now_left_out = (1 - (turned.T @ units).square().sum(dim=0)).clamp_min(0)
            if left_out.sqrt().sum() - now_left_out.sqrt().sum() <= 1e-10:
                break
            basis = turned
        return (basis @ (basis.T @ units.mean(dim=1))).to(rows.dtype)

    return _by_workers(bench, 8, combine)


@loop("bulyan", workers=8, faulty=1)
def bulyan(bench):
    """Krum picks one after the other; then the values next to their median are averaged."""

    def combine(rows):
        left, picked = list(range(8)), []
        while len(picked) < 8 - 2:
            scores = _krum_scores(rows, left, max(len(left) - 1 - 2, 1))
            totals = _krum_scores(rows, left, len(left) - 1)
            best = min(scores.values())
            winner = min(
                (i for i in left if scores[i] <= best), key=totals.get
            )  # two may be as close to each other
            picked.append(winner)
            left.remove(winner)
        chosen = rows[picked]
        near = (chosen - chosen.quantile(0.5, dim=0)).abs().argsort(dim=0)[: len(picked) - 2]
        return chosen.gather(0, near).mean(dim=0)

    return _by_workers(bench, 8, combine)


@loop("geometric_median", workers=8, iterations=1000, slack=1e4)
def geometric_median(bench):
    """Weiszfeld's iteration until it stands still."""

    def combine(rows):
        point = rows.mean(dim=0)
        for _ in range(1000):
            weights = 1 / (rows - point).norm(dim=1).clamp_min(1e-6)
            point = weights @ rows / weights.sum()
        return point

    return _by_workers(bench, 8, combine)


# Sparsity ------------------------------------------------------------------------------------------------------


def _smallest(weight, share):
    """Mask of all but the share of the smallest magnitudes."""
    keep = torch.ones(weight.numel(), dtype=torch.bool)
    keep[weight.abs().flatten().argsort(stable=True)[: int(share * weight.numel())]] = False
    return keep.view(weight.shape)


@loop("magnitude_pruning", sparsity=0.5, every=3)
@loop("magnitude_pruning", sparsity=0.5, every=3, scope="layer")
@loop("magnitude_pruning", sparsity=0.5, every=1, scope="layer", begin=0.1, end=0.3, initial=0.1)
def magnitude_pruning(bench, every, scope="global", begin=0.0, end=0.0):
    """Pruned every so often; in between what was pruned gets no gradient. Zhu and Gupta's cubic growth."""
    masks = {}

    def before(network, batch):
        for w in weights_of(network):
            if batch.number % every:
                w.grad *= w != 0

    def after(network, batch):
        weights, share = weights_of(network), 0.5
        if end:
            share += (0.1 - 0.5) * (1 - min(max((batch.number / bench.total - begin) / (end - begin), 0), 1)) ** 3
        if batch.number % every == 0:
            if scope == "layer":
                found = [_smallest(w, share) for w in weights]
            else:
                together = _smallest(torch.cat([w.flatten() for w in weights]), share)
                pieces = together.split([w.numel() for w in weights])
                found = [piece.view_as(w) for piece, w in zip(pieces, weights, strict=True)]
            masks.update(enumerate(found))
        for number, w in enumerate(weights):
            w *= masks[number]

    return trained(bench, _plain, before, after)


def _sparse_start(bench, density):
    """The network, and random masks: a layer is the denser the smaller it is (ERK, no layer full here)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(0, 0, "network", 0))
        network = bench.objective.network()
        weights = weights_of(network)
        raw = [sum(w.shape) / w.numel() for w in weights]
        budget = density * sum(w.numel() for w in weights)
        scale = budget / sum(r * w.numel() for r, w in zip(raw, weights, strict=True))
        assert scale * max(raw) < 1
        active = [round(scale * r * w.numel()) for r, w in zip(raw, weights, strict=True)]
        masks = [(torch.randperm(w.numel()) < a).view(w.shape) for w, a in zip(weights, active, strict=True)]
    return network, masks


def _sparsely(bench, network, masks, update=None):
    optimizer = bench.optimizer(network.parameters())
    weights = weights_of(network)
    for w, m in zip(weights, masks, strict=True):
        w.data *= m
    for batch in bench.batches():
        optimizer.zero_grad()
        _plain(network, batch).backward()
        dense = [w.grad.clone() for w in weights]
        for w, m in zip(weights, masks, strict=True):
            w.grad *= m
        optimizer.step()
        if update is not None:
            update(batch, optimizer, weights, masks, dense)
        for w, m in zip(weights, masks, strict=True):
            w.data *= m
    return network


@loop("erdos_renyi_sparsity", density=0.4)
def erdos_renyi_sparsity(bench):
    return _sparsely(bench, *_sparse_start(bench, 0.4))


_ERK = {"erdos_renyi_sparsity": {"density": 0.4}}


@loop("dynamic_sparse_training", beside=_ERK, drop_fraction=0.4, every=2, stop=0.75)
@loop("dynamic_sparse_training", beside=_ERK, drop_fraction=0.4, every=3, stop=0.75, growth="random")
def dynamic_sparse_training(bench, every, growth="gradient"):
    """RigL and SET: smallest weights go, others come from zero and without momentum. A step is never left out."""

    def update(batch, optimizer, weights, masks, dense):
        progress = batch.number / bench.total
        if batch.number == 0 or batch.number % every or progress >= 0.75:
            return
        fraction = 0.4 / 2 * (1 + math.cos(math.pi * progress / 0.75))
        for number, (w, m) in enumerate(zip(weights, masks, strict=True)):
            scores = dense[number].abs() if growth == "gradient" else batch.rand(*w.shape)
            w.data *= m
            count = int(m.sum())
            drop = int(fraction * count)
            order = w.abs().where(m, -1.0).flatten().argsort(descending=True, stable=True)
            new = torch.zeros(w.numel(), dtype=torch.bool)
            new[order[: count - drop]] = True
            candidates = scores.flatten().where(~new, -1.0).argsort(descending=True, stable=True)
            new[candidates[:drop]] = True
            grown = new.view_as(m) & ~m
            masks[number] = new.view_as(m)
            optimizer.state[w]["momentum_buffer"][grown] = 0

    return _sparsely(bench, *_sparse_start(bench, 0.4), update)


def _rows(network):
    return [network.first.weight, network.second.weight]


@loop("group_sparse_envelope", parts={"body": ["first", "second"]}, strength=0.3, sparsity=0.5)
def group_sparse_envelope(bench):
    """Half the squared k-support norm of the rows' norms, k = 3, in its closed form."""

    def term(weight):
        norms = weight.norm(dim=1).sort(descending=True).values
        for r in range(3):
            head, tail = norms[: 3 - r - 1], norms[3 - r - 1 :]
            level = tail.sum() / (r + 1)
            if (not len(head) or head[-1] > level) and level >= tail[0]:
                return 0.5 * ((head**2).sum() + tail.sum() ** 2 / (r + 1))
        raise AssertionError("one of them is the norm")

    return trained(bench, lambda net, b: _plain(net, b) + 0.3 * sum(term(w) for w in _rows(net)))


@loop("group_sparse_envelope_proximal", parts={"body": ["first", "second"]}, strength=0.7, sparsity=0.5)
def group_sparse_envelope_proximal(bench):
    """The minimiser of half the squared distance plus the envelope; shares of three rows are found by halving."""
    strength = LR * 0.7

    def after(network, batch):
        for weight in _rows(network):
            norms = weight.norm(dim=1)
            low, high = 0.0, 1e3
            for _ in range(200):
                middle = (low + high) / 2
                enough = (norms * middle - strength).clamp(0, 1).sum() >= 3
                low, high = (low, middle) if enough else (middle, high)
            shares = (norms * high - strength).clamp(0, 1)
            weight *= (shares / (shares + strength))[:, None]

    return trained(bench, _plain, after=after)


# Rank ------------------------------------------------------------------------------------------------------------


@loop("nuclear_norm", strength=0.05, every=2)
def nuclear_norm(bench):
    def loss(network, batch):
        if batch.number % 2:
            return _plain(network, batch)
        return _plain(network, batch) + 0.05 * sum(torch.linalg.matrix_norm(w, "nuc") for w in weights_of(network))

    return trained(bench, loss)


@loop("rank_truncation", energy=0.8, every=3)
def rank_truncation(bench):
    def after(network, batch):
        if batch.number % 3:
            return
        for w in weights_of(network):
            u, s, v = torch.linalg.svd(w, full_matrices=False)
            rank = next(r for r in range(1, len(s) + 1) if (s[:r] ** 2).sum() >= 0.8 * (s**2).sum())
            w.copy_((u[:, :rank] * s[:rank]) @ v[:rank])

    return trained(bench, _plain, after=after)


class _Factored(nn.Module):
    """A layer whose weight is computed of other tensors."""

    def __init__(self, layer, tensors, weight):
        super().__init__()
        self.bias, self._weight = layer.bias, weight
        self.factors = nn.ParameterDict(tensors)

    @property
    def weight(self):
        return self._weight(**self.factors)

    def forward(self, x):
        return F.linear(x, self.weight, self.bias)


def _factored(network, layers, tensors, weight):
    """Puts computed weights into layers, as functions of new tensors and of the weight at the start."""
    for layer in layers:
        module = network.get_submodule(layer)
        start = module.weight.detach().clone()
        new = {name: nn.Parameter(value) for name, value in tensors(start).items()}
        setattr(network, layer, _Factored(module, new, lambda start=start, **given: weight(start, **given)))


def _state(network):
    """Plain tensors by name."""
    return {f"{name}.{kind}": getattr(network.get_submodule(name), kind) for name in LAYERS for kind in _KINDS}


_KINDS = ("weight", "bias")


@loop("low_rank_adaptation", rank=2, alpha=3.0)
def low_rank_adaptation(bench):
    """LoRA: B at zero, A by Kaiming's rule; the head and biases are trained as they are."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(0, 0, "network", 0))
        network = bench.objective.network()

        def tensors(weight):
            down = torch.empty(2, weight.shape[1])
            nn.init.kaiming_uniform_(down, a=math.sqrt(5))
            return {"up": torch.zeros(len(weight), 2), "down": down}

        _factored(network, LAYERS[:-1], tensors, lambda start, up, down: start + 3.0 / 2 * up @ down)
    optimizer = bench.optimizer(network.parameters())
    for batch in bench.batches():
        descend(optimizer, _plain(network, batch))
    return _state(network)


def _thin(weight, ratio=2.0):
    rows, columns = weight.shape
    rank = max(1, int(rows * columns / (ratio * (rows + columns))))
    u, s, v = torch.linalg.svd(weight, full_matrices=False)
    return {"left": u[:, :rank] * s[:rank].sqrt(), "right": s[:rank, None].sqrt() * v[:rank]}


@loop("low_rank_factorization", kind="wide", compression_ratio=2.0)
@loop("layer_distillation", kind="wide", beside={"low_rank_factorization": {}}, strength=0.4)
@loop("weight_perturbation", kind="wide", beside={"low_rank_factorization": {}}, strength=3.0, radius=0.1)
def low_rank_factorization(bench, strength=None, radius=None):
    """PELA: thin factors, features close to those of the network before, weights at a distance from its own."""
    network, optimizer = bench.start()
    whole = copy.deepcopy(network)
    _factored(network, LAYERS[:-1], _thin, lambda start, left, right: left @ right)
    optimizer = bench.optimizer(network.parameters())
    for batch in bench.batches():
        loss, x, y = _plain(network, batch), batch.x, batch.x
        if radius is not None:
            apart = [
                (network.get_submodule(n).weight - whole.get_submodule(n).weight.detach()).abs().max()
                for n in LAYERS[:-1]
            ]
            loss = loss + strength * sum((a - radius) ** 2 for a in apart) / 2
        elif strength is not None:
            for name in LAYERS:
                x, y = network.get_submodule(name)(x), whole.get_submodule(name)(y).detach()
                loss = loss + strength * F.mse_loss(x, y) / 3
                x, y = x.relu(), y.relu()
        descend(optimizer, loss)
    return _state(network)


@loop("ordered_low_rank", beside={"hierarchical_group_lasso": {"strength": 0.05}}, threshold=0.6, sampler="single")
@loop(
    "hierarchical_group_lasso",
    beside={"ordered_low_rank": {"threshold": 0.6, "sampler": "independent"}},
    strength=0.05,
)
def maestro(bench, sampler="independent"):
    """Maestro: a pass of a random width beside the full one, tails that cost, shrinking after every epoch."""
    network, _ = bench.start()
    names = LAYERS[:-1]

    def tensors(weight):
        u, s, v = torch.linalg.svd(weight, full_matrices=False)
        return {"up": u * s.sqrt(), "down": s.sqrt()[:, None] * v}

    _factored(network, names, tensors, lambda start, up, down: up @ down)
    layers = [network.get_submodule(name) for name in names]
    optimizer, ranks, epoch = bench.optimizer(network.parameters()), [4, 6], 0

    def tails(layer):
        up, down = layer.factors["up"], layer.factors["down"]
        return [(up[:, j:].norm(), down[j:].norm()) for j in range(len(down))]

    def cut():
        for layer, rank in zip(layers, ranks, strict=True):
            layer.factors["up"].data[:, rank:] = 0
            layer.factors["down"].data[rank:] = 0

    for batch in bench.batches():
        if batch.epoch != epoch:
            epoch = batch.epoch
            for i, layer in enumerate(layers):
                ranks[i] = min(ranks[i], sum(float((u * d).detach()) >= 0.6 for u, d in tails(layer)))
            cut()
        logits = network(batch.x)
        loss = cross_entropy(logits, batch.y)
        loss = loss + 0.05 * sum(
            t for layer, r in zip(layers, ranks, strict=True) for p in tails(layer)[:r] for t in p
        )
        if sampler == "single":
            pairs = [(i, width) for i, rank in enumerate(ranks) for width in range(1, rank + 1)]
            chosen, width = pairs[int(batch.rand() * len(pairs))]
            widths = [width if i == chosen else rank for i, rank in enumerate(ranks)]
        else:
            widths = [int(batch.rand() * rank) + 1 for rank in ranks]
        hidden = batch.x
        for layer, width in zip(layers, widths, strict=True):
            weight = layer.factors["up"][:, :width] @ layer.factors["down"][:width]
            hidden = F.linear(hidden, weight, layer.bias).relu()
        descend(optimizer, loss + cross_entropy(network.last(hidden), logits.detach().softmax(dim=1)))
        cut()
    assert sum(ranks) < 10
    return _state(network)


@loop("weight_compander", amplitude=0.8, width=0.5)
@loop("weight_compander", amplitude=0.8, width=0.5, learned=True)
def weight_compander(bench, learned=False):
    network, _ = bench.start()

    def tensors(weight):
        found = {"inside": 0.5 * torch.tan((weight / 0.8).clamp(-1.5, 1.5))}
        return found | ({"a": torch.tensor(0.8).log(), "b": torch.tensor(0.5).log()} if learned else {})

    def weight(start, inside, a=None, b=None):
        return 0.8 * torch.atan(inside / 0.5) if a is None else a.exp() * torch.atan(inside / b.exp())

    _factored(network, LAYERS[:-1], tensors, weight)
    optimizer = bench.optimizer(network.parameters())
    for batch in bench.batches():
        descend(optimizer, _plain(network, batch))
    return _state(network)


@loop("quantization_noise", bits="4,8")
@loop("quantization_noise", bits="4", noise="uniform")
def quantization_noise(bench, bits, noise="gaussian"):
    """QuantNAS: values and noisy copies of them, one per bit width, mixed by shares that are learned."""
    network, _ = bench.start()
    layers = [network.first, network.second]
    widths = [int(b) for b in bits.split(",")]
    logits = [nn.Parameter(torch.zeros(len(widths))) for _ in layers]
    optimizer = bench.optimizer([*network.parameters(), *logits])

    def noisy(batch, values, shares):
        shape, own = (len(widths), *values.shape), 1 / (len(widths) + 1)
        draws = batch.randn(*shape) / 2 if noise == "gaussian" else batch.rand(*shape) - 0.5
        fixed, mixed = values.detach(), own * values
        for width, share, draw in zip(widths, shares / (shares.sum() + own), draws, strict=True):
            mixed = mixed + share * (fixed + (fixed.max() - fixed.min()) / (2**width - 1) * draw)
        return mixed

    for batch in bench.batches():
        hidden = batch.x
        for layer, own in zip(layers, logits, strict=True):
            seen = noisy(batch, hidden, own.softmax(0))
            hidden = F.linear(seen, noisy(batch, layer.weight, own.softmax(0)), layer.bias).relu()
        descend(optimizer, cross_entropy(network.last(hidden), batch.y))
    return network


# Logits and gradients --------------------------------------------------------------------------------------------


@loop("orthogonal_gradient", start=2, mix=0.7)
def orthogonal_gradient(bench):
    def before(network, batch):
        if batch.number < 2:
            return
        for p in network.parameters():
            w, g = p.detach().flatten(), p.grad.flatten()
            projected = g - (w @ g) / (w @ w) * w
            p.grad = (0.3 * g + 0.7 * projected * g.norm() / projected.norm()).view_as(p)

    return trained(bench, _plain, before)


@loop("stablemax_cross_entropy", mix=0.6)
def stablemax_cross_entropy(bench):
    def loss(network, batch):
        logits = network(batch.x)
        s = torch.where(logits >= 0, logits + 1, 1 / (1 - logits))
        stable = -(s[torch.arange(BATCH), batch.y] / s.sum(dim=1)).log().mean()
        return 0.4 * cross_entropy(logits, batch.y) + 0.6 * stable

    return trained(bench, loss)


def _from_reference(bench, term):
    reference = bench.networks(1)[0]

    def loss(network, batch):
        logits = network(batch.x)
        return cross_entropy(logits, batch.y) + term(logits, reference(batch.x).detach())

    return trained(bench, loss)


@loop("normalized_logit_consistency", strength=0.8)
def normalized_logit_consistency(bench):
    return _from_reference(bench, lambda z, r: 0.8 * F.mse_loss(F.normalize(z, dim=1), F.normalize(r, dim=1)))


@loop("reference_consistency", strength=0.8)
def reference_consistency(bench):
    def term(z, r):
        return 0.8 * F.kl_div(z.log_softmax(1), r.log_softmax(1), reduction="batchmean", log_target=True)

    return _from_reference(bench, term)


@loop("logit_decorrelation", strength=0.8)
def logit_decorrelation(bench):
    def loss(network, batch):
        logits = network(batch.x)
        squares = torch.cov(logits.T) ** 2
        return cross_entropy(logits, batch.y) + 0.8 * (squares.sum() - squares.trace()) / CLASSES

    return trained(bench, loss)


@loop("entropy_maximization", strength=0.5)
def entropy_maximization(bench):
    """BA-LoRA adds a tiny number to probabilities inside the logarithm."""

    def loss(network, batch):
        logits = network(batch.x)
        probs = logits.softmax(dim=1)
        return cross_entropy(logits, batch.y) + 0.5 * (probs * (probs + 1e-10).log()).sum(dim=1).mean()

    return trained(bench, loss)


@loop("top_singular_mass", strength=0.8, top=1)
def top_singular_mass(bench):
    def loss(network, batch):
        logits = network(batch.x)
        values = torch.linalg.svd(logits)[1]
        return cross_entropy(logits, batch.y) - 0.8 * values[0] / (values.sum() + 1e-10)

    return trained(bench, loss)


@loop("architecture_entropy", kind="shaped", strength=0.5, schedule=False)
def architecture_entropy(bench):
    def loss(network, batch):
        entropies = torch.distributions.Categorical(logits=network.second.weight[:2]).entropy()
        return _plain(network, batch) + 0.5 * entropies.sum()

    return trained(bench, loss)


@loop("adaptive_deviation", kind="images", slope=1.2)
def adaptive_deviation(bench):
    """AdaDM: a normalised branch gets the deviation of what it is added to."""

    class Rescaled(nn.Module):
        def __init__(self, block):
            super().__init__()
            self.branch, self.deviation_norm = block.branch, nn.BatchNorm2d(2)
            self.deviation = nn.ParameterDict({"slope": torch.tensor(1.2), "offset": torch.zeros(())})

        def forward(self, x):
            scale = self.deviation["slope"] * x.std(dim=(1, 2, 3), keepdim=True) + self.deviation["offset"]
            return x + self.branch(self.deviation_norm(x)) * scale

    network, _ = bench.start()
    network.block1, network.block2 = Rescaled(network.block1), Rescaled(network.block2)
    optimizer = bench.optimizer(network.parameters())
    for batch in bench.batches():
        descend(optimizer, _plain(network, batch))
    return network

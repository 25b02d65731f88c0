"""Loops of the family ``supervision``."""

import copy

import torch
import torch.nn.functional as F
from authors.bench import BATCH, CLASSES, EXAMPLES, cross_entropy, descend, loop, trained, weights_of
from selftune.objectives.mathematics.draws import symmetric_beta, truncated_normal

from selftune.training.seeds import seed_of

LR = 0.1

# What layers see and are -----------------------------------------------------------------------------------


def _with_masks(network, x, mask):
    """The MLP with masks on what its second and third layer see."""
    hidden = mask(network.relu1(network.first(x)))
    return network.last(mask(network.relu2(network.second(hidden))))


def _dropped(batch, rate):
    return lambda hidden: hidden * (batch.rand(*hidden.shape) >= rate) / (1 - rate)


@loop("dropout", rate=0.3)
def dropout(bench):
    return trained(bench, lambda net, b: cross_entropy(_with_masks(net, b.x, _dropped(b, 0.3)), b.y))


@loop("gaussian_dropout", rate=0.3)
def gaussian_dropout(bench):
    """Srivastava et al. (2014), section 10: factors from N(1, sigma), sigma the deviation of dropout's factors."""

    def noisy(batch):
        return lambda hidden: hidden + hidden * (0.3 / 0.7) ** 0.5 * batch.randn(*hidden.shape)

    return trained(bench, lambda net, b: cross_entropy(_with_masks(net, b.x, noisy(b)), b.y))


@loop("delayed_dropout", rate=0.4, start=0.1, ramp=0.2)
def delayed_dropout(bench):
    def loss(network, batch):
        rate = 0.4 * min(max((batch.number / bench.total - 0.1) / 0.2, 0.0), 1.0)
        return cross_entropy(_with_masks(network, batch.x, _dropped(batch, rate)), batch.y)

    return trained(bench, loss)


@loop("dropconnect", rate=0.3)
def dropconnect(bench):
    def loss(network, batch):
        hidden = network.relu1(network.first(batch.x))
        for layer in (network.second, network.last):
            kept = (batch.rand(*layer.weight.shape) >= 0.3) / 0.7
            hidden = F.linear(hidden, layer.weight * kept, layer.bias)
            hidden = hidden.relu() if layer is network.second else hidden
        return cross_entropy(hidden, batch.y)

    return trained(bench, loss)


@loop("nested_dropout", std=3.0, mean=1.0)
def nested_dropout(bench):
    """The number of features that stay is found by inverting its distribution function."""

    def loss(network, batch):
        hidden = network.relu2(network.second(network.relu1(network.first(batch.x))))
        k = torch.arange(1, 7).double()
        shares = torch.exp(-(((k - 1.0) / 3.0) ** 2))
        below = (shares / shares.sum()).cumsum(0)
        number = 1 + int((below[:-1] <= batch.rand(1)[0]).sum())
        return cross_entropy(network.last(hidden * (torch.arange(6) < number)), batch.y)

    return trained(bench, loss)


def _maps(network, x):
    return network.relu(network.norm(network.first(x)))


@loop("spatial_dropout", kind="images", rate=0.3)
def spatial_dropout(bench):
    def loss(network, batch):
        def drop(maps):
            return maps * ((batch.rand(*maps.shape[:2]) >= 0.3) / 0.7)[:, :, None, None]

        maps = network.relu(network.norm(drop(network.first(batch.x))))
        for block in (network.block1, network.block2):
            maps = maps + drop(block.branch(maps))
        return cross_entropy(network.last(maps.flatten(1)), batch.y)

    return trained(bench, loss)


@loop("stochastic_depth", kind="images", rate=0.4)
@loop("stochastic_depth", kind="images", rate=0.4, rule="constant")
def stochastic_depth(bench, rule="linear"):
    def loss(network, batch):
        maps = _maps(network, batch.x)
        for depth, block in enumerate((network.block1, network.block2), start=1):
            rate = 0.4 * depth / 2 if rule == "linear" else 0.4
            kept = (batch.rand(BATCH) >= rate) / (1 - rate)
            maps = maps + kept[:, None, None, None] * block.branch(maps)
        return cross_entropy(network.last(maps.flatten(1)), batch.y)

    return trained(bench, loss)


@loop("ghost_batch_norm", kind="images", ghost_size=3)
def ghost_batch_norm(bench):
    """Hoffer et al.: chunk after chunk goes through the normalisation layer."""

    def loss(network, batch):
        maps = network.first(batch.x)
        maps = torch.cat([network.norm(chunk) for chunk in maps.split(3)])
        maps = network.block2(network.block1(network.relu(maps)))
        return cross_entropy(network.last(maps.flatten(1)), batch.y)

    return trained(bench, loss)


# Inputs and targets ------------------------------------------------------------------------------------------


@loop("gaussian_input_noise", sigma=0.2)
def gaussian_input_noise(bench):
    return trained(bench, lambda net, b: cross_entropy(net(b.x + 0.2 * b.randn(*b.x.shape)), b.y))


def _share(batch, alpha, probability):
    """The larger share of a pair, from Beta(alpha, alpha); one where nothing is mixed."""
    lam = symmetric_beta(batch, torch.tensor(alpha))
    return lam if batch.rand() < probability else torch.ones(())


@loop("mixup", alpha=0.5, probability=0.8)
def mixup(bench):
    def loss(network, batch):
        lam = _share(batch, 0.5, 0.8)
        lam, partner = max(lam, 1 - lam), batch.permutation()
        logits = network(lam * batch.x + (1 - lam) * batch.x[partner])
        return lam * cross_entropy(logits, batch.y) + (1 - lam) * cross_entropy(logits, batch.y[partner])

    return trained(bench, loss)


def _paste(batch, images, others, lam):
    """CutMix: the box of the others in the images, and the share of the images that is left."""
    row, column = (int(torch.randint(6, (1,), generator=batch.generator)) for _ in range(2))
    half = int(6 * (1 - lam).sqrt()) // 2
    top, bottom, left, right = max(row - half, 0), min(row + half, 6), max(column - half, 0), min(column + half, 6)
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = others[:, :, top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / 36


@loop("cutmix", kind="images", alpha=1.0, probability=0.8)
def cutmix(bench):
    def loss(network, batch):
        partner = batch.permutation()
        mixed, kept = _paste(batch, batch.x, batch.x[partner], _share(batch, 1.0, 0.8))
        logits = network(mixed)
        return kept * cross_entropy(logits, batch.y) + (1 - kept) * cross_entropy(logits, batch.y[partner])

    return trained(bench, loss)


@loop("self_mix", kind="images", alpha=1.0, probability=0.8)
def self_mix(bench):
    def loss(network, batch):
        lam = _share(batch, 1.0, 0.8)
        return cross_entropy(network(_paste(batch, batch.x, batch.others["second_inputs"], lam)[0]), batch.y)

    return trained(bench, loss)


@loop("label_smoothing", epsilon=0.3)
def label_smoothing(bench):
    return trained(bench, lambda net, b: F.cross_entropy(net(b.x), b.y, label_smoothing=0.3))


@loop("label_noise", rate=0.5, seed=3)
@loop("label_noise", rate=0.5, seed=3, noise="asymmetric")
def label_noise(bench, noise="symmetric"):
    """The labels of the training split are spoilt once, before training."""
    uniform, offset = torch.rand(2, EXAMPLES, generator=torch.Generator().manual_seed(3))
    labels = bench.objective.splits()["train"]["labels"].clone()
    for i in range(EXAMPLES):
        if uniform[i] < 0.5:
            shift = 1 if noise == "asymmetric" else 1 + int(offset[i] * (CLASSES - 1))
            labels[i] = (labels[i] + shift) % CLASSES
    return trained(bench, lambda net, b: cross_entropy(net(b.x), labels[b.index]))


# Losses ------------------------------------------------------------------------------------------------------


@loop("confidence_penalty", strength=0.5)
@loop("confidence_penalty", strength=0.5, margin=1.0982)
def confidence_penalty(bench, margin=None):
    def loss(network, batch):
        logits = network(batch.x)
        entropy = torch.distributions.Categorical(logits=logits).entropy()
        term = -entropy if margin is None else (margin - entropy).clamp_min(0)
        return cross_entropy(logits, batch.y) + 0.5 * term.mean()

    return trained(bench, loss)


@loop("multiplicative_gradient_noise", sigma=0.7)
def multiplicative_gradient_noise(bench):
    """Hoffer et al.: every example's gradient times a random number of mean one."""
    network, optimizer = bench.start()
    for batch in bench.batches():
        noise = batch.randn(BATCH)
        optimizer.zero_grad()
        for i in range(BATCH):
            (
                (1 + 0.7 * noise[i]) / BATCH * cross_entropy(network(batch.x[i : i + 1]), batch.y[i : i + 1])
            ).backward()
        optimizer.step()
    return network


def _clamped(logits):
    return logits.softmax(dim=1).clamp(1e-4, 1 - 1e-4)


@loop("early_learning", strength=3.0, beta=0.7)
def early_learning(bench):
    table = torch.zeros(EXAMPLES, CLASSES)

    def loss(network, batch):
        logits = network(batch.x)
        probs = _clamped(logits)
        own = probs.detach()
        table[batch.index] = 0.7 * table[batch.index] + 0.3 * own / own.sum(dim=1, keepdim=True)
        term = (1 - (table[batch.index] * probs).sum(dim=1)).log().mean()
        return cross_entropy(logits, batch.y) + 3.0 * term

    return trained(bench, loss)


@loop("early_learning", beside={"mixup": {"alpha": 1.0}}, kind="normalised", strength=3.0, beta=0.7)
def early_learning_plus(bench):
    """ELR+ without its second network: the table from clean inputs, its rows mixed as inputs and labels are."""
    table = torch.zeros(EXAMPLES, CLASSES)

    def loss(network, batch):
        lam = _share(batch, 1.0, 1.0)
        lam, partner = max(lam, 1 - lam), batch.permutation()
        logits = network(lam * batch.x + (1 - lam) * batch.x[partner])
        with torch.no_grad():
            own = _clamped(copy.deepcopy(network)(batch.x))
        table[batch.index] = 0.7 * table[batch.index] + 0.3 * own / own.sum(dim=1, keepdim=True)
        rows = table[batch.index]
        rows = lam * rows + (1 - lam) * rows[partner]
        labels = lam * batch.truth + (1 - lam) * batch.truth[partner]
        return cross_entropy(logits, labels) + 3.0 * (1 - (rows * _clamped(logits)).sum(dim=1)).log().mean()

    return trained(bench, loss)


# Teachers ----------------------------------------------------------------------------------------------------


def _normalized_distillation(logits, teacher, y, gamma, temperature):
    """NKD: the target class weighted by the teacher's confidence, the others normalised by themselves."""
    terms = []
    for z, t, label in zip(logits, teacher, y, strict=True):
        others = torch.arange(CLASSES) != label
        student, taught = (v[others] / temperature for v in (z, t))
        target = -t.softmax(0)[label] * z.log_softmax(0)[label]
        rest = -(taught.softmax(0) * student.log_softmax(0)).sum()
        terms.append(target + gamma * temperature**2 * rest)
    return torch.stack(terms).mean()


_NKD = {"normalized_distillation": {"strength": 0.8, "gamma": 1.2, "temperature": 2.0}}


@loop("temporal_ensembling", beside=_NKD, beta=0.6)
def temporal_ensembling(bench):
    table = torch.zeros(EXAMPLES, CLASSES)

    def loss(network, batch):
        logits = network(batch.x)
        own = _clamped(logits.detach())
        table[batch.index] = 0.6 * table[batch.index] + 0.4 * own / own.sum(dim=1, keepdim=True)
        term = _normalized_distillation(logits, table[batch.index].log(), batch.y, 1.2, 2.0)
        return cross_entropy(logits, batch.y) + 0.8 * term

    return trained(bench, loss)


@loop("mean_teacher", beside=_NKD, decay=0.8)
@loop("mean_teacher", beside=_NKD, kind="normalised", decay=0.8, warm_up=True)
@loop("mean_teacher", beside=_NKD, kind="normalised", decay=0.8, statistics="batch")
@loop("normalized_distillation", beside={"mean_teacher": {"decay": 0.8}}, **_NKD["normalized_distillation"])
def mean_teacher(bench, warm_up=False, statistics="running"):
    teacher = bench.networks(1)[0]

    def loss(network, batch):
        logits = network(batch.x)
        with torch.no_grad():
            taught = copy.deepcopy(teacher).train(statistics == "batch")(batch.x)
        term = _normalized_distillation(logits, taught, batch.y, 1.2, 2.0)
        return cross_entropy(logits, batch.y) + 0.8 * term

    def after(network, batch):
        decay = min(1 - 1 / (batch.number + 1), 0.8) if warm_up else 0.8
        for own, new in zip(teacher.parameters(), network.parameters(), strict=True):
            own.copy_(decay * own + (1 - decay) * new)
        for own, new in zip(teacher.buffers(), network.buffers(), strict=True):
            own.copy_(new)

    return trained(bench, loss, after=after)


@loop("region_label_calibration", beside={"mean_teacher": {"decay": 0.5}}, lower=0.36, upper=0.42, smoothing=0.2)
def region_label_calibration(bench):
    """FerKD: soft labels where the teacher is sure, smoothed ones below, nothing where it is not sure at all."""
    teacher = bench.networks(1)[0]

    def loss(network, batch):
        with torch.no_grad():
            taught = teacher(batch.x).softmax(dim=1)
        losses, count = 0.0, 0
        for i, confidence in enumerate(taught.max(dim=1).values):
            if confidence < 0.36:
                continue
            target = taught[i] if confidence >= 0.42 else 0.8 * batch.truth[i] + 0.2 / CLASSES
            losses, count = losses + cross_entropy(network(batch.x[i : i + 1]), target[None]), count + 1
        return losses / count

    def after(network, batch):
        for own, new in zip(teacher.parameters(), network.parameters(), strict=True):
            own.copy_(0.5 * own + 0.5 * new)

    return trained(bench, loss, after=after)


@loop("progressive_self_distillation", total=7, final_weight=0.8)
def progressive_self_distillation(bench):
    """PS-KD: alpha is the same throughout an epoch, and reaches its final value in the last one."""
    predictions = {-1: bench.objective.targets(bench.objective.splits()["train"]["labels"]).clone()}

    def loss(network, batch):
        epoch, epochs = batch.epoch, 3
        alpha = 0.8 * (epoch + 1) / epochs
        logits = network(batch.x)
        targets = (1 - alpha) * batch.truth + alpha * predictions[epoch - 1][batch.index]
        predictions.setdefault(epoch, predictions[-1].clone())[batch.index] = logits.detach().softmax(dim=1)
        return cross_entropy(logits, targets)

    return trained(bench, loss)


@loop("self_distillation_targets", total=7, alpha=0.3, rounds=2)
def self_distillation_targets(bench):
    """Borup and Andersen: a network after the other, each from the start, with targets from the one before."""
    taught_by = None
    network, optimizer = bench.start()
    for batch in bench.batches():
        if batch.number == 4:  # the first step of the second half of seven
            taught_by, (network, optimizer) = network, bench.start()
        targets = batch.truth
        if taught_by is not None:
            targets = 0.3 * targets + 0.7 * taught_by(batch.x).softmax(dim=1).detach()
        descend(optimizer, cross_entropy(network(batch.x), targets))
    return network


@loop("ensemble_targets", members=2)
@loop("ensemble_targets", members=2, space="probabilities")
def ensemble_targets(bench, space="logits"):
    network, *members = bench.networks(3)
    optimizers = [bench.optimizer(each.parameters()) for each in (network, *members)]
    for batch in bench.batches():
        taught = [member(batch.x).detach() for member in members]
        if space == "logits":
            targets = (sum(taught) / 2).softmax(dim=1)
        else:
            targets = sum(each.softmax(dim=1) for each in taught) / 2
        for member, optimizer in zip(members, optimizers[1:], strict=True):
            descend(optimizer, cross_entropy(member(batch.x), batch.y))
        descend(optimizers[0], cross_entropy(network(batch.x), targets))
    return network


@loop("random_teacher", strength=0.7, student_temperature=0.8, teacher_temperature=0.5)
@loop("random_teacher", strength=0.7, student_temperature=0.8, teacher_temperature=0.5, alpha=0.4)
def random_teacher(bench, alpha=1.0, **_):
    network, teacher = bench.networks(2)
    with torch.no_grad():
        for own, taught in zip(network.parameters(), teacher.parameters(), strict=True):
            own.copy_((alpha * own + (1 - alpha) * taught) / (alpha**2 + (1 - alpha) ** 2) ** 0.5)
    optimizer = bench.optimizer(network.parameters())
    for batch in bench.batches():
        logits, taught = network(batch.x), (teacher(batch.x).detach() / 0.5).softmax(dim=1)
        descend(optimizer, cross_entropy(logits, batch.y) + 0.7 * cross_entropy(logits / 0.8, taught))
    return network


@loop("interpolated_initialization", alpha=0.4)
def interpolated_initialization(bench):
    network, drawn = bench.networks(2)
    with torch.no_grad():
        for own, new in zip(network.parameters(), drawn.parameters(), strict=True):
            own.copy_((0.6 * own + 0.4 * new) / (0.4**2 + 0.6**2) ** 0.5)
    optimizer = bench.optimizer(network.parameters())
    for batch in bench.batches():
        descend(optimizer, cross_entropy(network(batch.x), batch.y))
    return network


@loop("universal_self_distillation", alpha=0.9, beta=0.3, mu=0.2)
def universal_self_distillation(bench):
    """USKD: target labels from squared confidence, others by Zipf's law over ranks, a weak head half-way."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(0, 0, "network", 0))
        network, weak = bench.objective.network(), torch.nn.Linear(6, CLASSES)
    optimizer = bench.optimizer([*network.parameters(), *weak.parameters()])
    for batch in bench.batches():
        hidden = network.second(network.relu1(network.first(batch.x)))  # what the middle layer puts out
        logits, weak_logits = network.last(network.relu2(hidden)), weak(hidden)
        probs, weak_probs = logits.softmax(dim=1), weak_logits.softmax(dim=1)
        rows = torch.arange(BATCH)
        confidence = probs[rows, batch.y].detach() ** 2
        term = -0.9 * (confidence + 1 - confidence.mean()) * probs[rows, batch.y].log()
        smooth = 0.9 * batch.truth + 0.1 / CLASSES
        term = term - 0.2 * (smooth * weak_probs.log()).sum(dim=1)
        others = []
        for i, label in enumerate(batch.y):
            rest = torch.arange(CLASSES) != label
            shares = [p[i].detach() for p in (probs, weak_probs)]
            score = sum(p[rest] / (1 - p[label] + 1e-6) for p in shares)
            order = score.argsort(descending=True, stable=True)
            zipf = torch.empty(CLASSES - 1)
            zipf[order] = 1 / (1 + torch.arange(CLASSES - 1).double())
            others.append(-(zipf / zipf.sum() * logits[i][rest].log_softmax(0)).sum())
        term = term + 0.3 * torch.stack(others)
        descend(optimizer, cross_entropy(logits, batch.y) + term.mean())
    return network


@loop("adaptive_mixup", beside={"intrusion_loss": {"strength": 0.6}}, relative_rate=0.5)
@loop("intrusion_loss", beside={"adaptive_mixup": {"relative_rate": 0.5}}, strength=0.6)
def adaptive_mixup(bench):
    """AdaMixup: the first half is mixed with ratios of a policy; a discriminator tells mixed from real inputs."""
    half = BATCH // 2
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(0, 0, "network", 0))
        network = bench.objective.network()
        policy = torch.nn.Sequential(bench.objective.network(), torch.nn.Linear(CLASSES, 3))
        heads = torch.nn.Sequential(torch.nn.Linear(6, CLASSES), torch.nn.Linear(CLASSES, 2))
    optimizer = bench.optimizer([*network.parameters(), *heads.parameters()])
    of_policy = torch.optim.SGD(policy.parameters(), lr=0.5 * LR)
    for batch in bench.batches():
        partner = torch.randperm(half, generator=batch.generator)
        noise = truncated_normal(batch, 2, half, 4)
        first, second = batch.x[:half], batch.x[:half][partner]
        start, width, _ = policy((noise[0] * first + noise[1] * second) / 2).softmax(dim=1).unbind(dim=1)
        ratio = (start + width * batch.rand(half))[:, None]
        inputs = torch.cat([ratio * first + (1 - ratio) * second, batch.x[half:]])
        targets = ratio * batch.truth[:half] + (1 - ratio) * batch.truth[:half][partner]
        features = network.relu2(network.second(network.relu1(network.first(inputs))))
        real = torch.arange(BATCH) >= half
        of_policy.zero_grad()
        loss = cross_entropy(network.last(features), torch.cat([targets, batch.truth[half:]]))
        descend(optimizer, loss + 0.6 * cross_entropy(heads(features), real.long()))
        of_policy.step()
    return network


@loop("co_teaching", total=7, forget_rate=0.5, ramp=3)
@loop("co_teaching", total=7, forget_rate=0.5, ramp=3, split_batch=True)
def co_teaching(bench, split_batch=False):
    """Han et al.: each network steps on the examples with the smallest losses of the other. Chen et al. show each
    network one half of the batch, of which the other one gets the choice."""
    first, second = bench.networks(2)
    optimizers = [bench.optimizer(each.parameters()) for each in (first, second)]
    for batch in bench.batches():
        rate = 0.5 * min(1.0, batch.epoch / 2)
        halves = torch.arange(BATCH).chunk(2) if split_batch else [torch.arange(BATCH)] * 2
        keep = int((1 - rate) * len(halves[0]) + 1e-9)
        losses = [F.cross_entropy(each(batch.x), batch.y, reduction="none") for each in (first, second)]
        chosen = [half[each[half].detach().argsort()[:keep]] for half, each in zip(halves, losses, strict=True)]
        for optimizer, own, of_other in zip(optimizers, losses, reversed(chosen), strict=True):
            descend(optimizer, own[of_other].mean())
    return first


@loop(
    "augmentation_averaged_targets",
    kind="normalised",
    beside={"mean_teacher": {"decay": 0.9}, "stochastic_restore": {"rate": 0.3}},
    threshold=0.42,
    noise=0.3,
    views=3,
)
@loop(
    "stochastic_restore",
    kind="normalised",
    beside={
        "mean_teacher": {"decay": 0.9},
        "augmentation_averaged_targets": {"threshold": 0.42, "noise": 0.3, "views": 3},
    },
    rate=0.3,
)
def cotta(bench):
    """CoTTA on its own batches: teacher and source in training mode, labels unused, weights restored at random."""
    teacher, anchor = bench.networks(1)[0], bench.networks(1)[0]
    source = [p.detach().clone() for p in anchor.parameters()]

    def loss(network, batch):
        logits = network(batch.x)
        views = batch.x + 0.3 * batch.randn(3, *batch.x.shape)
        with torch.no_grad():
            sure = anchor(batch.x).softmax(dim=1).max(dim=1).values.mean() >= 0.42
            taught = teacher(batch.x) if sure else sum(teacher(view) for view in views) / 3
        return cross_entropy(logits, taught.softmax(dim=1))

    def after(network, batch):
        for own, new in zip(teacher.parameters(), network.parameters(), strict=True):
            own.copy_(0.9 * own + 0.1 * new)
        sizes = [p.numel() for p in network.parameters()]
        draws = batch.rand(sum(sizes)).split(sizes)
        for own, start, drawn in zip(network.parameters(), source, draws, strict=True):
            own[drawn.view_as(own) < 0.3] = start[drawn.view_as(own) < 0.3]

    return trained(bench, loss, after=after)


# Weights -----------------------------------------------------------------------------------------------------


@loop("weight_decay", strength=0.1)
def weight_decay(bench):
    """SGD with weight decay, of weights alone."""
    (network,) = bench.networks(1)
    decayed = weights_of(network)
    others = [p for p in network.parameters() if p.ndim == 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others}]
    optimizer = torch.optim.SGD(groups, lr=LR, momentum=0.9)
    for batch in bench.batches():
        descend(optimizer, cross_entropy(network(batch.x), batch.y))
    return network


@loop("decoupled_weight_decay", optimizer="adam", strength=2.0)
def decoupled_weight_decay(bench):
    """AdamW, of weights alone."""
    (network,) = bench.networks(1)
    others = [p for p in network.parameters() if p.ndim == 1]
    groups = [{"params": weights_of(network), "weight_decay": 2.0}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.999))
    for batch in bench.batches():
        descend(optimizer, cross_entropy(network(batch.x), batch.y))
    return network


def _penalised(bench, term):
    return trained(bench, lambda net, b: cross_entropy(net(b.x), b.y) + term(weights_of(net)))


@loop("l1", strength=0.05)
def l1(bench):
    return _penalised(bench, lambda weights: 0.05 * sum(w.abs().sum() for w in weights))


@loop("l1", strength=0.05, mode="proximal")
def l1_proximal(bench):
    def after(network, batch):
        for w in weights_of(network):
            w.copy_(F.softshrink(w, LR * 0.05))

    return trained(bench, lambda net, b: cross_entropy(net(b.x), b.y), after=after)


@loop("elastic_net", strength=0.05, ratio=0.3)
def elastic_net(bench):
    def term(weights):
        return 0.05 * sum(0.3 * w.abs().sum() + 0.7 * (w**2).sum() / 2 for w in weights)

    return _penalised(bench, term)


@loop("max_norm", limit=0.6)
def max_norm(bench):
    def after(network, batch):
        for w in weights_of(network):
            for row in w:
                row.mul_(min(1.0, 0.6 / float(row.norm())))

    return trained(bench, lambda net, b: cross_entropy(net(b.x), b.y), after=after)


@loop("gradient_clipping", max_norm=0.3)
@loop("gradient_clipping", max_norm=0.05, mode="value")
def gradient_clipping(bench, max_norm=0.3, mode="norm"):
    def before(network, batch):
        if mode == "norm":
            torch.nn.utils.clip_grad_norm_(network.parameters(), max_norm)
        else:
            torch.nn.utils.clip_grad_value_(network.parameters(), max_norm)

    return trained(bench, lambda net, b: cross_entropy(net(b.x), b.y), before=before)

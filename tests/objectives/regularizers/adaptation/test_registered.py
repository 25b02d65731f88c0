"""What the family's regularizers do in training: state, memory, stages, steps of their own."""

import pytest
import torch
from selftune.objectives.regularizers.adaptation.fishr import fishr
from torch import nn

from selftune.lower_level.classification import Classification
from selftune.lower_level.objective import Stage
from selftune.lower_level.optimization import Optimization
from selftune.methods.work_orders import FollowSchedule
from selftune.regularization.regularizer import regularizers
from selftune.training import Trainer

CLASSES = 3


def mlp():
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, CLASSES)).double()


def normalised():
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, CLASSES)).double()


def splits():
    generator = torch.Generator().manual_seed(0)
    found = []
    for examples in (48, 24, 24):
        labels = torch.arange(examples) % CLASSES
        inputs = torch.randn(examples, 4, generator=generator, dtype=torch.float64) + labels[:, None]
        found.append((inputs, labels))
    return found


def objective(build=mlp, domains=None, momentum=0.0, stages=()):
    extra = None if domains is None else {"domains": tuple(domains(len(labels)) for _, labels in splits())}
    optimization = Optimization(batch_size=8, learning_rate=0.1, momentum=momentum)
    return Classification(build, *splits(), optimization, extra=extra, stages=stages)


def trained(objective, members, steps):
    trainer = Trainer(objective, members, steps=40)
    report = trainer.execute(FollowSchedule(segments=((steps, torch.empty(0)),)))
    assert report.kind == "replay", report.message
    return trainer


def member(trainer, name):
    return next(r for r in trainer.lower.regularizers.members if r.name == name)


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.lower.parameters.values()])


def loss_of(trainer, number, perturbed=True):
    """The loss of a training step without training, as a response step or a plain one sees it."""
    lower = trainer.lower
    values = trainer.space.values(trainer.space.start)
    step = lower.begin(number, lower.batches.at(number), values, "elementary", perturbed=perturbed)
    return lower.loss(step, lower.network, lower.parameters), step


def risk(step):
    """The mean over domains of their mean losses."""
    return torch.stack([step.losses[step.domains == d].mean() for d in step.domains.unique()]).mean()


class TestSam:
    def test_one_step_uses_the_gradient_at_the_worst_point(self):
        start = trained(objective(), [], 0)
        parameters = list(start.lower.parameters.values())
        first = torch.autograd.grad(loss_of(start, 0)[0], parameters)
        norm = torch.cat([g.flatten() for g in first]).norm()
        before = weights(start)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, first, strict=True):
                parameter += 0.3 * gradient / norm
        second = torch.autograd.grad(loss_of(start, 0)[0], parameters)
        expected = before - 0.1 * torch.cat([g.flatten() for g in second])
        found = weights(trained(objective(), [regularizers["sam"](rho=0.3)], 1))
        torch.testing.assert_close(found, expected)

    def test_without_radius_it_is_the_plain_step(self):
        build = {"build": normalised, "momentum": 0.9}
        plain, sam = (trained(objective(**build), chosen, 5) for chosen in ([], [regularizers["sam"](rho=0.0)]))
        torch.testing.assert_close(weights(sam), weights(plain))
        for name, buffer in plain.lower.network.named_buffers():
            torch.testing.assert_close(dict(sam.lower.network.named_buffers())[name], buffer)


class TestExperienceReplay:
    def test_memory_is_bounded_and_holds_examples_of_the_stream(self):
        trainer = trained(objective(), [regularizers["experience_replay"](capacity=20)], 5)
        memory = member(trainer, "experience_replay")._memory
        assert {name: len(tensor) for name, tensor in memory.items()} == dict.fromkeys(memory, 20)
        inputs, labels = splits()[0]
        matches = (memory["inputs"][:, None] == inputs).all(-1)
        assert (matches.sum(1) == 1).all()
        assert torch.equal(labels[matches.int().argmax(1)], memory["labels"])

    def test_perturbed_steps_leave_the_memory_alone(self):
        trainer = trained(objective(), [regularizers["experience_replay"]()], 2)
        before = {name: t.clone() for name, t in member(trainer, "experience_replay")._memory.items()}
        loss_of(trainer, 2)
        after = member(trainer, "experience_replay")._memory
        assert all(torch.equal(after[name], before[name]) for name in before)

    @pytest.mark.parametrize("weight", [1.0, 0.25])
    def test_loss_is_the_streams_mean_plus_the_weighted_replay(self, weight):
        trainer = trained(objective(), [regularizers["experience_replay"](weight=weight, replayed=2)], 3)
        loss, step = loss_of(trainer, 3)
        assert len(step.inputs) == 8 + 16
        losses = torch.nn.functional.cross_entropy(step.logits, step.labels, reduction="none")
        torch.testing.assert_close(loss, losses[:8].mean() + weight * losses[8:].mean())
        plain, _ = loss_of(trained(objective(), [], 0), 3)
        assert plain.isfinite()

    def test_replayed_examples_are_different_ones(self):
        trainer = trained(objective(), [regularizers["experience_replay"](capacity=12, replayed=1)], 4)
        _, step = loss_of(trainer, 4)
        assert len(step.inputs[8:].unique(dim=0)) == 8


class TestFish:
    def test_one_domain_is_a_shorter_step(self):
        one = objective(domains=lambda n: torch.zeros(n, dtype=torch.long))
        plain, fish = trained(one, [], 1), trained(one, [regularizers["fish"](step=0.25)], 1)
        start = weights(trained(one, [], 0))
        torch.testing.assert_close(weights(fish) - start, 0.25 * (weights(plain) - start))

    def test_running_statistics_go_part_of_the_way(self):
        one = objective(normalised, domains=lambda n: torch.zeros(n, dtype=torch.long))
        plain, fish = trained(one, [], 1), trained(one, [regularizers["fish"](step=0.25)], 1)
        moved = plain.lower.network[1].running_mean
        torch.testing.assert_close(fish.lower.network[1].running_mean, 0.25 * moved)

    def test_domains_are_visited_one_after_the_other(self):
        two = objective(domains=lambda n: torch.arange(n) // 3 % 2)
        fish = trained(two, [regularizers["fish"](step=1.0)], 1)
        manual = trained(two, [], 0)
        index = manual.lower.batches.at(0).index
        for domain in (0, 1):
            rows = index[(index // 3 % 2) == domain]
            inputs, labels = (tensor[rows] for tensor in splits()[0])
            loss = torch.nn.functional.cross_entropy(manual.lower.network(inputs), labels)
            parameters = list(manual.lower.parameters.values())
            with torch.no_grad():
                for p, g in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                    p -= 0.1 * g
        torch.testing.assert_close(weights(fish), weights(manual))


class TestFishr:
    def test_running_averages_move_in_plain_steps_only(self):
        trainer = trained(
            objective(domains=lambda n: torch.arange(n) // 3 % 2), [regularizers["fishr"](strength=1.0)], 2
        )
        entry = member(trainer, "fishr")
        before = entry._averages.clone()
        loss_of(trainer, 2)
        assert torch.equal(entry._averages, before)
        _, step = loss_of(trainer, 2, perturbed=False)
        gradients = step.example_gradients.detach()
        variances = torch.stack([gradients[step.domains == d].var(0, unbiased=False) for d in (0, 1)])
        torch.testing.assert_close(entry._averages, 0.95 * before + 0.05 * variances)

    def test_penalty_is_the_function_of_the_averages(self):
        trainer = trained(
            objective(domains=lambda n: torch.arange(n) // 3 % 2),
            [regularizers["fishr"](strength=2.0, anneal=0)],
            2,
        )
        averages = member(trainer, "fishr")._averages
        loss, step = loss_of(trainer, 2)
        expected = risk(step) + 2 * fishr(step.example_gradients, step.domains, averages)
        torch.testing.assert_close(loss, expected)

    def test_domains_that_a_batch_lacks_do_not_count(self):
        rare = objective(domains=lambda n: (torch.arange(n) % 2) + 5 * (torch.arange(n) == 0))
        trainer = trained(rare, [regularizers["fishr"](strength=2.0, anneal=0)], 0)
        number = next(n for n in range(6) if 0 not in trainer.lower.batches.at(n).index)
        loss, step = loss_of(trainer, number)
        torch.testing.assert_close(loss, risk(step) + 2 * fishr(step.example_gradients, step.domains))


@pytest.mark.parametrize(
    ("name", "before"), [("invariant_risk_minimization", 1.0), ("risk_extrapolation", 1.0), ("fishr", 0.0)]
)
def test_annealing(name, before):
    domains = objective(domains=lambda n: torch.arange(n) // 3 % 2)
    parts = []
    for number in (0, 1):
        loss, step = loss_of(trained(domains, [regularizers[name](strength=50.0, anneal=1)], 0), number)
        parts.append((loss - risk(step)).item())
        once, _ = loss_of(trained(domains, [regularizers[name](strength=1.0, anneal=0)], 0), number)
        parts.append((once - risk(step)).item())
    assert parts[0] == pytest.approx(before * parts[1], rel=1e-6, abs=1e-12)
    assert parts[2] == pytest.approx(50 * parts[3], rel=1e-6)
    assert parts[3] != 0


@pytest.mark.parametrize(
    ("name", "settings", "switch"),
    [
        ("invariant_risk_minimization", {}, 4),
        ("risk_extrapolation", {}, 4),
        ("fishr", {}, 12),
        ("fishr", {"anneal": 3}, 3),
    ],
)
def test_the_optimizer_forgets_where_the_strength_begins_to_count(name, settings, switch):
    """By default after the authors' share of the run, here of 40 steps; momentum is the gradient of that step."""
    domains = objective(domains=lambda n: torch.arange(n) // 3 % 2, momentum=0.9)
    trainer = trained(domains, [regularizers[name](strength=1e-3, **settings)], switch)
    for forgotten in (True, False):
        before = weights(trainer)
        values = trainer.space.values(trainer.space.start)
        trainer.lower.train(trainer.training_step, values)
        trainer.training_step += 1
        gradient = torch.cat([p.grad.flatten() for p in trainer.lower.parameters.values()])
        assert torch.allclose(weights(trainer) - before, -0.1 * gradient) is forgotten


def test_every_domain_weighs_the_same():
    rare = objective(domains=lambda n: (torch.arange(n) % 4 == 0).long())
    for name in (
        "correlation_alignment",
        "fishr",
        "hessian_diagonal_alignment",
        "hessian_gradient_alignment",
        "inter_environment_gradient_alignment",
        "invariant_risk_minimization",
        "risk_extrapolation",
    ):
        entry = regularizers[name]
        off = dict.fromkeys({"strength", "alpha", "beta"} & {h.name for h in entry.hyperparameters}, 0.0)
        loss, step = loss_of(trained(rare, [entry(**off)], 0), 0)
        assert step.domains.double().mean() not in (0, 0.5)
        torch.testing.assert_close(loss, risk(step))


class TestStages:
    """Two stages of four steps, of the classes 0 and 1, and of class 2."""

    def continual(self):
        labels = splits()[0][1]
        stages = [Stage(torch.nonzero(part).flatten(), steps=4) for part in (labels < 2, labels == 2)]
        return objective(stages=stages)

    @pytest.mark.parametrize(
        "name", ["old_feature_distillation", "l2_to_old_parameters", "ewc", "prediction_distillation"]
    )
    def test_the_first_stage_is_plain_training(self, name):
        strong = regularizers[name](strength=1.0)
        assert torch.equal(
            weights(trained(self.continual(), [strong], 4)), weights(trained(self.continual(), [], 4))
        )
        later = [
            weights(trained(self.continual(), members, 7)) for members in ([regularizers[name](strength=1.0)], [])
        ]
        assert not torch.allclose(*later)

    def test_l2_to_the_start_acts_from_the_beginning(self):
        l2 = regularizers["l2_to_old_parameters"](strength=1.0, anchor="start")
        trainer = trained(self.continual(), [l2], 2)
        start = weights(trained(self.continual(), [], 0))
        loss, step = loss_of(trainer, 2)
        torch.testing.assert_close(loss, step.losses.mean() + (weights(trainer) - start).square().sum())

    def test_ewc_weighs_by_the_squared_gradients_of_the_last_stage(self):
        trainer = trained(self.continual(), [regularizers["ewc"](strength=3.0, samples=1000)], 4)
        inputs, labels = (tensor[splits()[0][1] < 2] for tensor in splits()[0])
        parameters = list(trainer.lower.parameters.values())
        squares = torch.zeros_like(weights(trainer))
        for one, label in zip(inputs, labels, strict=True):
            loss = torch.nn.functional.cross_entropy(trainer.lower.network(one[None]), label[None])
            squares += torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)]) ** 2
        anchor = weights(trainer)
        trainer.execute(FollowSchedule(segments=((2, torch.empty(0)),)))
        found = torch.cat([f.flatten() for f in member(trainer, "ewc")._fisher.values()])
        torch.testing.assert_close(found, squares / len(inputs), rtol=1e-5, atol=1e-9)
        loss, step = loss_of(trainer, 6)
        change = (weights(trainer) - anchor).square()
        torch.testing.assert_close(loss, step.losses.mean() + 3 * (found * change).sum())

    def test_sampled_labels_give_other_information(self):
        fishers = []
        for labels in ("observed", "sampled"):
            trainer = trained(self.continual(), [regularizers["ewc"](strength=1.0, labels=labels)], 5)
            fishers.append(torch.cat([f.flatten() for f in member(trainer, "ewc")._fisher.values()]))
        assert (fishers[1] >= 0).all()
        assert not torch.allclose(*fishers)

import copy

import pytest
import torch
from full_matrix import first_of
from orders import start_of
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from selftune.hyperparameters import Tune
from selftune.listener import Listener
from selftune.lower_level.classification import Classification
from selftune.lower_level.optimization import Optimization
from selftune.methods import (
    Budget,
    NetworkLineSearch,
    NetworkLineSearchSettings,
    Replay,
    Segment,
)
from selftune.methods.reports import CandidateDiverged
from selftune.methods.work_orders import FinishTraining, FollowSchedule, TrainCandidate, TrainStayArm
from selftune.regularization.regularizer import regularizers
from selftune.training import Trainer, TrainerFactory, run_in_process
from selftune.training.arm import Arm


@pytest.fixture
def smooth():
    return [
        regularizers["weight_decay"](strength=Tune(0.05)),
        regularizers["label_smoothing"](epsilon=Tune(0.05)),
        regularizers["early_learning"](strength=Tune(0.2)),
        regularizers["dropout"](rate=0.2),
    ]


def small_network():
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))


@pytest.fixture
def deep(blobs):
    def build():
        return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 3))

    return Classification(build, blobs(96, 0), blobs(80, 1), blobs(48, 2), Optimization(16, learning_rate=0.05))


@pytest.fixture
def linear(blobs):
    """Strongly convex with weight decay but for a common shift of the biases, which changes nothing."""
    optimization = Optimization(batch_size=96, learning_rate=0.2, momentum=0.0)
    return Classification(lambda: nn.Linear(6, 3), blobs(96, 0), blobs(160, 1), blobs(160, 2), optimization)


def order(trainer, kind="stay", shift=0.0, **changes):
    arm = {
        "values": start_of(trainer.space, shift),
        "start": "start",
        "fresh": True,
        "states": ("start", "end"),
        "end": "end",
        "steps": 6,
        "gamma": 0.3,
        "samples": 30,
    }
    if kind == "candidate":
        return TrainCandidate(**arm | {"candidate": 0} | changes)
    return TrainStayArm(**arm | {"hypergradient": True, "lanczos_steps": 10, "system_steps": 10} | changes)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def weights(trainer):
    return copy.deepcopy(trainer.lower.network.state_dict())


class Attentive(nn.Module):
    """Attention, which has fast kernels without second derivatives, on layers of which one is not trained."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(2, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.outer = nn.Linear(8, 3)
        self.inner.weight.requires_grad_(False)

    def forward(self, inputs):
        parts = self.inner(inputs.view(-1, 3, 2))
        return self.outer(self.attention(parts, parts, parts, need_weights=False)[0].mean(dim=1))


@pytest.mark.parametrize("gamma", [0.0, 0.5])
def test_attention_and_weights_that_are_not_trained(blobs, gamma):
    objective = Classification(Attentive, blobs(96, 0), blobs(80, 1), blobs(48, 2), Optimization(16))
    trainer = Trainer(objective, [regularizers["weight_decay"](strength=Tune(0.05))])
    before = weights(trainer)
    report = trainer.execute(order(trainer, gamma=gamma))
    assert report.tensors["hypergradient"].abs() > 0
    after = weights(trainer)
    assert torch.equal(before["inner.weight"], after["inner.weight"])
    assert not torch.equal(before["inner.bias"], after["inner.bias"])


# States ----------------------------------------------------------------------------------------------


def test_the_same_state_hyperparameters_and_seed_give_the_same_losses_twice(deep, smooth):
    """C24, on one trainer and on another member that the state was sent to."""
    first, second = (Trainer(deep, smooth, member=member, seed=3) for member in range(2))
    stay = first.execute(order(first))
    candidates = [first.execute(order(first, "candidate", 0.3)) for _ in range(2)]
    travelled = second.execute(order(second, "candidate", 0.3, fresh=False), first.export_state("start"))
    assert torch.equal(candidates[0].tensors["losses"], candidates[1].tensors["losses"])
    assert torch.equal(candidates[0].tensors["losses"], travelled.tensors["losses"])
    assert not torch.equal(candidates[0].tensors["losses"], stay.tensors["losses"])
    assert same(weights(first), weights(second))
    again = first.execute(order(first))
    assert same(again.tensors, stay.tensors)


def test_a_state_brings_optimizer_tables_and_random_numbers_along(deep, smooth):
    """Two orders on one trainer, or the second one elsewhere, which goes on in the middle of an epoch."""
    first, second = (Trainer(deep, smooth, member=member, seed=3) for member in range(2))
    second.execute(order(second, steps=3))  # it has drawn epochs of its own before
    first.execute(order(first, steps=4))
    following = {"start": "end", "end": "later", "fresh": False, "states": ("end", "later"), "steps": 9}
    state = first.export_state("end")
    expected = first.execute(order(first, **following))
    report = second.execute(order(second, **following | {"start": "moved", "states": ("moved",)}), state)
    assert same(report.tensors, expected.tensors)
    assert same(weights(first), weights(second))
    mine, its = (t.lower.regularizers.state_dict()["early_learning"]["table"] for t in (first, second))
    assert torch.equal(mine, its)
    assert report.metrics["training_step"] == 13


def test_kept_states_do_not_change_while_training_goes_on(deep, smooth):
    trainer = Trainer(deep, smooth)
    trainer.execute(order(trainer))
    kept = trainer.export_state("end")
    trainer.execute(order(trainer, start="end", fresh=False, states=("end",), end="later"))
    again = trainer.export_state("end")
    momentum = [state["lower"]["optimizer"]["state"][0]["momentum_buffer"] for state in (kept, again)]
    assert torch.equal(*momentum)
    assert momentum[0].abs().sum() > 0
    assert same(kept["lower"]["network"], again["lower"]["network"])
    assert kept["training_step"] == again["training_step"] == 6


def test_what_is_not_to_be_kept_is_forgotten_and_what_is_missing_is_said(deep, smooth):
    trainer = Trainer(deep, smooth)
    trainer.execute(order(trainer))
    trainer.execute(order(trainer, start="end", fresh=False, states=("end",), end="later"))
    assert trainer.export_state("start") is None
    before = weights(trainer)
    report = trainer.execute(order(trainer, start="start", fresh=False))
    assert report.kind == "missing"
    assert same(before, weights(trainer))


@pytest.mark.parametrize("kind", ["stay", "candidate"])
def test_a_saved_trainer_gives_the_same_reports(deep, smooth, kind):
    first = Trainer(deep, smooth, member=1)
    stranger = Trainer(deep, smooth, member=0)
    stranger.execute(order(stranger))
    first.execute(order(first, fresh=False), stranger.export_state("start"))  # it draws as member 0 from now on
    second = Trainer(deep, smooth, member=1)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for start in ("end", "start"):
        asked = order(first, kind, 0.1, start=start, fresh=False, end="later", steps=8)
        assert same(first.execute(asked).tensors, second.execute(asked).tensors)


def test_the_end_of_an_arm_is_delivered_by_whoever_gets_its_state(deep, smooth):
    first, second = (Trainer(deep, smooth, member=member) for member in range(2))
    first.execute(order(first))
    finish = FinishTraining(start="end", states=("end",), remark="done")
    reports = [t.execute(finish, first.export_state("end")) for t in (second, first)]
    assert same(reports[0].tensors, reports[1].tensors)
    assert reports[0].metrics["test_loss"] == reports[1].metrics["test_loss"]
    assert reports[0].message == "done"


# Arms ------------------------------------------------------------------------------------------------


def test_without_gamma_an_arm_is_plain_training_bit_for_bit(deep, smooth):
    arm, plain = (Trainer(deep, smooth, seed=2) for _ in range(2))
    arm.execute(order(arm, steps=8, gamma=0.0))
    plain.execute(FollowSchedule(segments=((8, plain.space.constrain(plain.space.start)),)))
    assert same(weights(arm), weights(plain))


def test_gamma_pulls_towards_the_weights_at_the_start(linear, smooth):
    gamma, rate, chosen = 0.7, 0.2, smooth[:1]
    held, free = (Trainer(linear, chosen) for _ in range(2))
    anchor = weights(held)
    held.execute(order(held, steps=1, gamma=gamma))
    first = weights(held)
    held.execute(order(held, steps=2, gamma=gamma, fresh=False))
    free.lower.network.load_state_dict(first)
    free.lower.train(1, free.space.values(free.space.start))
    for name, plain in weights(free).items():  # what the loss alone does, from the same weights
        expected = plain - rate * gamma * (first[name] - anchor[name])
        torch.testing.assert_close(weights(held)[name], expected)


class NoLooks(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func.overloadpacket.__name__ not in {"_local_scalar_dense", "item", "nonzero"}
        return func(*args, **(kwargs or {}))


def test_what_regularizers_make_of_a_step_they_make_of_the_loss_alone(linear, smooth):
    """Arms whose gradients are aggregated over shards, pulled to their start all the same."""
    gamma, rate = 0.7, 0.2
    by_shards = [smooth[0], regularizers["coordinate_median"]()]
    free, held = (Trainer(linear, by_shards) for _ in range(2))
    anchor = weights(free)
    held.execute(order(held, steps=1, gamma=gamma))
    first = weights(held)
    held.execute(order(held, steps=2, gamma=gamma, fresh=False))
    free.execute(order(free, steps=1, gamma=0.0))
    assert same(weights(free), first)  # at its start nothing pulls
    free.execute(order(free, steps=2, gamma=0.0, fresh=False))
    for name, plain in weights(free).items():
        expected = plain - rate * gamma * (first[name] - anchor[name])
        torch.testing.assert_close(weights(held)[name], expected, rtol=1e-4, atol=1e-6)
    assert not same(weights(held), weights(free))


@pytest.mark.parametrize("gamma", [0.0, 0.5])
def test_training_steps_never_wait_for_the_device(deep, smooth, gamma):
    trainer = Trainer(deep, smooth)
    trainer.execute(order(trainer, steps=1))
    arm = Arm(trainer.lower, order(trainer, gamma=gamma))
    with NoLooks():
        arm.train(1)


@pytest.mark.parametrize("samples", [None, 30, 79])
def test_those_that_judge_are_not_those_that_the_hypergradient_sees(deep, smooth, samples):
    trainer = Trainer(deep, smooth)
    drawn = []
    for sample in range(2):
        arm = Arm(trainer.lower, order(trainer, samples=samples, sample=sample))
        judges, others = arm._samples()
        assert len(judges) == (samples or 40)
        assert torch.equal(torch.cat([judges, others]).sort().values, torch.arange(80))
        assert len(arm.losses()[0]) == len(judges)
        drawn.append(judges)
    assert not torch.equal(*drawn)


def test_the_losses_are_plain_ones_of_the_network_as_it_is(deep, smooth):
    trainer = Trainer(deep, smooth)
    report = trainer.execute(order(trainer, samples=79))
    split = trainer.lower.objective.splits()["validation"]
    network = trainer.lower.network.eval()
    expected = nn.functional.cross_entropy(network(split["inputs"]), split["labels"], reduction="none")
    matches = (report.tensors["losses"][:, None] - expected).abs().min(dim=0).values < 1e-6
    assert int(matches.sum()) >= 79
    assert report.metrics["validation_loss"] == pytest.approx(float(report.tensors["losses"].mean()), rel=1e-5)
    assert 0 <= report.metrics["validation_accuracy"] <= 1


def test_judging_and_differentiating_change_nothing(deep, smooth):
    trainer = Trainer(deep, smooth)
    trainer.execute(order(trainer))
    arm = Arm(trainer.lower, order(trainer))
    before = copy.deepcopy(trainer.state_dict()["lower"])
    arm.losses()
    arm.hypergradient(6)
    after = trainer.state_dict()["lower"]
    assert same(before["network"], after["network"])
    table = before["regularizers"]["early_learning"]["table"]
    assert torch.equal(table, after["regularizers"]["early_learning"]["table"])
    assert trainer.lower.network.training


# Hypergradient ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("curvature", [None, 0.5])
def test_the_hypergradient_is_that_of_a_direct_solve(linear, smooth, curvature):
    trainer = Trainer(linear, smooth[:2])
    trainer.execute(order(trainer, steps=30))
    settings = {"curvature": curvature, "lanczos_steps": 21, "system_steps": 60}
    arm = Arm(trainer.lower, order(trainer, **settings))
    found = arm.hypergradient(30)
    lower = trainer.lower
    parameters = list(lower.parameters.values())
    u = trainer.space.start.requires_grad_()
    gradients = torch.autograd.grad(lower.smooth_loss(30, u, "hypergradient"), parameters, create_graph=True)
    gradient = torch.cat([g.reshape(-1) for g in gradients])
    rows = [torch.autograd.grad(entry, [*parameters, u], retain_graph=True) for entry in gradient]
    hessian = torch.stack([torch.cat([t.reshape(-1) for t in row[:-1]]) for row in rows]).double()
    mixed = torch.stack([row[-1] for row in rows]).double()
    eigenvalues = torch.linalg.eigvalsh(hessian)
    assert found.ritz_min == pytest.approx(float(eigenvalues[0]), abs=1e-4)
    assert found.ritz_max == pytest.approx(float(eigenvalues[-1]), rel=1e-4)
    gamma = 2 * max(0.0, -found.ritz_min) + (curvature or 1e-2 * found.ritz_max)
    assert found.gamma == pytest.approx(gamma)
    b = arm._upper_gradient().double()
    expected = -mixed.T @ torch.linalg.solve(hessian + gamma * torch.eye(len(b)), b)
    torch.testing.assert_close(found.hypergradient.double(), expected, rtol=1e-3, atol=1e-6)


def test_the_hypergradient_is_the_derivative_of_the_retrained_validation_loss(linear):
    """Full batches, a minimiser and next to no damping: the proximal response is the response itself."""
    chosen = [regularizers["weight_decay"](strength=Tune(0.1))]

    def retrained(shift):
        trainer = Trainer(linear, chosen)
        trainer.execute(order(trainer, "candidate", shift, steps=2500, gamma=0.0))
        arm = Arm(trainer.lower, order(trainer, shift=shift, curvature=1e-6, system_steps=40))
        inputs = arm.lower.sources.validation_rows(arm._samples()[1])
        with torch.no_grad():
            logits = trainer.lower.network(inputs["inputs"]).double()
        return arm, float(nn.functional.cross_entropy(logits, inputs["labels"]))

    found = retrained(0.0)[0].hypergradient(2500)
    numeric = (retrained(0.1)[1] - retrained(-0.1)[1]) / 0.2
    assert found.residual < 1e-4
    assert float(found.hypergradient[0]) == pytest.approx(numeric, rel=0.03)


def test_a_candidate_that_diverges_is_a_report_and_a_path_that_diverges_ends_its_trainer(blobs, smooth):
    wild = [(x * 1e30, y) for x, y in (blobs(96, 0), blobs(80, 1), blobs(48, 2))]
    trainer = Trainer(Classification(small_network, *wild, Optimization(16, learning_rate=1e9)), smooth)
    report = trainer.execute(order(trainer, "candidate"))
    assert isinstance(report, CandidateDiverged)
    assert trainer.export_state("end") is None
    assert trainer.execute(order(trainer)).kind == "diverged"


# Searches --------------------------------------------------------------------------------------------

SETTINGS = {"warmup_steps": 20, "train_steps": 10, "lanczos_steps": 8, "system_steps": 8}


class Recorder(Listener):
    def __init__(self, stop_after=None):
        self.steps, self.stop_after = [], stop_after

    def hyper_step(self, step):
        self.steps.append(step)
        if step.number == self.stop_after:
            raise KeyboardInterrupt

    def rows(self):
        team = ("work",)
        return [
            (
                s.number,
                s.training_step,
                s.training_loss,
                s.validation_loss,
                s.hyperparameters.tolist(),
                s.hypergradient.tolist(),
                [(name, str(value)) for name, value in s.certificate.items() if name not in team],
            )
            for s in self.steps
        ]


def search(objective, chosen, team=1, folder=None, stop_after=None, steps=120, **changes):
    factory = TrainerFactory(objective, chosen, seed=3)
    method = NetworkLineSearch(Budget(steps=steps), NetworkLineSearchSettings(**SETTINGS | changes), team)
    recorder = Recorder(stop_after)
    last = run_in_process(method, {m: factory(m) for m in range(team)}, recorder, folder)
    return last, recorder


@pytest.mark.parametrize("team", first_of([3, 2]))
def test_a_team_takes_the_steps_of_a_single_trainer(deep, smooth, team):
    alone, expected = search(deep, smooth)
    last, recorder = search(deep, smooth, team)
    assert recorder.rows() == expected.rows()
    assert {0.0, 1.0} == {s.certificate["accepted"] for s in expected.steps[1:]}
    for report in last.values():  # the network of the path, from every member
        assert same(report.tensors, alone[0].tensors)
        assert report.metrics["training_step"] == 120


@pytest.mark.parametrize("team", first_of([2, 1]))
@pytest.mark.parametrize("stop_after", first_of([4, 1]))
def test_an_interrupted_run_goes_on_to_the_same_trajectory(deep, smooth, tmp_path, team, stop_after):
    alone, expected = search(deep, smooth, team)
    with pytest.raises(KeyboardInterrupt):
        search(deep, smooth, team, tmp_path, stop_after)
    last, resumed = search(deep, smooth, team, tmp_path)
    assert 0 < len(resumed.steps) < len(expected.steps)
    assert resumed.rows() == expected.rows()[-len(resumed.steps) :]
    assert same(last[0].tensors, alone[0].tensors)


def test_without_a_proximal_term_a_replay_gives_the_network_bit_for_bit(deep, smooth):
    last, recorder = search(deep, smooth, proximal=False)
    schedule = [Segment(s.training_step, s.hyperparameters) for s in recorder.steps]
    replayed = run_in_process(Replay(schedule, 120), {0: TrainerFactory(deep, smooth, seed=3)(0)})
    assert len({tuple(s.hyperparameters.tolist()) for s in recorder.steps}) > 1
    network = {name: tensor for name, tensor in last[0].tensors.items() if name.startswith("network.")}
    assert same(replayed[0].tensors, network)


def test_accepted_steps_lower_the_retrained_loss_of_a_strongly_convex_network(linear):
    chosen = [regularizers["weight_decay"](strength=Tune(1.0))]
    _, recorder = search(linear, chosen, steps=400, train_steps=30, proximal=False)

    def retrained(values):
        trainer = TrainerFactory(linear, chosen, seed=3)(0)
        trainer.execute(FollowSchedule(segments=((300, values),)))
        return trainer.lower.evaluate(trainer.lower.network, "validation")["validation_loss"]

    values = [recorder.steps[0].hyperparameters]
    values += [s.hyperparameters for s in recorder.steps if s.certificate["accepted"]]
    losses = [retrained(value) for value in values]
    assert len(losses) > 3
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] - 0.05


def test_nothing_is_certified_however_convex_the_network_is(linear):
    """C24: mu is estimated, so no step and no report claims more than a test."""
    last, recorder = search(linear, [regularizers["weight_decay"](strength=Tune(1.0))])
    assert {s.certificate["certified"] for s in recorder.steps} == {0.0}
    assert "nothing is certified" in last[0].message
    assert "certified" not in last[0].metrics


def test_a_validation_split_that_is_too_small_is_refused(blobs, smooth):
    small = Classification(lambda: nn.Linear(6, 3), blobs(96, 0), blobs(59, 1), blobs(48, 2))
    with pytest.raises(ValueError, match=r"validation_samples: the validation split lets 29 examples judge"):
        search(small, smooth[:3])

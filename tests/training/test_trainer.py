import copy
from dataclasses import asdict, replace

import pytest
import torch
from orders import with_response
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from selftune.errors import SettingError
from selftune.hyperparameters import Interval, Tune
from selftune.lower_level.classification import Classification
from selftune.lower_level.optimization import Optimization
from selftune.methods import Response
from selftune.methods.work_orders import FinishTraining, FollowSchedule
from selftune.regularization.regularizer import regularizers
from selftune.training import Trainer

DELTA = Response()
STN = Response(centered=False, joint=True, linearize=False)
VARIANTS = {"delta-stn": DELTA, "nonlinear": Response(linearize=False), "stn": STN}


def cycle(trainer, steps=4, response=DELTA, shift=0.0, scale=0.3, tune_scale=True, hypergradient=True):
    return with_response(
        trainer,
        asdict(response),
        steps,
        shift=shift,
        scale=scale,
        tune_scale=tune_scale,
        hypergradient=hypergradient,
    )


def replay(trainer, *segments):
    values = trainer.space.constrain(trainer.space.start)
    return FollowSchedule(segments=segments or ((8, values),))


def weights(trainer):
    return copy.deepcopy(trainer.lower.network.state_dict())


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


def test_without_tuning_the_network_is_trained_as_if_there_were_no_response(objective, regularization):
    tuned, plain = (Trainer(objective, regularization, seed=1) for _ in range(2))
    tuned.execute(cycle(tuned, steps=5))
    tuned.execute(cycle(tuned, steps=3))
    plain.execute(replay(plain))
    assert same(weights(tuned), weights(plain))


def test_a_schedule_split_differently_gives_the_same_network(objective, regularization):
    whole, pieces = (Trainer(objective, regularization, seed=1) for _ in range(2))
    values = whole.space.constrain(whole.space.start)
    whole.execute(replay(whole, (8, values)))
    pieces.execute(replay(pieces, (3, values), (1, values)))
    pieces.execute(replay(pieces, (4, values)))
    assert same(weights(whole), weights(pieces))


def test_a_constant_schedule_is_training_with_fixed_values_bit_for_bit(objective):
    values = {"dropout": ("rate", 0.2), "weight_decay": ("strength", 1e-2), "mixup": ("alpha", 0.3)}
    tuned, fixed = (
        Trainer(objective, [regularizers[name](**{key: kind(value)}) for name, (key, value) in values.items()])
        for kind in (Tune, float)
    )
    constant = torch.tensor([dict(values.values())[name.split(".")[1]] for name in tuned.space.names])
    tuned.execute(replay(tuned, (3, constant), (5, constant)))
    fixed.execute(replay(fixed, (8, torch.empty(0))))
    assert same(weights(tuned), weights(fixed))


@pytest.mark.parametrize("variant", VARIANTS)
def test_steps_change_only_what_they_should(objective, regularization, variant):
    trainer = Trainer(objective, regularization)
    trainer.execute(cycle(trainer, steps=2, response=VARIANTS[variant]))
    estimator = trainer.estimator
    order = cycle(trainer)
    unconstrained, scale = order.values.unconstrained, order.scale
    given = unconstrained.clone(), scale.clone()

    def snapshot():
        return weights(trainer), copy.deepcopy(estimator.response.state_dict())

    before = snapshot()
    estimator.begin(order)
    estimator.hypergradient(2)
    assert same(before[0], snapshot()[0])
    assert same(before[1], snapshot()[1])
    trainer.lower.train(2, trainer.space.values(unconstrained))
    elementary = snapshot()
    assert not same(before[0], elementary[0])
    assert same(before[1], elementary[1])
    estimator.fit(2, trainer.lower.batches.at(2))
    fitted = snapshot()
    assert same(elementary[0], fitted[0]) is (variant != "stn")
    assert not same(elementary[1], fitted[1])
    assert torch.equal(unconstrained, given[0])
    assert torch.equal(scale, given[1])


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("tune_scale", [False, True])
def test_state_round_trip_gives_the_same_reports(objective, regularization, variant, tune_scale):
    first = Trainer(objective, regularization, seed=5)
    settings = {"response": VARIANTS[variant], "tune_scale": tune_scale}
    first.execute(cycle(first, **settings))
    second = Trainer(objective, regularization, seed=5)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    reports = [t.execute(cycle(t, shift=0.1, **settings)) for t in (first, second)]
    assert same(reports[0].tensors, reports[1].tensors)
    losses = [r.metrics["training_loss"] for r in reports]
    assert losses[0] == losses[1]


def test_members_and_seeds_differ_and_repeat(objective, regularization):
    def loss(**where):
        trainer = Trainer(objective, regularization, **where)
        return trainer.execute(cycle(trainer)).metrics["training_loss"]

    assert loss(seed=0) == loss(seed=0)
    assert len({loss(seed=0), loss(seed=1), loss(seed=0, member=1)}) == 3


def test_a_trainer_leaves_the_callers_random_numbers_alone(objective, regularization):
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    trainer = Trainer(objective, regularization)
    trainer.execute(cycle(trainer))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("tune_scale", [False, True])
def test_the_hypergradient_is_the_derivative_of_the_perturbed_validation_loss(
    objective, regularization, tune_scale
):
    trainer = Trainer(objective, regularization)
    trainer.execute(cycle(trainer, steps=40, hypergradient=False))
    estimator, u = trainer.estimator, trainer.space.start
    # a vanishing scale makes the tuned form the same derivative at zero
    estimator.begin(cycle(trainer, scale=1e-6, tune_scale=tune_scale))
    found, _ = estimator.hypergradient(40)
    data = objective.splits()["validation"]
    network = trainer.lower.network.eval()

    def loss(h):
        with torch.no_grad():
            outputs = estimator.response.perturbed(h.expand(len(data["labels"]), -1), data["inputs"])
            return nn.functional.cross_entropy(outputs.double(), data["labels"])

    eye = torch.eye(len(u)) * 1e-1
    numeric = torch.stack([(loss(e) - loss(-e)) / 2e-1 for e in eye]).float()
    network.train()
    torch.testing.assert_close(found.hypergradient, numeric, rtol=2e-2, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("tune_scale", [False, True])
def test_a_report_holds_the_plain_measures_and_names_the_perturbed_ones(
    objective, regularization, variant, tune_scale
):
    trainer = Trainer(objective, regularization)
    order = cycle(trainer, steps=10, response=VARIANTS[variant], scale=1.0, tune_scale=tune_scale)
    metrics = trainer.execute(order).metrics
    network = trainer.plain_network(order.values.unconstrained)
    plain = {name: metrics[name] for name in ("validation_loss", "validation_accuracy")}
    assert plain == pytest.approx(trainer.lower.evaluate(network, "validation"), rel=1e-5)
    perturbed = [name for name in metrics if name.startswith("perturbed_")]
    assert perturbed == (["perturbed_validation_loss", "perturbed_validation_accuracy"] if tune_scale else [])
    if tune_scale:
        assert metrics["perturbed_validation_loss"] != pytest.approx(metrics["validation_loss"], rel=1e-5)


@pytest.mark.parametrize("size", [None, 17])
def test_whole_splits_are_measured_in_batches(objective, size):
    trainer = Trainer(objective, [])
    whole = trainer.lower.evaluate(trainer.plain_network(), "test")
    objective = copy.copy(objective)
    objective.validation_batch_size = size
    trainer = Trainer(objective, [])
    seen, network = [], trainer.plain_network()
    network.register_forward_hook(lambda module, inputs, outputs: seen.append(len(outputs)))
    assert trainer.lower.evaluate(network, "test") == pytest.approx(whole, rel=1e-5)
    assert max(seen) <= (size or len(objective.splits()["validation"]["labels"]))
    assert sum(seen) == len(objective.splits()["test"]["labels"])


def test_integers_are_whole_where_they_act_and_continuous_where_they_are_learned(objective):
    from selftune.hyperparameters import Hyperparameter, Integer
    from selftune.registries.reference import Reference
    from selftune.regularization.regularizer import Regularizer

    seen = []

    class Crop(Regularizer):
        name, family, kind, reference = "crop", "test", "augment", Reference("test")
        hyperparameters = (Hyperparameter("size", Integer(0, 6), 3),)

        def batch(self, step):
            size = self.value(step, "size")
            seen.append(size)
            kept = torch.arange(6) >= size.reshape(-1, 1)
            step.inputs = step.inputs * kept

    trainer = Trainer(objective, [Crop(size=Tune())])
    report = trainer.execute(cycle(trainer, steps=40, scale=3.0))
    sizes = torch.cat([s.reshape(-1) for s in seen])
    assert torch.equal(sizes, sizes.floor())
    assert (sizes.min(), sizes.max()) == (0, 6)
    assert report.tensors["hypergradient"].abs().item() > 0


def test_a_loss_that_is_not_finite_stops_with_step_and_values(objective):
    wild = Classification(
        objective.network,
        *[(s["inputs"] * 1e30, s["labels"]) for s in objective.splits().values()],
        Optimization(batch_size=16, learning_rate=1e6),
    )
    trainer = Trainer(wild, [regularizers["label_smoothing"](epsilon=Tune(0.1))])
    report = trainer.execute(cycle(trainer, steps=6))
    assert report.kind == "diverged"
    assert "training loss is nan at training step" in report.message
    assert "label_smoothing.epsilon = 0.1" in report.message


def test_modules_and_regularizers_draw_different_random_numbers(objective):
    """``nn.Dropout`` draws from the global generator, regularizers from the step's own."""
    seen = []

    class Draws(nn.Module):
        def forward(self, inputs):
            seen.append(torch.rand(4))
            return inputs

    def build():
        return nn.Sequential(Draws(), nn.Linear(6, 3))

    data = [tuple(split.values()) for split in objective.splits().values()]
    trainer = Trainer(Classification(build, *data, Optimization(batch_size=16)), [])
    for stream in ("elementary", "response"):
        step = trainer.lower.begin(0, trainer.lower.batches.at(0), {}, stream)
        trainer.lower.network(step.inputs)
        assert not torch.equal(seen[-1], step.rand(4))


def test_a_batch_of_one_example(objective):
    data = [tuple(split.values()) for split in objective.splits().values()]
    single = Classification(objective.network, *data, Optimization(batch_size=1))
    trainer = Trainer(single, [regularizers["label_smoothing"](epsilon=Tune(0.1))])
    assert trainer.execute(cycle(trainer, steps=2)).kind == "cycle"


def test_validation_batches_follow_the_hyper_step_also_after_a_resume(objective, regularization):
    data = [tuple(split.values()) for split in objective.splits().values()]
    batched = Classification(objective.network, *data, objective.optimization, validation_batch_size=20)

    def at(hyper_step, order):
        return replace(order, values=replace(order.values, version=hyper_step), steps=1)

    first = Trainer(batched, regularization)
    order = cycle(first)
    for hyper_step in range(3):  # two batches of 20 in the 48 examples: the third is of a new epoch
        saved = copy.deepcopy(first.state_dict())
        report = first.execute(at(hyper_step, order))
        second = Trainer(batched, regularization)
        second.load_state_dict(saved)
        again = second.execute(at(hyper_step, order))
        assert same(report.tensors, again.tensors)
        assert report.metrics["validation_loss"] == again.metrics["validation_loss"]
    drawn = [first.lower.validation.at(number).index for number in range(3)]
    assert len(torch.cat(drawn[:2]).unique()) == 40  # without replacement within an epoch
    assert not torch.equal(drawn[0], drawn[2])


class NoLooks(TorchDispatchMode):
    """Refuses what would make the host wait for a device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in {"_local_scalar_dense", "item", "nonzero", "masked_select", "is_nonzero"}, name
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("variant", VARIANTS)
def test_training_steps_never_wait_for_the_device(objective, regularization, variant):
    trainer = Trainer(objective, regularization)
    trainer.execute(cycle(trainer, steps=1, response=VARIANTS[variant]))
    trainer.estimator.begin(cycle(trainer))
    with NoLooks():
        trainer.estimator.train(1)


def test_an_absent_device_is_refused(objective):
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(SettingError, match="device: is a CUDA device, but torch finds none"):
        Trainer(objective, [], device="cuda")


def test_the_plain_network_is_an_ordinary_module_with_the_trained_weights(objective, regularization):
    trainer = Trainer(objective, regularization)
    trainer.execute(cycle(trainer))
    network = trainer.plain_network()
    assert type(network[0]) is nn.Linear
    assert not network[2]._forward_pre_hooks
    assert same(network.state_dict(), trainer.lower.network.state_dict())
    finish = trainer.execute(FinishTraining())
    inputs, labels = objective.splits()["test"].values()
    expected = nn.functional.cross_entropy(network(inputs), labels).item()
    assert finish.metrics["test_loss"] == pytest.approx(expected, rel=1e-5)


def test_an_uncentred_network_is_exported_at_the_hyperparameters(objective, regularization):
    trainer = Trainer(objective, regularization)
    order = cycle(trainer, steps=10, response=STN)
    trainer.execute(order)
    u = order.values.unconstrained
    inputs = objective.splits()["test"]["inputs"]
    gated = trainer.estimator.response.perturbed(u.expand(len(inputs), -1), inputs)
    trainer.lower.network.train()
    torch.testing.assert_close(trainer.plain_network(u)(inputs), gated, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("centered", [True, False])
def test_learning_speed_does_not_depend_on_where_a_centred_response_is_fitted(objective, centered):
    from selftune.hyperparameters import Hyperparameter
    from selftune.registries.reference import Reference
    from selftune.regularization.regularizer import Regularizer

    def slope_after(shift, steps=300):
        class Pull(Regularizer):  # the optimal weights move with slope one, wherever u lies
            name, family, kind, reference = "pull", "test", "penalty", Reference("test")
            hyperparameters = (
                Hyperparameter("strength", Interval(0.0, 10.0), 1.0),
                Hyperparameter("to", Interval(), 0.0, shared=True),
            )

            def penalty(self, step):
                distance = step.parameters["2.weight"] - (self.value(step, "to") - shift)
                return 0.1 * distance.square().sum()

        trainer = Trainer(objective, [Pull(to=Tune(float(shift)))])
        response = Response(
            linearize=centered, joint=not centered, centered=centered, optimizer="sgd", learning_rate=0.05
        )
        trainer.execute(cycle(trainer, steps=steps, response=response, scale=0.5, hypergradient=False))
        estimator = trainer.estimator.response
        h = torch.tensor([0.0 if centered else float(shift)])
        moved = estimator.weights(h + 1.0)["2.weight"] - estimator.weights(h)["2.weight"]
        return moved.mean().item()

    near, far = slope_after(0), slope_after(6)
    if centered:
        assert far == pytest.approx(near, rel=1e-2)  # weights near 6 and near 0 round differently for 300 steps
        assert near == pytest.approx(1.0, abs=0.15)
    else:
        assert not abs(far - 1) < 2 * abs(near - 1)  # slower by far, or not stable at this rate at all


JOINT = Response(joint=True, linearize=False)


def test_a_joint_step_applies_parameter_maps_once(objective):
    """At zero gates and a vanishing perturbation a joint step is a plain one, but for the response set."""
    chosen = [regularizers["decoupled_weight_decay"](strength=Tune(3.0)), regularizers["max_norm"](limit=0.5)]
    joint, plain = (Trainer(objective, chosen) for _ in range(2))
    joint.execute(cycle(joint, steps=1, response=JOINT, scale=1e-6))
    plain.execute(replay(plain, (1, plain.space.constrain(plain.space.start))))
    for name, tensor in weights(plain).items():
        torch.testing.assert_close(weights(joint)[name], tensor, rtol=1e-4, atol=1e-6)


def test_state_of_regularizers_moves_in_joint_steps(objective):
    trainer = Trainer(objective, [regularizers["early_learning"](strength=Tune(0.5))])
    trainer.execute(cycle(trainer, steps=1, response=STN))
    table = trainer.lower.regularizers.state_dict()["early_learning"]["table"]
    assert int((table.sum(dim=1) > 0).sum()) == objective.optimization.batch_size


def test_penalties_on_weights_reach_both_sets_when_they_are_fitted_jointly(objective):
    trainer = Trainer(objective, [regularizers["weight_decay"](strength=Tune(10.0))])
    order = cycle(trainer, steps=60, response=STN, hypergradient=False)
    trainer.execute(order)
    # under a decay this strong, weights that feel it vanish
    norm = sum(p.square().sum() for name, p in trainer.lower.parameters.items() if "weight" in name)
    fresh = Trainer(objective, []).lower.parameters
    assert norm < 0.1 * sum(p.square().sum() for name, p in fresh.items() if "weight" in name)


@pytest.mark.parametrize("response", [DELTA, Response(linearize=False)])
def test_norm_statistics_are_those_of_plain_training(blobs, response):
    def build():
        return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))

    objective = Classification(build, blobs(96, 0), blobs(48, 1), blobs(48, 2), Optimization(batch_size=16))
    chosen = [regularizers["label_smoothing"](epsilon=Tune(0.05))]
    tuned, plain = (Trainer(objective, chosen, seed=2) for _ in range(2))
    tuned.execute(cycle(tuned, steps=8, response=response))
    plain.execute(replay(plain))
    assert same(weights(tuned), weights(plain))


def test_what_a_regularizer_attached_is_merged_into_the_plain_network(objective):
    from selftune.registries.reference import Reference
    from selftune.regularization.regularizer import Regularizer

    class Shift(Regularizer):  # adds a trainable bias in front of the first layer
        name, family, kind, reference = "shift", "test", "reparam", Reference("test")

        def attach(self, network):
            shift = nn.Parameter(torch.ones(16))
            network[0].register_parameter("shift", shift)
            network[0].register_forward_hook(lambda module, _, output: output + module.shift)

        def export(self, state):
            state["0.bias"] = state["0.bias"] + state.pop("0.shift")

    trainer = Trainer(objective, [Shift()])
    inputs = objective.splits()["test"]["inputs"]
    trained = trainer.lower.network.eval()(inputs)
    torch.testing.assert_close(trainer.plain_network()(inputs), trained)

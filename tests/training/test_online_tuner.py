"""Tuning in a loop of one's own."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from selftune import FunctionObjective, OnlineTuner, Optimization, SettingError, Tune, tune
from selftune.training import TrainerFactory

SETTINGS = {"warmup_steps": 4, "train_steps": 2, "learning_rate": 0.05}
TUNED = {"dropout": {"rate": Tune(0.2)}, "weight_decay": {"parts": "layer", "strength": Tune(1e-2)}}


def data(examples, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(examples, 6, generator=generator)
    return {"x": x, "y": (x[:, :3].sum(dim=1) > 0).long() + (x[:, 0] > 1).long()}


def network():
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 3))


def loss(outputs, batch):
    return F.cross_entropy(outputs, batch["y"], reduction="none")


def forward(model, batch):
    return model(batch["x"])


def objective_of(**settings):
    parts = data(64, 0), data(32, 101), data(32, 2)
    rule = Optimization(batch_size=16, learning_rate=0.1)
    return FunctionObjective(network, loss, *parts, forward=forward, optimization=rule, **settings)


def optimizer_of(model):
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=True)


def tuner_of(model, regularizers=TUNED, **settings):
    chosen = {"loss": loss, "validation": [data(32, 101)], "forward": forward, **SETTINGS, **settings}
    return OnlineTuner(model, optimizer_of(model), regularizers, **chosen)


def looped(tuner, batches):
    for batch in batches:
        tuner.loss(batch).backward()
        tuner.step()


@pytest.mark.parametrize("method", ["self_tuning", "implicit"])
def test_a_loop_and_tune_give_the_same_numbers_to_the_last_bit(method):
    objective = objective_of()
    tuned = TUNED if method == "self_tuning" else {"weight_decay": TUNED["weight_decay"]}
    trainer = TrainerFactory(objective, tuned, steps=20)(0)
    model = copy.deepcopy(trainer.lower.network)
    result = tune(objective, tuned, steps=20, method=method, **SETTINGS)
    tuner = tuner_of(model, tuned, method=method, steps=20)
    if method == "implicit":  # a loop does not know the batch to come, of which this method asks
        tuner.lower.batches.at = trainer.lower.batches.at
    looped(tuner, (trainer.lower.batches.at(step).batch for step in range(20)))
    assert tuner.done
    assert len(tuner.trajectory) == len(result.trajectory) == 8
    assert tuner.hyperparameters == dict(result.hyperparameters)
    for here, there in zip(tuner.trajectory, result.trajectory, strict=True):
        assert torch.equal(here.hypergradient, there.hypergradient)
        assert here.validation_loss == there.validation_loss
    for name, tensor in result.network.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


@pytest.mark.parametrize("method", ["self_tuning", "implicit"])
def test_a_loop_holds_what_cannot_be_told_from_noise_and_goes_on_from_its_state(method):
    tuned = {"weight_decay": TUNED["weight_decay"]}
    batches = [data(16, seed) for seed in range(40)]
    torch.manual_seed(0)
    model = network()
    other = copy.deepcopy(model)
    tuner, half = (tuner_of(m, tuned, method=method, significance=0.05) for m in (model, other))
    looped(tuner, batches)
    assert tuner.trajectory[-1].diagnostics["held"] == len(tuner.hyperparameters)
    assert list(tuner.hyperparameters.values()) == pytest.approx([1e-2] * 2)
    looped(half, batches[:20])
    state = copy.deepcopy(half.state_dict())
    later = tuner_of(network(), tuned, method=method, significance=0.05)
    later.load_state_dict(state)
    looped(later, batches[20:])
    assert later.trajectory[-1].diagnostics == tuner.trajectory[-1].diagnostics


def test_without_regularizers_the_loop_is_the_bare_one():
    torch.manual_seed(0)
    model = network()
    model[3] = nn.Identity()  # whose draws would be the tuner's
    bare = copy.deepcopy(model)
    batches = [data(16, seed) for seed in range(5)]
    looped(plain_tuner(model), batches)
    optimizer = optimizer_of(bare)
    for batch in batches:
        optimizer.zero_grad()
        loss(forward(bare, batch), batch).mean().backward()
        optimizer.step()
    for one, other in zip(model.state_dict().values(), bare.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def plain_tuner(model):
    return OnlineTuner(model, optimizer_of(model), {}, loss=loss, validation=[data(32, 101)], forward=forward)


def test_the_loops_own_random_numbers_go_on_as_without_it():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    with torch.random.fork_rng():
        model = network()
    looped(tuner_of(model), [data(16, seed) for seed in range(8)])
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize(("method", "steps"), [("self_tuning", None), ("self_tuning", 8), ("implicit", None)])
def test_its_state_is_all_there_is_to_save(tmp_path, method, steps):
    torch.manual_seed(0)
    start, batches = network(), [data(16, seed) for seed in range(17)]
    tuned = TUNED if method == "self_tuning" else {"weight_decay": TUNED["weight_decay"]}
    schedules = []

    def made(model):
        optimizer = optimizer_of(model)
        schedules.append(torch.optim.lr_scheduler.StepLR(optimizer, 3))
        chosen = {"loss": loss, "forward": forward, "saved": {"schedule": schedules[-1]}, **SETTINGS}
        chosen |= {"method": method, "steps": steps}
        loader = DataLoader([data(8, 100 + seed) for seed in range(4)], batch_size=None)
        return OnlineTuner(model, optimizer, tuned, validation=loader, **chosen)

    def run(tuner, some):
        for batch in some:
            looped(tuner, [batch])
            schedules[-1].step()

    whole = made(copy.deepcopy(start))
    run(whole, batches)
    first = made(copy.deepcopy(start))
    run(first, batches[:9])
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second = made(network())
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    run(second, batches[9:])
    assert second.hyperparameters == whole.hyperparameters
    assert [step.number for step in second.trajectory] == [step.number for step in whole.trajectory]
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(second.model.state_dict()[name], tensor), name


def test_its_schedule_is_followed_by_another_loop():
    torch.manual_seed(0)
    model, batches = network(), [data(16, seed) for seed in range(12)]
    other = copy.deepcopy(model)
    tuner = tuner_of(model)
    looped(tuner, batches)
    following = OnlineTuner(
        other,
        optimizer_of(other),
        TUNED,
        loss=loss,
        validation=[data(32, 101)],
        forward=forward,
        schedule=tuner.schedule,
    )
    looped(following, batches)
    for one, another in zip(model.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(one, another)
    with pytest.raises(SettingError, match="schedule"):
        OnlineTuner(
            other,
            optimizer_of(other),
            {"weight_decay": {"strength": Tune(1e-3)}},
            loss=loss,
            validation=[data(32, 101)],
            forward=forward,
            schedule=tuner.schedule,
        )


def test_labels_are_smoothed_and_mixed_where_the_loss_is_their_cross_entropy():
    torch.manual_seed(0)
    model = network()
    tuner = tuner_of(model, {"label_smoothing": {"epsilon": Tune(0.1)}, "mixup": {"alpha": 0.3}})
    assert tuner.lower.objective.seen.labels == ("y",)
    looped(tuner, [data(16, seed) for seed in range(8)])
    assert tuner.hyperparameters["label_smoothing.epsilon"] != pytest.approx(0.1, abs=1e-6)

    def focal(outputs, batch):
        losses = loss(outputs, batch)
        return (1 - (-losses).exp()) * losses

    with pytest.raises(SettingError, match=r"label_smoothing.*targets"):
        tuner_of(network(), {"label_smoothing": {"epsilon": Tune(0.1)}}, loss=focal)


def test_parts_of_a_batch_may_be_gone_through_one_after_the_other():
    torch.manual_seed(0)
    model = network()
    tuner = tuner_of(model)
    for seed in range(8):
        for part in range(2):
            (tuner.loss(data(8, 2 * seed + part)) / 2).backward()
        tuner.step()
    assert tuner.training_step == 8
    assert len(tuner.trajectory) == 2


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 4)
        self.head = nn.Linear(5, 2)

    def forward(self, tokens, *, lengths):
        mean = self.embedding(tokens).mean(dim=1)
        return {"scores": self.head(torch.cat([mean, lengths[:, None]], dim=1)), "mean": mean}


def test_nested_batches_and_outputs_of_any_structure_are_trained_on():
    generator = torch.Generator().manual_seed(0)

    def batch():
        tokens = torch.randint(11, (8, 3), generator=generator)
        return {
            "fed": {"tokens": tokens, "lengths": torch.rand(8, generator=generator)},
            "wanted": tokens[:, :2] > 5,
        }

    model = TwoInputs()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    tuner = OnlineTuner(
        model,
        optimizer,
        {"weight_decay": {"parts": {"head": ["head"]}, "strength": Tune(1e-2)}},
        loss=lambda outputs, batch: F.binary_cross_entropy_with_logits(
            outputs["scores"], batch["wanted"].float(), reduction="none"
        ).mean(dim=1),
        validation=[batch()],
        forward=lambda model, batch: model(**batch["fed"]),
        **SETTINGS,
    )
    looped(tuner, (batch() for _ in range(10)))
    assert tuner.lower.objective.seen.inputs == ("fed", "tokens")
    assert len(tuner.trajectory) == 3


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"loss": lambda outputs, batch: F.cross_entropy(outputs, batch["y"])},
            "loss: must be one number per example",
        ),
        ({"forward": None}, "forward: the network does not run"),
        ({"validation": []}, "validation"),
        ({"validation": 3}, "validation: must be a loader"),
        ({"method": "penalty"}, "method: must be one that tunes"),
        ({"warmup": 3}, "warmup: unknown setting"),
        ({"regularizers": {"fish": {}}}, "fish"),
        ({"regularizers": {"dropuot": {}}}, "dropuot: unknown regularizer"),
        (
            {"quantities": {"labels": lambda outputs, batch: batch["z"]}},
            "quantities.labels: cannot be taken",
        ),
        ({"steps": 3}, "warmup_steps"),
        ({"seed": -1}, "seed"),
    ],
)
def test_what_does_not_fit_is_one_sentence_before_anything_is_trained(changes, sentence):
    with pytest.raises(SettingError, match=sentence):
        tuner_of(network(), **changes)


def test_an_optimizer_of_another_network_is_refused():
    model = network()
    with pytest.raises(SettingError, match="optimizer: does not hold 6 of the model's 6 trained parameters"):
        OnlineTuner(
            model,
            optimizer_of(network()),
            TUNED,
            loss=loss,
            validation=[data(32, 101)],
            forward=forward,
            **SETTINGS,
        )


def test_validation_data_that_are_trained_on_are_warned_of():
    tuner = tuner_of(network())
    with pytest.warns(UserWarning, match="validation: shares 16 examples of its first batch"):
        looped(tuner, [{name: tensor[:16] for name, tensor in data(32, 101).items()}])


def test_steps_out_of_order_are_said_to_be():
    tuner = tuner_of(network())
    with pytest.raises(RuntimeError, match="call loss"):
        tuner.step()
    tuner.loss(data(16, 0))
    with pytest.raises(RuntimeError, match="under way"):
        tuner.state_dict()


def test_a_loss_that_is_not_finite_any_more_says_where():
    def blown_up(outputs, batch):
        return loss(outputs, batch) * batch["scale"].log()

    def scaled(seed, scale):
        return {**data(16, seed), "scale": torch.full((16,), scale)}

    model = network()
    tuner = tuner_of(model, loss=blown_up, validation=[scaled(1, 2.0)])
    looped(tuner, [scaled(0, 2.0), scaled(0, 0.0), scaled(0, 2.0)])
    with pytest.raises(ArithmeticError, match="at training step 1"):
        looped(tuner, [scaled(0, 2.0)])


def test_validation_batches_come_from_a_loader_over_and_over():
    model = network()
    x = data(40, 101)
    loader = DataLoader(TensorDataset(x["x"], x["y"]), batch_size=16, shuffle=True)
    tuner = OnlineTuner(
        model,
        optimizer_of(model),
        TUNED,
        loss=lambda outputs, batch: F.cross_entropy(outputs, batch[1], reduction="none"),
        validation=loader,
        forward=lambda model, batch: model(batch[0]),
        **SETTINGS,
    )
    looped(tuner, ((part["x"], part["y"]) for part in (data(16, seed) for seed in range(14))))
    assert len(tuner.trajectory) == 5
    measures = tuner.evaluate()
    model.eval()
    expected = F.cross_entropy(model(x["x"]), x["y"]).detach()
    assert measures["validation_loss"] == pytest.approx(float(expected), rel=1e-5)
    assert 0 <= measures["validation_accuracy"] <= 1


def test_a_model_that_moves_away_is_said_to():
    model = network()
    tuner = tuner_of(model)
    model.to("meta")
    with pytest.raises(SettingError, match="model: has moved away from cpu"):
        tuner.loss(data(16, 0))


def test_a_model_has_one_tuner_at_a_time():
    model = network()
    first = tuner_of(model)
    looped(first, [data(16, seed) for seed in range(8)])
    with pytest.raises(SettingError, match=r"model: is tuned by another OnlineTuner .* close\(\)"):
        tuner_of(model)
    first.close()
    assert type(model[0]) is nn.Linear
    looped(tuner_of(model), [data(16, seed) for seed in range(8)])


def test_a_compiled_model_is_tuned_by_the_network_within():
    model = network()
    plain = tuner_of(copy.deepcopy(model))
    tuner = tuner_of(torch.compile(model, backend="eager"))
    assert tuner.lower.network is model
    for one in (tuner, plain):
        looped(one, [data(16, seed) for seed in range(8)])
    assert tuner.hyperparameters == plain.hyperparameters


def test_the_response_is_fitted_in_the_precision_of_the_loop(monkeypatch):
    model = network()
    tuner = tuner_of(model)
    seen = []
    model[0].register_forward_hook(lambda module, inputs, output: seen.append(getattr(output, "dtype", None)))
    for seed in range(8):
        with torch.autocast("cpu", torch.bfloat16):
            batch_loss = tuner.loss(data(16, seed))
        batch_loss.backward()
        tuner.step()
    assert torch.float32 not in seen
    assert seen.count(torch.bfloat16) >= 8


def test_gradients_may_be_scaled_and_clipped_by_the_loop():
    model = network()
    other = tuner_of(copy.deepcopy(model))
    tuner = tuner_of(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    for seed in range(8):
        scaler.scale(tuner.loss(data(16, seed))).backward()
        scaler.unscale_(tuner.optimizer)
        tuner.before_step()
        scaler.step(tuner.optimizer)
        scaler.update()
        tuner.optimizer.zero_grad()
        tuner.after_step()
    looped(other, [data(16, seed) for seed in range(8)])
    assert tuner.hyperparameters == pytest.approx(other.hyperparameters, rel=1e-4)


def numbered(examples, seed):
    return data(examples, seed) | {"index": torch.arange(examples)}


def drawn(batch, steps, size=16):
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        rows = torch.randperm(len(batch["y"]), generator=generator)[:size]
        yield {name: tensor[rows] for name, tensor in batch.items()}


def test_wrong_labels_lose_their_weight_in_a_loop():
    train = numbered(64, 0)
    wrong = torch.arange(64) % 4 == 0
    train["y"] = torch.where(wrong, (train["y"] + 1) % 3, train["y"])
    tuner = tuner_of(
        nn.Linear(6, 3),
        {},
        validation=[numbered(128, 101)],
        quantities={"index": lambda outputs, batch: batch["index"]},
        examples=64,
        example_weights=Tune(0.5),
        method="implicit",
        learning_rate=0.2,
    )
    looped(tuner, drawn(train, 100))
    weights = torch.tensor(list(tuner.hyperparameters.values()))
    assert list(tuner.hyperparameters)[5] == "objective.example_weights[5]"
    assert float(weights[wrong].mean()) < float(weights[~wrong].mean()) - 0.1


def test_a_regularizer_has_a_value_per_example_in_a_loop():
    tuner = tuner_of(
        nn.Linear(6, 3),
        {"label_smoothing": {"parts": "example", "epsilon": Tune(0.1)}},
        validation=[numbered(32, 101)],
        quantities={"index": lambda outputs, batch: batch["index"]},
        examples=64,
    )
    looped(tuner, drawn(numbered(64, 0), 8))
    assert len(tuner.hyperparameters) == 64
    assert len(set(tuner.hyperparameters.values())) > 1


def test_weights_per_example_need_to_know_the_examples():
    with pytest.raises(SettingError, match="example_weights: has one value per training example; give quantities"):
        tuner_of(nn.Linear(6, 3), {}, example_weights=Tune(0.5))

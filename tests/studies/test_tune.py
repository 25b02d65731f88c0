import pytest
import torch
from torch import nn

from selftune import Classification, Optimization, Schedule, SettingError, Tune, regularizers, tune


def objective():
    generator = torch.Generator().manual_seed(0)
    inputs, labels = torch.randn(96, 6, generator=generator), torch.randint(3, (96,), generator=generator)
    splits = [(inputs[i : i + 32], labels[i : i + 32]) for i in (0, 32, 64)]
    network = lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))  # noqa: E731
    return Classification(network, *splits, Optimization(batch_size=16))


def judged():
    """The same with enough validation examples for a paired test."""
    generator = torch.Generator().manual_seed(1)
    inputs, labels = torch.randn(128, 6, generator=generator), torch.randint(3, (128,), generator=generator)
    train, validation, test = ((inputs[a:b], labels[a:b]) for a, b in ((0, 32), (32, 96), (96, 128)))
    network = lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))  # noqa: E731
    return Classification(network, train, validation, test, Optimization(batch_size=16))


def settings():
    return {"weight_decay": {"parts": "layer", "strength": Tune(1e-3)}, "dropout": {"rate": Tune(0.2)}}


def test_a_result_holds_what_was_found():
    result = tune(objective(), settings(), steps=40, warmup_steps=10)
    assert list(result.hyperparameters) == [
        "dropout.rate",
        "weight_decay.strength[0]",
        "weight_decay.strength[2]",
    ]
    assert [step.training_step for step in result.trajectory] == [15, 20, 25, 30, 35, 40]
    start = result.trajectory[0].hyperparameters
    torch.testing.assert_close(start, torch.tensor([0.2, 1e-3, 1e-3]))
    assert torch.tensor(list(result.hyperparameters.values())).ne(start).all()
    assert {"validation_loss", "test_loss", "test_accuracy"} <= set(result.metrics)
    split = objective().splits()["test"]
    loss = nn.functional.cross_entropy(result.network(split["inputs"]), split["labels"])
    assert loss.item() == pytest.approx(result.metrics["test_loss"], rel=1e-5)


def test_regularizers_by_name_and_built_are_the_same():
    named = tune(objective(), settings(), steps=20, warmup_steps=10)
    built = [regularizers[name](**given) for name, given in settings().items()]
    assert tune(objective(), built, steps=20, warmup_steps=10).hyperparameters == named.hyperparameters


def test_a_second_call_with_the_same_output_goes_on(tmp_path):
    whole = tune(objective(), settings(), steps=40, warmup_steps=10, checkpoint_every=2)
    first = tune(objective(), settings(), steps=40, warmup_steps=10, checkpoint_every=2, output=tmp_path)
    assert first.hyperparameters == whole.hyperparameters
    again = tune(objective(), settings(), steps=40, warmup_steps=10, checkpoint_every=2, output=tmp_path)
    assert again.hyperparameters == whole.hyperparameters
    assert_same(again.trajectory, whole.trajectory)
    assert (tmp_path / "trajectory.parquet").exists()


def test_what_cannot_be_told_from_noise_is_held(tmp_path):
    def tuned(**more):
        held = {"warmup_steps": 10, "train_steps": 1, "checkpoint_every": 2, "significance": 0.05}
        return tune(objective(), settings(), steps=30, **held, **more)

    result = tuned()
    assert dict(result.hyperparameters) == pytest.approx(
        {k: 0.2 if "rate" in k else 1e-3 for k in result.hyperparameters}
    )
    assert result.trajectory[-1].diagnostics["held"] == 3
    assert 0 < result.trajectory[-1].diagnostics["evidence/dropout.rate"] < 20
    assert_same(tuned(output=tmp_path).trajectory, result.trajectory)
    assert "diagnostic/evidence/dropout.rate" in result.to_pandas()


def assert_same(trajectory, other):
    """Everything but the time that it took."""
    assert len(trajectory) == len(other)
    for a, b in zip(trajectory, other, strict=True):
        for name in ("number", "training_step", "training_loss", "validation_loss", "diagnostics", "certificate"):
            assert getattr(a, name) == getattr(b, name)
        for name in ("hyperparameters", "scale", "hypergradient"):
            assert torch.equal(getattr(a, name), getattr(b, name))


def test_the_trajectory_of_a_call_that_went_on_is_whole(tmp_path, monkeypatch):
    arguments = {"steps": 40, "warmup_steps": 10, "checkpoint_every": 2}
    whole = tune(objective(), settings(), **arguments)
    told = []

    def stop(listener, step):
        told.append(step)
        if len(told) == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("selftune.listener.Remembered.hyper_step", stop)
        with pytest.raises(KeyboardInterrupt):
            tune(objective(), settings(), output=tmp_path, **arguments)
    again = tune(objective(), settings(), output=tmp_path, **arguments)
    assert_same(again.trajectory, whole.trajectory)
    assert (again.schedule.ends == whole.schedule.ends).all()
    assert (again.schedule.values == whole.schedule.values).all()


def test_the_schedule_is_that_of_the_folder_and_ends_with_the_run(tmp_path):
    result = tune(objective(), settings(), steps=42, warmup_steps=10, output=tmp_path)
    kept = Schedule.load(tmp_path)
    assert kept.names == result.schedule.names == tuple(result.hyperparameters)
    assert (kept.values == result.schedule.values).all()
    assert kept.steps == result.schedule.steps == 42
    assert kept.at(0) == pytest.approx(dict(zip(kept.names, (0.2, 1e-3, 1e-3), strict=True)))


def test_progress_and_the_report_on_the_network_come_where_they_are_wanted(capsys):
    tune(objective(), settings(), steps=20, warmup_steps=10)
    assert capsys.readouterr().err == ""  # no terminal
    tune(objective(), settings(), steps=20, warmup_steps=10, progress=True)
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("weight_decay reaches 72 of 83 parameters (87 %)") == 1
    assert told.err.count("0      Linear  linear rank 1") == 1
    assert "tune: 20/20 training steps, hyper-step 2" in told.err.splitlines()[-1]


def test_a_call_that_goes_on_says_from_where(tmp_path, capsys):
    tune(objective(), settings(), steps=20, warmup_steps=10, output=tmp_path)
    tune(objective(), settings(), steps=20, warmup_steps=10, output=tmp_path, progress=True)
    assert capsys.readouterr().err.splitlines()[-1] == "tune: goes on after hyper-step 2"


def test_a_folder_says_how_its_network_responds(tmp_path):
    tune(objective(), settings(), steps=20, warmup_steps=10, output=tmp_path)
    assert "linear rank 1" in (tmp_path / "conversion.txt").read_text()


@pytest.mark.parametrize(
    ("method", "trainers", "more"),
    [
        ("implicit", 1, {"system_steps": 3}),
        ("penalty", 2, {"train_steps": 5}),
        ("inexact_line_search", 1, {"train_steps": 10, "validation_samples": 30}),
    ],
)
def test_every_method_of_networks_tunes_what_is_smooth(method, trainers, more):
    smooth = {"weight_decay": settings()["weight_decay"]}
    result = tune(judged(), smooth, steps=60, trainers=trainers, method=method, warmup_steps=10, **more)
    assert list(result.hyperparameters) == ["weight_decay.strength[0]", "weight_decay.strength[2]"]
    assert all(step.certificate["certified"] == 0 for step in result.trajectory)
    assert result.network(objective().splits()["test"]["inputs"]).shape == (32, 3)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"method": "penalti"}, "method: unknown name 'penalti'; did you mean penalty?"),
        (
            {"method": "penalty"},
            "trainers: must be a multiple of 2, because trainers work in groups of so many; got 1",
        ),
        ({"method": "implicit"}, r"dropout\.rate: cannot be tuned by implicit, .* tune it by self_tuning"),
        ({"regularizers": {"droput": {}}}, "droput: unknown regularizer; did you mean dropout?"),
        ({"warmup_step": 1}, "warmup_step: unknown setting; did you mean warmup_steps?"),
        ({"steps": None}, "give either steps or seconds"),
        (
            {"regularizers": {"dropout": {"rate": 0.1}}},
            "regularizers: nothing is tuned; give at least one hyperparameter a start",
        ),
        (
            {"regularizers": {"dropout": {"rate": Tune(2)}}},
            r"dropout\.rate\.start: must be a number in \[0, 0.95\]",
        ),
    ],
)
def test_refuses(changes, sentence):
    arguments = {"regularizers": settings(), "steps": 20, "warmup_steps": 5} | changes
    with pytest.raises(SettingError, match=sentence):
        tune(objective(), arguments.pop("regularizers"), **arguments)

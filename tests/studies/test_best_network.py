"""The best network of a run is the last one of a run that ends there."""

import pytest
import torch
from torch import nn

from selftune import Classification, Optimization, SettingError, Tune, tune
from selftune.methods import Response
from selftune.networks.network_state import state_of
from selftune.tracking.trajectory import TrajectoryWriter

_WARM = {"warmup_steps": 6}
METHODS = {
    "self_tuning": _WARM,
    "self_tuning, STN": {**_WARM, "response": Response(centered=False, joint=True, linearize=False)},
    "implicit": {**_WARM, "system_steps": 2},
    "penalty": {**_WARM, "trainers": 2},
    "inexact_line_search": {**_WARM, "train_steps": 6, "lanczos_steps": 2, "system_steps": 2, "seed": 1},
    "held": {"train_steps": 5},
}


def overfitted():
    """A network that is best early: it learns labels by heart that are wrong."""

    def split(examples, seed, wrong):
        generator = torch.Generator().manual_seed(seed)
        labels = torch.arange(examples) % 3
        inputs = torch.randn(examples, 6, generator=generator) + labels[:, None]
        labels[:wrong] = torch.randint(3, (wrong,), generator=generator)
        return inputs, labels

    def build():
        return nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 3))

    splits = (split(n, seed, wrong) for n, seed, wrong in ((48, 0, 24), (96, 1, 0), (48, 2, 0)))
    return Classification(build, *splits, Optimization(batch_size=16, learning_rate=0.3))


def run(label, steps=100, **settings):
    regularizers = {"label_smoothing": {"epsilon": Tune(0.01)}}
    method = label.partition(",")[0]
    return tune(overfitted(), regularizers, steps=steps, method=method, **METHODS[label], **settings)


def same(one, another):
    one, another = state_of(one), state_of(another)
    return one.keys() == another.keys() and all(torch.equal(one[name], another[name]) for name in one)


@pytest.mark.parametrize("label", METHODS)
def test_the_best_network_is_that_of_a_run_that_ends_there(label):
    result = run(label)
    best = result.best
    step = min(result.trajectory, key=lambda step: step.validation_loss)
    assert (best.hyper_step, best.step, best.value) == (step.number, step.training_step, step.validation_loss)
    assert list(best.hyperparameters.values()) == step.hyperparameters.tolist()
    assert best.step < 100
    assert not same(best.network, result.network)
    if label != "inexact_line_search":  # which judges by samples
        assert best.metrics["validation_loss"] == pytest.approx(best.value, rel=1e-5)
    if label != "self_tuning, STN":  # whose network is another one at the hyperparameters that a step moved to
        shorter = run(label, steps=best.step)
        assert same(best.network, shorter.network)
        assert dict(best.metrics) == dict(shorter.metrics)


def test_where_the_last_network_is_the_best_both_are_the_same():
    result = run("implicit", steps=11)
    assert result.best.step == 11
    assert same(result.best.network, result.network)
    assert dict(result.best.metrics) == dict(result.metrics)


def test_training_stops_when_nothing_gets_better():
    whole, early = run("implicit"), run("implicit", patience=3)
    assert early.best.step == whole.best.step
    assert len(early.trajectory) == early.best.hyper_step + 4
    assert same(early.best.network, whole.best.network)


def test_the_metric_says_what_is_best():
    result = run("implicit", metric="validation_accuracy")
    accuracies = [step.diagnostics["validation_accuracy"] for step in result.trajectory]
    assert result.best.hyper_step == accuracies.index(max(accuracies))
    assert result.best.metric == "validation_accuracy"


def test_an_interrupted_run_has_the_same_best_network(tmp_path):
    whole = run("implicit", checkpoint_every=4)

    class Interrupted(Exception):
        pass

    stopped, hyper_step = [], TrajectoryWriter.hyper_step

    def interrupt(writer, step):
        hyper_step(writer, step)
        if step.number == 10 and not stopped:
            stopped.append(True)
            raise Interrupted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrajectoryWriter, "hyper_step", interrupt)
        with pytest.raises(Interrupted):
            run("implicit", checkpoint_every=4, output=tmp_path)
    again = run("implicit", checkpoint_every=4, output=tmp_path)
    assert stopped
    assert again.best.hyper_step == whole.best.hyper_step < 7
    assert same(again.best.network, whole.best.network)
    assert (tmp_path / "best_network.safetensors").exists()


def test_a_metric_that_nobody_measures_is_refused():
    with pytest.raises(SettingError, match="did you mean validation_accuracy") as error:
        run("implicit", metric="validation_acuracy")
    assert error.value.key == "metric"

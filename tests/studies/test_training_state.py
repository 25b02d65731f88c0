"""Schedules, averages, clipping and loss scales are part of checkpoints and of replays, to the last bit."""

import pytest
import torch
from torch import nn

from selftune import Classification, Optimization, Tune, tune
from selftune.methods import Replay, Segment
from selftune.networks.network_state import state_of
from selftune.tracking.trajectory import TrajectoryWriter
from selftune.training import TrainerFactory, run_in_process

_WARM = {"warmup_steps": 6}
METHODS = {
    "self_tuning": _WARM,
    "implicit": {**_WARM, "system_steps": 2},
    "penalty": {**_WARM, "trainers": 2},
    "inexact_line_search": {**_WARM, "train_steps": 6, "lanczos_steps": 2, "system_steps": 2, "proximal": False},
    "held": {"train_steps": 6},
}
REGULARIZERS = {
    "label_smoothing": {"epsilon": Tune(0.1)},
    "weight_decay": {"parts": "layer", "strength": Tune(1e-3)},
}
CHOSEN = {
    "cosine": {"schedule": {"name": "cosine", "warmup_steps": 5}, "clip_norm": 0.5, "average": 0.9},
    "one cycle in float16": {"schedule": "one_cycle", "autocast": "float16", "clip_value": 0.1},
    "a list of steps, accumulated": {"schedule": {"name": "MultiStepLR", "milestones": [7, 20]}, "accumulate": 3},
}


def network():
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))


def objective(chosen):
    def split(examples, seed):
        generator = torch.Generator().manual_seed(seed)
        labels = torch.arange(examples) % 3
        return torch.randn(examples, 6, generator=generator) + labels[:, None], labels

    optimization = Optimization(batch_size=16, learning_rate=0.05, **CHOSEN[chosen])
    return Classification(network, split(96, 0), split(96, 1), split(48, 2), optimization)


def run(method, chosen, **settings):
    return tune(
        objective(chosen),
        REGULARIZERS,
        steps=40,
        method=method,
        checkpoint_every=2,
        **METHODS[method],
        **settings,
    )


def same(one, another):
    one, another = state_of(one), state_of(another)
    return all(torch.equal(one[name], another[name]) for name in one)


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("chosen", CHOSEN)
@pytest.mark.parametrize("method", METHODS)
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path, method, chosen):
    whole, stopped, hyper_step = run(method, chosen), [], TrajectoryWriter.hyper_step

    def interrupt(writer, step):
        hyper_step(writer, step)
        if step.number == 3 and not stopped:
            stopped.append(True)
            raise Interrupted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrajectoryWriter, "hyper_step", interrupt)
        with pytest.raises(Interrupted):
            run(method, chosen, output=tmp_path)
    again = run(method, chosen, output=tmp_path)
    assert (tmp_path / "checkpoints").exists()
    assert again.hyperparameters == whole.hyperparameters
    assert same(again.network, whole.network)
    assert same(again.best.network, whole.best.network)


@pytest.mark.parametrize("chosen", CHOSEN)
@pytest.mark.parametrize("method", ["self_tuning", "implicit", "inexact_line_search", "held"])
def test_a_replay_of_the_trajectory_gives_the_same_network(method, chosen):
    whole = run(method, chosen)
    segments = [Segment(step.training_step, step.hyperparameters) for step in whole.trajectory]
    if method not in ("inexact_line_search", "held"):  # which may have found no step that passes its test
        assert len({tuple(step.hyperparameters.tolist()) for step in whole.trajectory}) > 1
    factory = TrainerFactory(objective(chosen), REGULARIZERS, steps=40)
    reports = run_in_process(Replay(segments, 40), {0: factory(0)})
    replayed = {name.removeprefix("network."): tensor for name, tensor in reports[0].tensors.items()}
    assert all(torch.equal(replayed[name], tensor) for name, tensor in state_of(whole.network).items())

"""Tuned runs of every online method on a device: where their tensors are, and how often the host waits."""

import pytest
import torch
from emulated_device import listed
from tuned_runs import CYCLE, METHODS, OF_LOOPS, batches, end_of, team_of, tuner_of, warmed_up

from selftune.training import loop_objective


def tensors_of(entry, path=""):
    """The tensors in a state, with where they are in it."""
    if isinstance(entry, torch.Tensor):
        yield path, entry
    elif isinstance(entry, dict):
        for key, value in entry.items():
            yield from tensors_of(value, f"{path}.{key}")
    elif isinstance(entry, list | tuple):
        for number, value in enumerate(entry):
            yield from tensors_of(value, f"{path}.{number}")


def elsewhere(state, device):
    """Where in a state there are tensors that are not on the device; counts of an optimizer's steps may be."""
    found = tensors_of(state)
    return [path for path, tensor in found if tensor.device.type != device and not path.endswith(".step")]


def lasting(trainer):
    """What a trainer computes with from its first step to its last, by name."""
    estimator, network = trainer.estimator, trainer.lower.network
    of_response = dict(enumerate(getattr(estimator, "parameters", [])))
    return dict(network.named_parameters()) | dict(network.named_buffers()) | of_response


@pytest.mark.parametrize("label", METHODS)
def test_a_run_stays_on_the_device_and_the_host_waits_once_per_hyper_step(label, place):
    team = warmed_up(label, place.device)
    before = {member: lasting(trainer) for member, trainer in team.trainers.items()}
    with place.watch.seeing() as events:
        team.round()
    of_report = [event for event in events if event.kind == "to host" and "look.py" in event.where]
    assert len(of_report) == len(team.trainers)
    of_orders = [event for event in events if event.kind == "to device" and "nested.py" in event.where]
    assert len(of_orders) <= 3 * len(team.trainers)  # values, constrained or not, and scales of perturbations
    assert len(events) == len(of_report + of_orders), listed(events)
    for member, trainer in team.trainers.items():
        assert all(tensor is before[member][name] for name, tensor in lasting(trainer).items())
        state, drawn = trainer._state(), trainer.lower.batches.at(trainer.training_step)
        assert len(list(tensors_of(state))) > 20
        everything = [state, lasting(trainer), drawn.batch, drawn.index, trainer.lower.validation_batch(3)]
        assert elsewhere(everything, place.device) == []
    assert elsewhere([report.tensors for report in team.last.values()], "cpu") == []
    assert elsewhere(end_of(team), "cpu") == []


@pytest.mark.parametrize("label", OF_LOOPS)
def test_a_loop_of_ones_own_stays_on_the_device_and_waits_once_per_hyper_step(label, place, monkeypatch):
    monkeypatch.setattr(loop_objective, "_WATCHED", 2)  # first batches, which the host looks at
    tuner, model, optimizer = tuner_of(label, place.device)
    there = batches(place.device, 8)
    for number, batch in enumerate(there):
        if number == 8 - CYCLE:  # from here on, all is as it will be, a cycle of steps after the other
            first, steps = len(place.watch.events), len(tuner.trajectory)
        tuner.loss(batch).backward()
        tuner.step()
    events = place.watch.events[first:]
    assert len(tuner.trajectory) == steps + 1
    others = [e for e in events if not (e.kind == "to device" and "nested.py" in e.where)]
    assert [e.kind for e in others] == ["to host"], listed(others)
    assert "look.py" in others[0].where
    assert len(events) <= 4
    state = tuner.lower.state_dict() | {"estimator": tuner.estimator.state_dict()}
    assert elsewhere([state, dict(model.named_parameters()), optimizer.state_dict()], place.device) == []


@pytest.mark.parametrize("label", ["self_tuning", "implicit, neumann"])
def test_the_emulated_device_computes_what_the_cpu_does(label, place, gpu):
    if gpu:
        pytest.skip("kernels of GPUs round otherwise")
    ends = []
    for device in ("cpu", place.device):
        team = team_of(label, device)
        team.join()
        ends.append(end_of(team))
    here, there = ends
    assert here.keys() == there.keys()
    assert all(torch.equal(here[name], there[name]) for name in here)

"""Buffers that a network does not save train, rest, resume and come out with it."""

import io

import pytest
import torch
from method_runs import METHODS, run, task
from steps import begun
from torch import nn

from selftune import Tune
from selftune.methods.work_orders import FollowSchedule
from selftune.regularization.regularizer import regularizers
from selftune.training import Trainer


class Centre(nn.Module):
    """Subtracts a running mean that is in no state_dict; ``replaced`` makes a new tensor of it in every step."""

    def __init__(self, replaced):
        super().__init__()
        self.replaced = replaced
        self.register_buffer("mean", torch.zeros(16), persistent=False)

    def forward(self, inputs):
        if self.training:
            mean = inputs.detach().mean(0)
            if self.replaced:
                self.mean = self.mean.lerp(mean, 0.5)
            else:
                self.mean.lerp_(mean, 0.5)
        return inputs - self.mean


def build(replaced=False):
    return nn.Sequential(nn.Linear(6, 16), Centre(replaced), nn.ReLU(), nn.Linear(16, 3))


def replayed(trainer, steps=3):
    values = trainer.space.constrain(trainer.space.start)
    return trainer.execute(FollowSchedule(segments=((steps, values),)))


def trainer_of(replaced, **members):
    chosen = [regularizers[name](**values) for name, values in members.items()]
    return Trainer(task(lambda: build(replaced)), chosen)


@pytest.mark.parametrize("label", METHODS)
def test_the_network_that_comes_out_is_the_trained_one(label):
    result = run(task(build), label)
    assert (result.network[1].mean != 0).all()
    objective = task(build)
    split = objective.splits()["test"]
    loss = nn.functional.cross_entropy(result.network(split["inputs"]), split["labels"])
    if not label.startswith("penalty"):  # whose measures are means over two networks
        assert abs(loss.item() - result.metrics["test_loss"]) < 1e-5


@pytest.mark.parametrize("replaced", [False, True])
def test_a_saved_trainer_goes_on_from_them(replaced):
    members = {"label_smoothing": {"epsilon": Tune(0.1)}, "mean_teacher": {}, "normalized_distillation": {}}
    first, second = trainer_of(replaced, **members), trainer_of(replaced, **members)
    replayed(first)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=False))
    networks = []
    for trainer in (first, second):
        replayed(trainer)
        networks.append(trainer.plain_network())
    assert torch.equal(networks[0][1].mean, networks[1][1].mean)
    assert torch.equal(networks[0][0].weight, networks[1][0].weight)


@pytest.mark.parametrize("replaced", [False, True])
def test_copies_have_their_own(replaced):
    trainer = trainer_of(replaced, mean_teacher={})
    replayed(trainer, 1)
    (teacher,) = trainer.lower.regularizers.members
    taught = teacher.state_dict()["teacher"]
    own = trainer.lower.network[1].mean
    assert torch.equal(taught["1.mean"], own)
    taught["1.mean"].fill_(7.0)
    inputs = trainer.lower.objective.splits()["test"]["inputs"]
    outputs = trainer.lower.pass_copy(begun(trainer), taught, inputs).logits
    plain = trainer.plain_network()
    with torch.no_grad():
        plain[1].mean = torch.full((16,), 7.0)
        for name, parameter in plain.named_parameters():
            parameter.copy_(taught[name])
    torch.testing.assert_close(outputs, plain(inputs).detach())
    assert not (own == 7).any()

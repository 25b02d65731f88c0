"""What several workers cannot train together is refused in a sentence, before anything is trained."""

import pytest
import torch
from method_runs import perceptron, task
from steps import begun
from torch import nn

from selftune.regularization.regularizer import Regularizer, built_regularizers, regularizers
from selftune.training import Trainer
from selftune.training.process_group import DataParallelGroup
from selftune.training.sharing import sharing_mistakes


class AcrossExamples(nn.Module):
    """Subtracts the mean over the batch, in evaluation, too."""

    def forward(self, inputs):
        return inputs - inputs.mean(dim=0)


def found(build=perceptron, *, regularizers=(), workers=2, sharded=False, **optimization):
    objective, members = task(build, **optimization), built_regularizers(regularizers)
    return [str(mistake) for mistake in sharing_mistakes(objective, members, workers, sharded)]


def test_a_plain_study_is_shared():
    assert found(regularizers={"dropout": {}, "mixup": {}}) == []
    assert found(lambda: perceptron(lambda: nn.BatchNorm1d(16))) == []  # which training alone mixes


class StepsAlone(Regularizer):
    name, family, kind = "steps_alone", "supervision", "proximal"

    def replace(self, step):
        return None


class Recomputes(Regularizer):
    name, family, kind = "recomputes", "supervision", "gradient"
    needs = frozenset({"recompute"})


class SaysItself(StepsAlone):
    one_process = None


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (StepsAlone, "it makes the whole training step itself"),
        (Recomputes, "it takes gradients through the whole network (recompute)"),
        (regularizers["adaptive_mixup"], "its policy learns from the backward pass"),
    ],
)
def test_what_takes_gradients_of_its_own_is_refused(kind, why):
    (mistake,) = found(regularizers=[kind()])
    start = f"regularizers.{kind.name}: cannot be used where several workers share every batch: "
    assert mistake.startswith(start + why)


def test_what_knows_of_several_processes_says_so():
    assert found(regularizers=[SaysItself(), regularizers["sam"]()]) == []


def test_a_network_that_mixes_examples_is_refused():
    (mistake,) = found(lambda: perceptron(AcrossExamples))
    assert mistake.startswith("objective: has a network that does not put out a row for each example")
    assert found(lambda: perceptron(AcrossExamples), workers=1) == []


def test_fewer_examples_than_workers_are_refused():
    (mistake,) = found(batch_size=3, workers=4)
    assert mistake == "objective.batch_size: is 3, too few examples for 4 workers"


class Seven(DataParallelGroup):
    """A group of three, without its processes."""

    def __init__(self, rank):
        self.size, self.rank = 3, rank


def test_parts_of_a_batch_are_all_of_it():
    rows = torch.arange(7)
    assert [rows[Seven(rank).part(7)].tolist() for rank in range(3)] == [[0, 1, 2], [3, 4], [5, 6]]
    assert Seven(0).part(2) is None


@pytest.mark.parametrize("shape", [(7, 2), (14, 2)])  # rows are examples, or two in turn belong to one
def test_draws_follow_the_place_in_the_batch(shape):
    def drawn(part, rows):
        trainer = Trainer(task(perceptron, batch_size=7), [])
        step = begun(trainer)
        with step.in_part(part, 7):
            return step.rand(*rows, examples=0), step.rand(3)

    parts = [Seven(rank).part(7) for rank in range(3)]
    each = shape[0] // 7
    found = [drawn(part, (each * (part.stop - part.start), shape[1])) for part in parts]
    whole, shared = drawn(None, shape)
    assert torch.equal(torch.cat([rows for rows, _ in found]), whole)
    assert all(torch.equal(more, shared) for _, more in found)


def test_rows_that_belong_to_no_example_have_no_draws():
    step = begun(Trainer(task(perceptron, batch_size=7), []))
    with step.in_part(slice(0, 3), 7), pytest.raises(RuntimeError, match="4 rows along axis 0 do not belong"):
        step.rand(4, examples=0)


class Shifted(nn.Linear):
    """A layer with a weight in double precision."""

    def __init__(self):
        super().__init__(16, 3)
        self.shift = nn.Parameter(torch.zeros(3, dtype=torch.float64))

    def forward(self, inputs):
        return super().forward(inputs) + self.shift.float()


@pytest.mark.parametrize(
    ("settings", "mistake"),
    [
        (
            {"regularizers": {"krum": {"workers": 4, "faulty": 0}}},
            "regularizers.krum: cannot be used where every worker holds a part of the weights (fsdp): it combines",
        ),
        ({"regularizers": {"sam": {}}}, "regularizers.sam: cannot be used where every worker holds a part of"),
        ({"optimizer": "rprop"}, "objective.optimization.optimizer: rprop is not known to step parts of weights"),
        (
            {"optimizer": torch.optim.SGD, "learning_rate": 0.01},
            "objective.optimization.optimizer: an optimizer of your own is not known",
        ),
        ({"compile": True}, "objective.optimization.compile: does not go with weights of which every worker"),
        ({"autocast": "float16"}, "objective.optimization.autocast: cannot be float16 where every worker holds"),
        (
            {"build": lambda: nn.Sequential(nn.Linear(6, 16), nn.ReLU(), Shifted())},
            "objective: has weights of several number types (torch.float32, torch.float64)",
        ),
    ],
)
def test_what_needs_whole_weights_is_refused_with_fsdp(settings, mistake):
    (message,) = found(sharded=True, **settings)
    assert message.startswith(mistake)
    assert not any("fsdp" in one for one in found(**settings))


def test_a_plain_study_is_trained_with_fsdp():
    assert found(regularizers={"dropout": {}, "l1": {}, "gradient_clipping": {}}, sharded=True, average=0.9) == []

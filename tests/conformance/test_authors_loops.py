"""A trainer against loops written from papers: the same weights after some steps, up to rounding.

Every entry has a loop in ``authors/``, or a reason why it has none in ``authors/without.py``.
"""

import inspect

import pytest
import torch
from authors import (  # noqa: F401
    adaptation,
    dynamics,
    image_augmentations,
    recurrent,
    representation,
    structure,
    supervision,
)
from authors.bench import LOOPS, STEPS, cross_entropy, trained
from authors.without import WITHOUT
from trainers import NAMES

from selftune.methods.work_orders import FollowSchedule
from selftune.regularization.regularizer import regularizers
from selftune.training import Trainer

CASES = [(name, number) for name, loops in sorted(LOOPS.items()) for number in range(len(loops))]
SLACK = 2**7  # how many roundings of the largest weight a step may differ by


pytestmark = pytest.mark.usefixtures("double")


@pytest.mark.parametrize(("name", "number"), CASES)
def test_a_trainer_does_what_the_authors_loop_does(name, number):
    case = LOOPS[name][number]
    members = [regularizers[member](**settings) for member, settings in case.members.items()]
    trainer = Trainer(case.bench.objective, members, steps=case.bench.total)
    report = trainer.execute(FollowSchedule(segments=((STEPS, torch.empty(0)),)))
    assert report.kind == "replay", report.message
    found = _compared(trainer.plain_network().state_dict())
    expected = _compared(_of(case, name))
    assert found.keys() == expected.keys()
    scale = max(float(tensor.abs().max()) for tensor in expected.values())
    tolerance = SLACK * case.slack * STEPS * torch.finfo(torch.float64).eps * scale
    for tensor, value in expected.items():
        torch.testing.assert_close(
            found[tensor], value, atol=tolerance, rtol=0, msg=lambda m, t=tensor: f"{t}: {m}"
        )
    if case.changes:
        plain = _compared(_plain(case.bench).state_dict())
        same = plain.keys() == expected.keys() and all(
            torch.allclose(plain[t], expected[t], atol=1e3 * tolerance, rtol=0) for t in plain
        )
        assert not same, "the loop does nothing that plain training does not"


def _of(case, name):
    """What a loop trains; its settings are handed on where it asks for them."""
    asked = inspect.signature(case.function).parameters
    settings = {key: value for key, value in case.members[name].items() if key in asked}
    result = case.function(case.bench, **settings)
    return result if isinstance(result, dict) else result.state_dict()


def _plain(bench):
    """Training without the entry; two views alone teach nothing."""
    if bench.kind == "views":
        return bench.start()[0]
    return trained(bench, lambda net, b: cross_entropy(net(b.x), b.y))


def _compared(state):
    return {name: tensor.detach() for name, tensor in state.items() if not name.endswith("num_batches_tracked")}


def test_every_entry_has_a_loop_or_a_reason():
    assert set(LOOPS) | set(WITHOUT) == set(NAMES)
    assert not set(LOOPS) & set(WITHOUT)
    assert all(len(reason) > 20 for reason in WITHOUT.values())

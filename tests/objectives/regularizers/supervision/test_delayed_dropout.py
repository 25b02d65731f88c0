import pytest
import torch
from selftune.objectives.functional import delayed_dropout

from selftune.regularization.regularizer import regularizers

pytestmark = pytest.mark.usefixtures("double")


PROGRESS = torch.linspace(0, 1, 101, dtype=torch.float64)


def test_from_the_start_it_is_constant():
    assert torch.equal(delayed_dropout(PROGRESS, 0.3, 0.0, 0.0), torch.full((101,), 0.3))


def test_the_step_includes_its_start():
    rates = delayed_dropout(torch.tensor([0.49, 0.5, 1.0]), 0.2, 0.5)
    assert rates.tolist() == pytest.approx([0.0, 0.2, 0.2])


@pytest.mark.parametrize(("start", "ramp"), [(0.5, 0.0), (0.2, 0.4), (0.9, 0.5)])
def test_is_monotone_and_never_exceeds_the_rate(start, ramp):
    rates = delayed_dropout(PROGRESS, 0.3, start, ramp)
    assert (rates.diff() >= 0).all()
    assert rates.min() == 0
    assert rates.max() <= 0.3
    if ramp:  # continuous: no step larger than the slope allows
        assert rates.diff().max() <= 0.3 / ramp * 0.01 + 1e-12


def test_tensors_and_numbers_agree_without_nan_gradients():
    ramp = torch.tensor(0.0, requires_grad=True)
    rates = delayed_dropout(PROGRESS, torch.tensor(0.3), torch.tensor(0.5), ramp)
    torch.testing.assert_close(rates, delayed_dropout(PROGRESS, 0.3, 0.5, 0.0))
    (gradient,) = torch.autograd.grad(rates.sum(), ramp)
    assert gradient == 0


def test_training_is_plain_until_the_start(lab):
    member = regularizers["delayed_dropout"](rate=0.5, start=0.5)
    for steps, same in ((5, True), (6, False)):
        trainer = lab.train([member], steps, total=10)
        assert torch.equal(lab.weights(trainer), lab.weights(lab.train([], steps))) is same

import math

import pytest
import torch

from selftune.errors import SettingError
from selftune.hyperparameters import Hyperparameter, Positive, Space
from selftune.methods import BestStep, Budget, HyperStep, OnlineImplicit, OnlineImplicitSettings
from selftune.methods.reports import ImplicitHypergradient, Trained


def hyper_step(number, loss=math.nan, **diagnostics):
    one = torch.full((1,), float(number))
    return HyperStep(number, 10 * number, 0.0, 0.0, loss, one, one, one, diagnostics=diagnostics)


def test_the_first_of_equal_ones_is_the_best():
    best = BestStep()
    assert [best.see(hyper_step(n, loss)) for n, loss in enumerate([2.0, 1.0, 1.0, math.nan, 1.5])] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert (best.number, best.training_step, best.value, float(best.hyperparameters)) == (1, 10, 1.0, 1.0)


def test_a_measure_of_which_more_is_better_and_that_is_not_always_taken():
    best = BestStep("rank", "max")
    steps = [hyper_step(0), hyper_step(1, rank=1.0), hyper_step(2), hyper_step(3, rank=3.0)]
    assert [best.see(step) for step in steps] == [False, True, False, True]


def test_waiting_counts_hyper_steps_since_the_best():
    best = BestStep()
    assert not best.waited(1)  # there is none yet
    for number, loss in enumerate([1.0, 2.0, 3.0]):
        best.see(hyper_step(number, loss))
    assert best.waited(2)
    assert not best.waited(3)
    assert not best.waited(None)


def report(order, loss):
    return Trained(
        training_step=order.values.version + 1,
        training_loss=1.0,
        measures={"validation_loss": loss},
        hypergradient=ImplicitHypergradient(hypergradient=torch.ones(1), system_residual=torch.zeros(())),
        seconds=1.0,
    )


def test_a_method_tells_its_trainers_to_keep_what_was_best_and_stops_when_nothing_better_comes():
    settings = OnlineImplicitSettings(warmup_steps=0, train_steps=1)
    method = OnlineImplicit(Budget(steps=100, patience=2), settings)
    method.join(0, Space([Hyperparameter("weight_decay.strength", Positive(), 1e-3, tuned=True)]))
    kept, before = [], []
    for loss in (3.0, 1.0, 2.0, 2.0):
        (order,) = method.ask().values()
        kept.append(None if order.keep is None else order.keep.version)
        if order.keep is not None:
            assert torch.equal(order.keep.unconstrained, before[kept[-1]])
        before.append(order.values.unconstrained)
        method.tell(0, report(order, loss))
        again = OnlineImplicit(Budget(steps=100, patience=2), settings)
        again.load_state_dict(method.state_dict())
        method = again
    assert kept == [None, 0, 1, None]
    (order,) = method.ask().values()
    assert order.kind == "finish"
    assert method.stopped == "patience"
    assert order.remark == "stopped early: no better validation_loss than 1 of hyper-step 1 was met since"


@pytest.mark.parametrize("given", [{"steps": 10, "patience": 0}, {"work": 10, "patience": 3}])
def test_patience_that_is_none(given):
    with pytest.raises(SettingError) as error:
        Budget(**given)
    assert error.value.key == "patience"

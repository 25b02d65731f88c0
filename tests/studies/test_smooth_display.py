import io

import pytest
import torch
from rich.console import Console

from selftune.hyperparameters import Hyperparameter, Positive, Space
from selftune.methods import Budget, HyperStep
from selftune.methods.reports import CandidateSolved, Differentiated, SolvingFinished
from selftune.studies.smooth_display import SmoothDisplay

CERTIFICATE = {"hypergradient_norm": 0.5, "hypergradient_bound": 0.25, "error_asked": 0.125}
SPACE = Space([Hyperparameter("ridge.strength", Positive(), 0.1, tuned=True)])


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=200)


def show(display):
    display.started(SPACE, 1)
    one = torch.ones(1)
    for number in range(2):
        nothing = dict.fromkeys(("error", "residual", "bound", "bound_by_residual", "slope", "lower_bound"), 0.0)
        cost = {"work": 7, "validation_loss": 2.5, "seconds": 1.0}
        display.reported(0, Differentiated(hypergradient=one, certified=True, **nothing, **cost))
        display.reported(
            0,
            CandidateSolved(accepted=True, hopeless=False, upper_bound=3.0, error=0.0, training_loss=0.0, **cost),
        )
        step = HyperStep(number, 14, 1.0, 0.0, 2.25, 0.1 * one, one, one, CERTIFICATE)
        display.hyper_step(step)
    display.reported(0, SolvingFinished(number=4, work=1000, unconstrained=torch.zeros(1)))


def test_lines_show_steps_work_and_certificate(console):
    display = SmoothDisplay(console, "small", Budget(steps=4))
    show(display)
    display.ended()
    last = console.file.getvalue().splitlines()[-1]
    assert last.startswith("small: 2/4 upper steps, 28 gradients and products, upper-level loss 2.25, ")
    assert "hypergradient norm 0.5, its error bound 0.25, accuracy asked 0.125" in last


def test_a_work_budget_is_what_progress_counts(console):
    display = SmoothDisplay(console, "small", Budget(work=100))
    show(display)
    display.ended()
    assert "28/100 gradients and products, 2 upper steps" in console.file.getvalue()


def test_the_picture(console):
    display = SmoothDisplay(console, "small", Budget(steps=4))
    display.started(SPACE, 1)
    console.print(display.picture())
    show(display)
    console.print(display.picture())
    assert "its error bound" in console.file.getvalue()
    assert "training" not in console.file.getvalue()

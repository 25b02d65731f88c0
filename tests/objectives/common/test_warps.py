import pytest
import torch
from selftune.objectives.mathematics.warping import composed, warped

from selftune import regularizers
from selftune.data.drawn import Drawn
from selftune.regularization.step import Step

NAMES = ("rotation", "shear", "scaling", "translation")
IMAGES = torch.rand(8, 2, 6, 8, generator=torch.Generator().manual_seed(1))


def step_with(seed=0, **values):
    """A training step on eight images before anything was done to them."""
    generator = torch.Generator().manual_seed(seed)
    named = {key.replace("__", "."): value for key, value in values.items()}
    return Step(
        0, IMAGES, None, None, Drawn(torch.arange(8), None), named, generator, 0.1, 0.0, classes=2, examples=8
    )


def acted(names, **values):
    step = step_with(**values)
    for name in names:
        regularizers[name]().batch(step)
    return step.inputs


@pytest.mark.parametrize("name", NAMES)
def test_no_magnitude_leaves_images_as_they_are_to_the_last_bit(name):
    values = {f"{name}__magnitude": torch.tensor(0.0), f"{name}__padding": "zeros"}
    assert torch.equal(acted([name], **values), IMAGES)


@pytest.mark.parametrize("name", NAMES)
def test_a_value_per_example_moves_those_alone_that_have_one(name):
    magnitudes = torch.zeros(8)
    magnitudes[3] = 0.4 if name in ("scaling", "translation") else 30.0
    images = acted([name], **{f"{name}__magnitude": magnitudes, f"{name}__padding": "zeros"})
    same = (images == IMAGES).flatten(1).all(dim=1)
    assert same.tolist() == [example != 3 for example in range(8)]


def test_a_second_pass_of_a_step_moves_images_alike():
    values = {"rotation__magnitude": torch.linspace(1, 40, 8), "rotation__padding": "border"}
    assert torch.equal(acted(["rotation"], **values), acted(["rotation"], **values))


TWO = {
    "rotation__magnitude": torch.tensor(30.0),
    "rotation__padding": "zeros",
    "shear__magnitude": torch.linspace(1, 40, 8),
}


def test_maps_that_follow_each_other_interpolate_once():
    values = TWO | {"shear__padding": "zeros"}
    step = step_with(**values)
    first, second = regularizers["rotation"]().places(step), regularizers["shear"]().places(step)
    assert torch.equal(acted(["rotation", "shear"], **values), warped(IMAGES, composed(first, second)))


def test_maps_of_another_padding_act_on_what_the_first_made():
    values = TWO | {"shear__padding": "border"}
    step = step_with(**values)
    first, second = regularizers["rotation"]().places(step), regularizers["shear"]().places(step)
    expected = warped(warped(IMAGES, first), second, "border")
    assert torch.equal(acted(["rotation", "shear"], **values), expected)

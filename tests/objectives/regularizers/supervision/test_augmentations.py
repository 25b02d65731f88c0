"""Functions that change colours and places of pixels: closed forms, ends of their ranges, another's arithmetic."""

import colorsys

import pytest
import torch
from rounding import rounding
from selftune.objectives.functional import (
    brightness,
    contrast,
    cutout,
    hue,
    input_scaling,
    rotation,
    saturation,
    scaling,
    shear,
    translation,
)

pytestmark = pytest.mark.usefixtures("double")


def photographs():
    return torch.rand(4, 3, 5, 6)


def test_brightness_of_an_even_image_is_the_factor_times_it_up_to_white():
    even = torch.full((3, 3, 2, 2), 0.5)
    changed = brightness(even, torch.tensor([0.0, 1.0, 3.0]))
    assert [image.unique().tolist() for image in changed] == [[0.0], [0.5], [1.0]]


def test_contrast_leaves_even_grey_alone_and_without_it_nothing_else_is_left():
    even = torch.full((2, 3, 2, 2), 0.25)
    assert (contrast(even, torch.tensor([0.0, 2.0])) - even).abs().max() <= rounding(1.0)
    assert (contrast(photographs(), 0.0).flatten(1).std(dim=1) <= rounding(1.0)).all()


def test_saturation_leaves_grey_alone_and_without_it_channels_are_one():
    assert saturation(photographs(), 0.0).std(dim=1).max() <= rounding(1.0)
    even = torch.rand(2, 1, 3, 3).expand(2, 3, 3, 3)
    assert (saturation(even, torch.tensor([0.0, 2.0])) - even).abs().max() <= rounding(1.0)


@pytest.mark.parametrize("turns", [-0.5, -0.2, 0.0, 0.1, 0.5])
def test_hue_is_what_python_makes_of_every_pixel(turns):
    pixels = photographs()
    pixels[0, :, 0] = torch.tensor([[0.0] * 6, [1.0] * 6, [0.0] * 6])
    pixels[1] = 0.3
    found = hue(pixels, torch.full((4,), turns)).movedim(1, 3).reshape(-1, 3)
    for before, after in zip(pixels.movedim(1, 3).reshape(-1, 3).tolist(), found.tolist(), strict=True):
        h, s, v = colorsys.rgb_to_hsv(*before)
        expected = colorsys.hsv_to_rgb((h + turns) % 1, s, v)
        assert max(abs(a - b) for a, b in zip(expected, after, strict=True)) <= rounding(1.0)


def test_hue_turned_there_and_back_is_the_same():
    pixels = photographs()
    turns = torch.tensor([0.1, -0.3, 0.5, 0.25])
    assert (hue(hue(pixels, turns), -turns) - pixels).abs().max() <= rounding(1.0)


@pytest.mark.parametrize("function", [brightness, contrast, saturation])
def test_a_factor_of_one_leaves_colours_alone_to_the_last_bit(function):
    pixels = photographs().float()
    assert torch.equal(function(pixels, torch.ones(4)), pixels)
    assert torch.equal(hue(pixels, torch.zeros(4)), pixels)


@pytest.mark.parametrize("function", [brightness, contrast, saturation, hue])
def test_colours_are_differentiable_in_how_far_they_go(function):
    pixels = 0.3 + 0.4 * photographs()
    amount = torch.tensor([0.15, 1.05, 0.9, 1.1], requires_grad=True)
    assert torch.autograd.gradcheck(lambda amount: function(pixels, amount), (amount,))


def test_rotation_is_counterclockwise_and_quarters_are_exact():
    images = torch.rand(3, 2, 6, 6)
    turned = rotation(images, torch.tensor([90.0, -90.0, 180.0]))
    for image, found, quarters in zip(images, turned, (1, 3, 2), strict=True):
        assert (found - image.rot90(quarters, (1, 2))).abs().max() <= rounding(1.0)


def test_shear_moves_rows_by_their_distance_from_the_middle():
    images = torch.rand(1, 1, 3, 5)
    leaning = shear(images, torch.tensor([-45.0]))
    expected = torch.stack([translation(images, torch.tensor([float(by)]), torch.zeros(1)) for by in (1, 0, -1)])
    for row in range(3):
        assert (leaning[0, 0, row] - expected[row, 0, 0, row]).abs().max() <= rounding(1.0)


def test_scaling_by_two_shows_the_middle_of_an_even_ramp():
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    larger = scaling(ramp, torch.tensor([2.0]))
    assert (larger[0, 0, 0] - (3.5 + (torch.arange(8.0) - 3.5) / 2)).abs().max() <= rounding(8.0)


def test_translation_by_whole_pixels_moves_them():
    images = torch.rand(1, 1, 4, 4)
    moved = translation(images, torch.tensor([1.0]), torch.tensor([-2.0]))
    expected = torch.zeros_like(images)
    expected[..., :2, 1:] = images[..., 2:, :3]
    assert (moved - expected).abs().max() <= rounding(1.0)


def test_input_scaling_takes_inputs_of_any_shape():
    factor = torch.tensor([1.0, 2.0])
    assert torch.equal(input_scaling(torch.ones(2, 3), factor), torch.tensor([[1.0] * 3, [2.0] * 3]))
    assert torch.equal(input_scaling(torch.ones(2, 1, 1, 1), factor).flatten(), factor)


def test_cutout_has_as_many_holes_as_every_example_says():
    centers = torch.tensor([[[1, 1], [5, 5], [1, 5]]] * 4)
    holes = torch.tensor([0, 1, 2, 3])
    out = cutout(torch.ones(4, 2, 8, 8), centers, torch.tensor([2, 2, 2, 4]), holes)
    assert (out[:, 0] == 0).flatten(1).sum(dim=1).tolist() == [0, 4, 8, 9 + 16 + 12]

import pytest
import torch
from rounding import rounding
from selftune.objectives.mathematics.warping import affine_map, composed, warped


def turned(quarters, batch):
    cos, sin = ((1, 0), (0, 1), (-1, 0), (0, -1))[quarters]
    one = torch.ones(batch)
    return affine_map(((cos * one, -sin * one), (sin * one, cos * one)))


def of_factor(factor):
    zero = torch.zeros_like(factor)
    return affine_map(((1 / factor, zero), (zero, 1 / factor)))


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_the_identity_is_the_same_to_the_last_bit_and_only_for_its_example(padding):
    images = torch.rand(2, 3, 5, 7, dtype=torch.float64)
    seen = warped(images, of_factor(torch.tensor([1.0, 1.5])), padding)
    assert torch.equal(seen[0], images[0])
    assert not torch.allclose(seen[1], images[1])


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_of_a_square_are_exact(quarters):
    images = torch.rand(2, 3, 6, 6, dtype=torch.float64)
    expected = torch.rot90(images, quarters, dims=(2, 3))
    assert (warped(images, turned(quarters, 2)) - expected).abs().max() <= rounding(1.0)


def test_half_a_turn_of_an_oblong_image_flips_both_sides():
    images = torch.rand(1, 1, 3, 8, dtype=torch.float64)
    assert (warped(images, turned(2, 1)) - images.flip(2, 3)).abs().max() <= rounding(1.0)


def test_a_quarter_turn_of_an_oblong_image_keeps_pixels_square():
    images = torch.zeros(1, 1, 5, 9, dtype=torch.float64)
    images[0, 0, 2, 2:7] = 1  # a line along the rows
    expected = torch.zeros_like(images)
    expected[0, 0, :, 4] = 1
    assert (warped(images, turned(1, 1)) - expected).abs().max() <= rounding(1.0)


def test_a_composed_map_is_one_after_the_other():
    images = torch.rand(3, 2, 6, 6, dtype=torch.float64)
    maps = turned(1, 3), affine_map(((torch.ones(3), torch.zeros(3)), (torch.zeros(3), torch.ones(3))))
    maps[1][:, :, 2] = torch.tensor([1.0, -2.0])
    for first, second in (maps, maps[::-1]):
        one_by_one = warped(warped(images, first), second)
        inside = one_by_one != 0  # what left the image on the way is lost only there
        together = warped(images, composed(first, second))
        assert (together - one_by_one)[inside].abs().max() <= rounding(1.0)


def test_what_is_outside_is_black_the_border_or_mirrored():
    images = torch.tensor([[[[1.0, 2.0, 3.0, 4.0]]]], dtype=torch.float64)
    one, zero = torch.ones(1), torch.zeros(1)
    moved = affine_map(((one, zero), (zero, one)), (-2 * one, zero))
    for padding, expected in (
        ("zeros", [0.0, 0.0, 1.0, 2.0]),
        ("border", [1.0, 1.0, 1.0, 2.0]),
        ("reflection", [2.0, 1.0, 1.0, 2.0]),
    ):
        assert (warped(images, moved, padding).flatten() - images.new_tensor(expected)).abs().max() <= rounding(
            4.0
        )

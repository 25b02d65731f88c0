import torch
from rounding import rounding
from selftune.objectives.mathematics.colours import blended, grey


def test_grey_is_between_the_channels_and_of_grey_images_themselves():
    pixels = torch.rand(2, 3, 4, 4, dtype=torch.float64)
    assert ((grey(pixels) >= pixels.amin(1, True)) & (grey(pixels) <= pixels.amax(1, True))).all()
    even = torch.rand(2, 1, 4, 4, dtype=torch.float64)
    assert (grey(even.expand(2, 3, 4, 4)) - even).abs().max() <= rounding(1.0)
    assert torch.equal(grey(even), even)


def test_a_blend_stays_in_range_and_ends_at_either_image():
    pixels, other = torch.rand(2, 2, 1, 3, 3, dtype=torch.float64)
    assert torch.equal(blended(pixels, other, torch.tensor([1.0, 0.0]))[0], pixels[0])
    assert torch.equal(blended(pixels, other, torch.tensor([1.0, 0.0]))[1], other[1])
    far = blended(pixels, other, torch.tensor([3.0, 3.0]))
    assert (far >= 0).all()
    assert (far <= 1).all()

import pytest
import torch
from torch import nn

from selftune import Classification, Optimization, SettingError, regularizers
from selftune.methods.work_orders import FollowSchedule
from selftune.training import Trainer

NAMES = ("brightness", "contrast", "saturation", "hue")
MEAN, DEVIATION = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.25])


class Photographs(Classification):
    provides = Classification.provides | {"pixel_range"}
    ends = torch.tensor([0.0, 1.0])

    def quantity(self, name, step):
        return self.ends


def photographs(channels=3, ends=(0.0, 1.0), of_pixels=lambda pixels: pixels):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(24, channels, 4, 4, generator=generator)
    data = of_pixels(pixels), torch.arange(24) % 3
    build = lambda: nn.Sequential(nn.Flatten(), nn.Linear(channels * 16, 3))  # noqa: E731
    objective = Photographs(build, data, data, data, Optimization(batch_size=8, learning_rate=0.1))
    objective.ends = torch.as_tensor(ends)
    return objective


def trained(objective, *members):
    """The report of three steps, and the weights after them."""
    trainer = Trainer(objective, list(members), steps=10)
    report = trainer.execute(FollowSchedule(segments=((3, torch.empty(0)),)))
    return report, trainer.plain_network()[1].weight.detach()


def changed(name, objective):
    """The images of the first batch after a regularizer has changed them."""
    trainer = Trainer(objective, [regularizers[name](magnitude=0.4)], steps=10)
    step = trainer.lower.begin(
        0, trainer.lower.batches.at(0), {f"{name}.magnitude": torch.tensor(0.4)}, "elementary"
    )
    return step.inputs


@pytest.mark.parametrize("name", NAMES)
def test_no_magnitude_is_training_without_it_to_the_last_bit(name):
    assert torch.equal(trained(photographs(), regularizers[name](magnitude=0.0))[1], trained(photographs())[1])


@pytest.mark.parametrize("name", NAMES)
def test_pixels_of_any_range_get_the_same_colours(name):
    expected = changed(name, photographs())
    wide = changed(name, photographs(ends=(0.0, 255.0), of_pixels=lambda pixels: 255 * pixels))
    torch.testing.assert_close(wide / 255, expected)
    mean, deviation = MEAN[:, None, None], DEVIATION[:, None, None]
    ends = torch.stack([-MEAN / DEVIATION, (1 - MEAN) / DEVIATION])
    normalised = changed(name, photographs(ends=ends, of_pixels=lambda pixels: (pixels - mean) / deviation))
    torch.testing.assert_close(normalised * deviation + mean, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_colours_stay_in_the_range(name):
    images = changed(name, photographs())
    assert (images >= 0).all()
    assert (images <= 1).all()


def test_each_image_gets_a_draw_of_its_own():
    objective = photographs(of_pixels=lambda pixels: 0.25 + 0 * pixels)
    factors = changed("brightness", objective)[:, 0, 0, 0] / 0.25
    assert len(factors.unique()) == 8
    assert ((factors >= 0.6) & (factors <= 1.4)).all()


@pytest.mark.parametrize("name", ["saturation", "hue"])
def test_grey_images_have_no_colours_to_change(name):
    with pytest.raises(SettingError, match=f"{name} needs images with three channels.*these have 1; leave it out"):
        Trainer(photographs(channels=1), [regularizers[name]()], steps=10)


@pytest.mark.parametrize("name", ["brightness", "contrast"])
def test_grey_images_have_brightness_and_contrast(name):
    assert trained(photographs(channels=1), regularizers[name]())[0].kind == "replay"


def test_a_range_in_which_pixels_do_not_lie_is_refused():
    objective = photographs(of_pixels=lambda pixels: 255 * pixels)
    with pytest.raises(SettingError, match="pixel_range says that black is 0 and white 1"):
        trained(objective, regularizers["brightness"]())


def test_who_does_not_say_the_range_is_told_what_it_is():
    data = torch.rand(24, 3, 4, 4), torch.arange(24) % 3
    build = lambda: nn.Sequential(nn.Flatten(), nn.Linear(48, 3))  # noqa: E731
    objective = Classification(build, data, data, data, Optimization(batch_size=8))
    with pytest.raises(SettingError, match="brightness needs pixel_range"):
        Trainer(objective, [regularizers["brightness"]()], steps=10)

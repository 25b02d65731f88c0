import pytest
import torch
from selftune.objectives.data.digit_images import load_digit_images, load_digit_splits
from selftune.objectives.tasks.digit_images import DigitImages

from selftune.errors import SettingError
from selftune.regularization.regularizer import regularizers
from selftune.training import Trainer


def test_they_are_the_digits_of_the_other_tasks():
    for (pixels, labels), (standardised, same) in zip(
        load_digit_images(400, 700, 3), load_digit_splits(400, 700, 3), strict=True
    ):
        assert torch.equal(labels, same)
        together = torch.stack([pixels.flatten().float(), standardised.flatten()])
        assert float(torch.corrcoef(together)[0, 1]) > 0.9999


def test_regularizers_see_pixels_and_the_network_standardised_ones():
    task = DigitImages(train_examples=64, batch_size=16)
    batch = task.splits()["train"]
    inputs = task.inputs(batch)
    assert inputs.shape == (64, 1, 8, 8)
    assert (float(inputs.min()), float(inputs.max())) == (0.0, 1.0)
    standard = task.network().before(inputs)
    assert abs(float(standard.mean())) < 1e-5
    assert {"images", "real_inputs", "branches", "batch_norm"} <= task.offers()


def test_what_is_for_images_and_branches_fits():
    names = ("cutout", "mixup", "cutmix", "spatial_dropout", "stochastic_depth", "ghost_batch_norm")
    task = DigitImages(channels=4, train_examples=64, batch_size=16)
    for name in names:
        Trainer(task, [regularizers[name]()], steps=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"channels": 0}, "channels: must be at least 1, got 0"),
        ({"blocks": 5}, "blocks: must be at most 4"),
        ({"train_examples": 1797}, "train_examples: .* leave -700 of 1797"),
        ({"batch_size": 500}, "batch_size"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        DigitImages(**settings)

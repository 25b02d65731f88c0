import torch
from selftune.objectives.networks.standardize import Standardize, channel_statistics


def test_channels_have_mean_zero_and_deviation_one():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (20, 3, 5, 4), generator=generator, dtype=torch.uint8)
    images[:, 1] //= 4
    standard = Standardize(*channel_statistics(images))(images / 255)
    assert standard.mean(dim=(0, 2, 3)).abs().max() < 1e-5
    torch.testing.assert_close(standard.std(dim=(0, 2, 3), correction=0), torch.ones(3), atol=1e-5, rtol=0)


def test_a_constant_channel_stays_finite():
    mean, deviation = channel_statistics(torch.full((3, 1, 2, 2), 7, dtype=torch.uint8))
    assert deviation.tolist() == [1.0]
    torch.testing.assert_close(mean, torch.tensor([7 / 255]))

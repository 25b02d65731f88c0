"""Images that stay on disk are the images that are read into memory."""

import io
import pickle

import pyarrow
import pyarrow.parquet
import pytest
import torch
from pictures import picture
from selftune.objectives.data.image_files import read_images
from selftune.objectives.data.parquet_images import ParquetImages
from torch import nn

from selftune import Classification, Loading, Optimization, Tune, tune
from selftune.errors import SettingError


def encoded(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def parquet(path, images, group=4, **more):
    columns = {"image": list(map(encoded, images)), "label": [number % 2 for number in range(len(images))], **more}
    pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=group)
    return path


@pytest.fixture
def file(tmp_path):
    return parquet(tmp_path / "pets.parquet", [picture(number) for number in range(30)])


def halved(pixels):
    return pixels.float() / 2


def test_every_split_has_the_pixels_and_labels_of_the_images_in_memory(file):
    images = read_images(file)
    for split, part in zip(ParquetImages.splits(file), images.splits.values(), strict=True):
        assert len(split) == len(part)
        for position, at in enumerate(part):
            pixels, label = split[position]
            assert torch.equal(pixels, images.pixels[at] / 255)
            assert label == images.labels[at]


def test_a_batch_reads_every_row_group_once_in_any_order(file, monkeypatch):
    train = ParquetImages(file, cached=1, transform=halved)
    read = []
    opened = type(train._files()[0])
    plain = opened.read_row_group

    def noted(file, group, columns):
        read.append(group)
        return plain(file, group, columns)

    monkeypatch.setattr(opened, "read_row_group", noted)
    positions = [17, 0, 9, 1, 16, 5]
    items = train.__getitems__(positions)
    assert len(read) == len({*read})
    for position, (pixels, label) in zip(positions, items, strict=True):
        alone, alone_label = train[position]
        assert torch.equal(pixels, alone)
        assert label == alone_label
    assert len(train._groups) == 1


def test_it_travels_to_other_processes_without_what_it_has_read(file):
    train = ParquetImages(file, size=[3, 3])
    whole = train[3]
    text = pickle.dumps(train)
    assert len(text) < 2000
    again = pickle.loads(text)
    assert torch.equal(again[3][0], whole[0])


@pytest.mark.parametrize("workers", [0, 1])
def test_training_on_it_gives_the_bits_of_tensors(file, workers):
    images = read_images(file)
    inputs = images.pixels / 255
    tensors = [(inputs[part], images.labels[part]) for part in images.splits.values()]

    def tuned(splits, **settings):
        objective = Classification(network, *splits, Optimization(batch_size=6), **settings)
        return tune(objective, {"weight_decay": {"strength": Tune(1e-2)}}, steps=12, warmup_steps=4)

    def network():
        return nn.Sequential(nn.Flatten(), nn.Linear(90, 2))

    on_disk = tuned(ParquetImages.splits(file), validation_batch_size=6, loading=Loading(workers=workers))
    in_memory = tuned(tensors)
    for name, weights in in_memory.network.state_dict().items():
        torch.testing.assert_close(on_disk.network.state_dict()[name], weights)


def test_grey_images_get_three_channels_where_it_is_said(tmp_path):
    grey = [picture(number, channels=1) for number in range(29)]
    splits = ["train"] * 26 + ["validation"] * 2 + ["test"] * 2
    file = parquet(tmp_path / "a.parquet", [*grey, picture(29)], split=splits)
    assert ParquetImages(file)[0][0].shape == (1, 6, 5)
    test = ParquetImages(file, "test")
    with pytest.raises(SettingError, match=r"channels: .*row 29 is in colour, and the first .* grey; give 3"):
        test[1]
    test = ParquetImages(file, "test", channels=3)
    assert torch.equal(test[0][0][0], test[0][0][2])
    assert torch.equal(test[1][0], read_images(file).pixels[29] / 255)


def test_what_cannot_be_used_is_refused(file, tmp_path):
    for settings, sentence in (
        ({"split": "tests"}, "split: unknown split 'tests'; did you mean test?"),
        ({"channels": 2}, "channels: must be 1 or 3, got 2"),
        ({"cached": 0}, "cached: must be at least 1 row group, got 0"),
        ({"size": [3]}, "size: must be"),
        ({"fractions": {"test": 2}}, "split: the fraction for test"),
    ):
        with pytest.raises(SettingError) as refusal:
            ParquetImages(file, **settings)
        assert sentence in str(refusal.value)
    with pytest.raises(SettingError, match=f"there is no file {tmp_path}/no.parquet; make it with `selftune"):
        ParquetImages(tmp_path / "no.parquet")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingError, match="is no Parquet file of images"):
        ParquetImages(tmp_path / "empty")
    splits = ["train"] * 16 + ["val", "test"] * 2
    mixed = parquet(tmp_path / "b.parquet", [picture(0), picture(1, 9, 9)] * 10, split=splits)
    with pytest.raises(SettingError, match="row 1 has 9 x 9 pixels and the first image 6 x 5; give size"):
        ParquetImages(mixed)[1]
    assert ParquetImages(mixed, size=[4, 4])[1][0].shape == (3, 4, 4)

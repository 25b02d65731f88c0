"""Image folders and Parquet files of images."""

import json
import os

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from pictures import encoded_picture as png
from pictures import picture
from PIL import Image
from selftune.objectives.data.image_files import read_images
from selftune.objectives.data.pictures import decoded

from selftune.errors import SettingError


def parquet(file, metadata=None, **columns):
    table = pyarrow.table(columns)
    pyarrow.parquet.write_table(table.replace_schema_metadata(metadata), file, row_group_size=4)
    return file


def refused(path, sentence, **settings):
    with pytest.raises(SettingError) as refusal:
        read_images(path, **settings)
    assert sentence in str(refusal.value)


def test_a_folder_per_class_gives_its_pixels_in_the_order_of_classes_and_names(folder):
    images = read_images(folder)
    assert images.classes == ("cat", "dog")
    assert images.labels.tolist() == [0] * 10 + [1] * 10
    assert images.pixels.dtype == torch.uint8
    for position, number in enumerate([*range(0, 20, 2), *range(1, 20, 2)]):
        expected = np.moveaxis(np.asarray(picture(number)), 2, 0)
        np.testing.assert_array_equal(images.pixels[position], expected)
    for part in images.splits.values():
        assert images.labels[part].bincount().diff() == 0


def test_folders_of_splits_are_the_splits(split_folder):
    images = read_images(split_folder)
    assert {name: len(part) for name, part in images.splits.items()} == dict(train=8, validation=8, test=8)
    (split_folder / "val").rename(split_folder.parent / "gone")
    images = read_images(split_folder, split={"validation": 0.25})
    assert {name: len(part) for name, part in images.splits.items()} == dict(train=6, validation=2, test=8)


def test_a_class_may_be_called_train(folder):
    (folder / "cat").rename(folder / "train")
    assert read_images(folder).classes == ("dog", "train")


def test_grey_images_have_one_channel_and_three_beside_coloured_ones(folder):
    for file in folder.rglob("*.png"):
        Image.open(file).convert("L").save(file)
    grey = read_images(folder)
    assert grey.pixels.shape == (20, 1, 6, 5)
    picture(7).save(folder / "dog" / "07.png")
    mixed = read_images(folder)
    assert torch.equal(mixed.pixels[0], grey.pixels[0].expand(3, 6, 5))
    assert not torch.equal(mixed.pixels[13, 0], mixed.pixels[13, 1])


def test_what_is_transparent_becomes_white_and_pictures_stand_upright(folder):
    clear = picture(0, channels=4)
    clear.putalpha(0)
    clear.save(folder / "cat" / "00.png")
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was held upright
    picture(2, height=5, width=6).save(folder / "cat" / "02.png", exif=turned)
    images = read_images(folder)
    assert (images.pixels[0] == 255).all()
    expected = np.rot90(np.asarray(picture(2, height=5, width=6)), -1)
    np.testing.assert_array_equal(images.pixels[1].movedim(0, 2), expected)


def test_images_of_different_sizes_need_a_size(folder):
    picture(9, 12, 10).save(folder / "dog" / "09.png")
    refused(folder, f"size: {folder / 'dog' / '09.png'} has 12 x 10 pixels and the first image 6 x 5; give size")
    assert read_images(folder, size=[3, 4]).pixels.shape == (20, 3, 3, 4)
    for size in ([3], [0, 4], 3, "32"):
        refused(folder, "size: must be [height, width]", size=size)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("named", [False, True])
def test_parquet_files_hold_bytes_or_structs_of_them_and_numbers_or_names(tmp_path, nested, named):
    contents = [png(number) for number in range(10)]
    numbers = [number % 2 for number in range(10)]
    file = parquet(
        tmp_path / "pets.parquet",
        None if named else {"classes": json.dumps(["cat", "dog, or so"])},
        image=[{"bytes": content, "path": None} for content in contents] if nested else contents,
        label=[("cat", "dog, or so")[number] for number in numbers] if named else numbers,
        split=["train"] * 6 + ["validation"] * 2 + ["test"] * 2,
    )
    images = read_images(file)
    assert images.classes == ("cat", "dog, or so")
    assert images.labels.tolist() == numbers
    assert images.splits["test"].tolist() == [8, 9]
    np.testing.assert_array_equal(images.pixels[7].movedim(0, 2), picture(7))


def test_classes_have_the_names_that_hugging_face_writes(tmp_path):
    features = {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    images = [png(number) for number in range(10)]
    file = parquet(tmp_path / "a.parquet", metadata, image=images, label=[0, 1] * 5)
    assert read_images(file).classes == ("no", "yes")
    file = parquet(tmp_path / "b.parquet", image=images, label=[3, 7] * 5)
    assert read_images(file).classes == ("3", "7")
    assert read_images(file).labels.tolist() == [0, 1] * 5


def test_what_is_not_there_is_named_with_the_way_to_make_it(tmp_path):
    refused(tmp_path / "none.parquet", f"path: there is no file {tmp_path}/none.parquet; make it with")
    (tmp_path / "notes.txt").write_text("nothing")
    refused(tmp_path / "notes.txt", "is no Parquet file of images; `selftune data import SOURCE")


def test_folders_of_another_layout_are_refused(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "has no folders of classes")
    (folder / "bird").mkdir()
    refused(folder, f"{folder / 'bird'} holds no image")
    (folder / "bird" / "young").mkdir()
    refused(folder, "is a folder inside the folder of a class")
    (folder / "bird" / "young").rmdir()
    (folder / "bird").rmdir()
    picture(1).save(folder / "stray.png")
    refused(folder, "stray.png lies in no folder of a class")
    (folder / "stray.png").unlink()
    (folder / ".hidden").mkdir()
    (folder / "cat" / "notes.txt").touch()
    assert len(read_images(folder).labels) == 20
    for file in (folder / "cat").iterdir():
        file.unlink()
    (folder / "cat").rmdir()
    refused(folder, "has a single class, 'dog'")


def test_splits_that_do_not_fit_together_are_refused(split_folder):
    (split_folder / "val" / "bird").mkdir()
    picture(0).save(split_folder / "val" / "bird" / "0.png")
    refused(split_folder, "class 'bird' has no image in the train split")
    (split_folder / "val" / "bird").rename(split_folder / "bird")
    refused(split_folder, "has folders of splits (Train) beside 'bird'")
    (split_folder / "bird" / "0.png").unlink()
    (split_folder / "bird").rmdir()
    (split_folder / "test").rename(split_folder / "validation")
    refused(split_folder, "two folders of the validation split")
    (split_folder / "Train").rename(split_folder / "testing")
    (split_folder / "validation").rename(split_folder.parent / "gone")
    refused(split_folder, "has no folder train beside validation, test")


def test_damaged_images_are_named(folder):
    file = folder / "cat" / "04.png"
    whole = file.read_bytes()
    for content in (b"", b"no picture", whole[:40], whole[: len(whole) // 2]):
        file.write_bytes(content)
        refused(folder, f"path: {file}: is damaged, or no picture")
    Image.fromarray(np.zeros((6, 5), dtype=np.uint16)).save(file)
    refused(folder, "has more than 8 bits a channel")


def test_parquet_files_that_do_not_fit_are_refused_with_column_and_row(tmp_path):
    images = [png(number) for number in range(10)]
    labels = [0, 1] * 5
    file = tmp_path / "a.parquet"
    for columns, sentence in (
        ({"scan": images, "label": labels}, "has no column of images (image, img, images, picture, photo), only"),
        (
            {"image": images, "kind": labels},
            "only image, kind; choose one, by `label:` in a study, or by `--label`",
        ),
        ({"image": labels, "label": labels}, "the column image holds int64"),
        ({"image": images, "label": [*labels[:9], None]}, "row 9: the label is nothing"),
        ({"image": images, "label": [0.5] * 10}, "row 0: the label is 0.5"),
        ({"img": labels, "label": labels}, "has no column of images"),
        ({"image": [*images[:3], None, *images[4:]], "label": labels}, "row 3: is no picture but NoneType"),
        ({"image": [*images[:3], b"", *images[4:]], "label": labels}, "row 3: is damaged, or no picture"),
        ({"image": images, "label": labels, "split": ["left"] * 10}, "row 0: the column split holds 'left'"),
        ({"image": images, "label": [*labels[:9], 2]}, "row 9: label 2 is none of its 2 classes, from 'a' to 'b'"),
    ):
        classes = {"classes": "a,b"} if "2 classes" in sentence else None
        refused(parquet(file, classes, **columns), sentence)
    refused(parquet(file, {"classes": "a,b,c"}, image=images, label=labels), "class 'c' has no image")
    refused(parquet(file, {"classes": "a,a"}, image=images, label=labels), "two classes of its metadata")
    damaged = [json.dumps({"info": {"features": features}}) for features in (3, {"label": 3})]
    for metadata in ({"classes": "[a"}, *({"huggingface": text} for text in ("{}", "no", *damaged))):
        refused(
            parquet(file, metadata, image=images, label=labels), "names of classes in its metadata are damaged"
        )
    refused(parquet(file, image=images[:0], label=pyarrow.array([], pyarrow.int64())), "path")


def test_images_that_do_not_fit_into_memory_are_refused_before_they_are_read(folder, monkeypatch):
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 100, "SC_PHYS_PAGES": 17}.get)
    refused(folder, "in memory, and this machine has 0.0 GB; give a smaller size, or leave the images on disk")
    assert read_images(folder, size=[5, 5]).pixels.numel() == 1500


@pytest.mark.parametrize("mode", ["1", "LA", "P", "CMYK", "YCbCr"])
def test_pictures_of_any_mode_are_grey_or_in_colour(folder, mode):
    suffix = ".jpg" if mode in ("CMYK", "YCbCr") else ".png"
    for file in (folder / "cat").iterdir():
        picture(3).convert(mode).save(file.with_suffix(suffix))
    (content,) = {file.read_bytes() for file in (folder / "cat").glob("*" + suffix)}
    assert len(decoded(content, "it")) == (1 if mode in ("1", "LA") else 3)


def test_damaged_parquet_files_are_refused(tmp_path):
    file = parquet(tmp_path / "a.parquet", image=[png(number) for number in range(10)], label=[0, 1] * 5)
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    refused(file, "is no whole Parquet file")

"""Folders of Parquet files, as Hugging Face stores data sets, are read as the one file that they could be."""

import json

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from pictures import encoded_picture, picture
from selftune.objectives.data.image_files import read_images
from selftune.objectives.data.parquet_images import ParquetImages
from selftune.objectives.data.tables import read_table
from selftune.objectives.data.text_files import read_text

from selftune.errors import SettingError

NAMES = ("no", "yes")


def written(file, numbers, image="img", label="label", **more):
    """A file as `datasets` writes them: structs of bytes and path, and a description of the columns."""
    features = {image: {"_type": "Image"}, label: {"names": NAMES, "_type": "ClassLabel"}}
    features |= {name: {"names": NAMES, "_type": "ClassLabel"} for name in more}
    columns = {
        image: [{"bytes": encoded_picture(number), "path": f"{number}.png"} for number in numbers],
        label: [number % 2 for number in numbers],
        **{name: [number % 2 for number in numbers] for name in more},
    }
    table = pyarrow.table(columns).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table, file, row_group_size=3)


@pytest.fixture
def folder(tmp_path):
    """Twelve training images in two files, and six test images."""
    folder = tmp_path / "pets"
    written(folder / "plain_text" / "train-00000-of-00002.parquet", range(7))
    written(folder / "plain_text" / "train-00001-of-00002.parquet", range(7, 12))
    written(folder / "plain_text" / "test-00000-of-00001.parquet", range(12, 18))
    (folder / "README.md").write_text("# Pets")
    return folder


def refused(path, sentence, read=read_images, **settings):
    with pytest.raises(SettingError) as refusal:
        read(path, **settings)
    assert sentence in str(refusal.value)


def test_images_come_in_the_order_of_splits_and_files(folder):
    images = read_images(folder)
    assert images.classes == NAMES
    assert images.labels.tolist() == [0, 1] * 9
    for number in range(18):
        np.testing.assert_array_equal(images.pixels[number].movedim(0, 2), picture(number))
    assert images.splits["test"].tolist() == list(range(12, 18))
    held_out = [*images.splits["train"].tolist(), *images.splits["validation"].tolist()]
    assert sorted(held_out) == list(range(12)), "the validation images are drawn of the training ones"


def test_images_on_disk_are_those_in_memory(folder):
    images = read_images(folder)
    for split, part in zip(ParquetImages.splits(folder, cached=1), images.splits.values(), strict=True):
        found = split.__getitems__(list(range(len(part)))[::-1])
        for (pixels, label), at in zip(found, part.flip(0), strict=True):
            assert torch.equal(pixels, images.pixels[at] / 255)
            assert label == images.labels[at]


def test_folders_may_be_splits(tmp_path):
    for number, name in enumerate(("train", "validation", "test")):
        written(tmp_path / "default" / name / "0000.parquet", range(4 * number, 4 * number + 4))
    assert {name: len(part) for name, part in read_images(tmp_path).splits.items()} == dict(
        train=4, validation=4, test=4
    )


def test_files_that_name_no_split_are_one_data_set(tmp_path):
    for number in range(2):
        written(tmp_path / f"part-{number}.parquet", range(10 * number, 10 * number + 10), image="image")
    assert {name: len(part) for name, part in read_images(tmp_path).splits.items()} == dict(
        train=12, validation=4, test=4
    )


def test_of_several_columns_one_is_chosen(tmp_path):
    for name in ("train", "test"):
        written(tmp_path / f"{name}.parquet", range(10), label="fine_label", coarse_label=True)
    sentence = (
        "has several columns of labels, fine_label, coarse_label; choose one, by `label: fine_label` in a study"
    )
    refused(tmp_path, sentence)
    refused(tmp_path, "or by `--label fine_label` of `selftune data`")
    assert read_images(tmp_path, label="coarse_label").labels.tolist() == [0, 1] * 10
    refused(tmp_path, "has no column 'fine_labels'; did you mean fine_label or", label="fine_labels")
    refused(tmp_path, "has no column 'scan'; known are coarse_label, fine_label, img", image="scan")
    refused(tmp_path, "the column fine_label holds int64; store the bytes", image="fine_label")
    refused(tmp_path, "row 0: the label is {'bytes': ", label="img")
    assert len(ParquetImages(tmp_path, label="fine_label")) == 8


def test_what_hugging_face_calls_classes_are_labels_whatever_they_are_called(tmp_path):
    written(tmp_path / "a.parquet", range(10), image="scan", label="kind")
    images = read_images(tmp_path / "a.parquet")
    assert (images.classes, images.labels.tolist()) == (NAMES, [0, 1] * 5)


def test_downloads_that_are_not_whole_are_refused(folder):
    inside = folder / "plain_text"
    (inside / "train-00000-of-00002.parquet").rename(folder.parent / "gone")
    refused(folder, f"{inside / 'train-00000-of-00002.parquet'} is missing beside train-00001-of-00002.parquet")
    (inside / "train-00000-of-00002.parquet").write_text("version https://git-lfs.github.com/spec/v1")
    refused(folder, "train-00000-of-00002.parquet is no Parquet file, in spite of its name; download it anew")


def test_folders_that_could_mean_several_things_are_refused(folder):
    written(folder / "other" / "train.parquet", range(4))
    refused(folder, f"several folders, other, plain_text; give one of them: {folder / 'other'}")
    assert len(read_images(folder / "plain_text").labels) == 18
    written(folder / "plain_text" / "extra.parquet", range(4))
    refused(folder / "plain_text", "extra.parquet does not say its split, as test-00000-of-00001.parquet does")
    (folder / "plain_text" / "extra.parquet").unlink()
    for file in (folder / "plain_text").glob("train*"):
        file.unlink()
    refused(folder / "plain_text", "has test files but no training ones; add some")


def test_files_that_differ_are_refused(tmp_path):
    written(tmp_path / "train.parquet", range(10))
    written(tmp_path / "test.parquet", range(10), image="image")
    refused(tmp_path, "test.parquet has no column 'img'")
    table = pyarrow.parquet.read_table(tmp_path / "train.parquet").replace_schema_metadata({"classes": "cat,dog"})
    pyarrow.parquet.write_table(table, tmp_path / "test.parquet")
    refused(tmp_path, "test.parquet names other classes than train.parquet")
    labels = pyarrow.array([str(number) for number in range(10)])
    table = table.set_column(table.column_names.index("label"), "label", labels).replace_schema_metadata()
    pyarrow.parquet.write_table(table, tmp_path / "test.parquet")
    pyarrow.parquet.write_table(
        pyarrow.parquet.read_table(tmp_path / "train.parquet").replace_schema_metadata(),
        tmp_path / "train.parquet",
    )
    refused(tmp_path, "test.parquet, row 0: the label is '0', and others are like 0; write all by number")


def test_columns_are_for_parquet(tmp_path):
    for number in range(10):
        file = tmp_path / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(exist_ok=True)
        picture(number).save(file)
    refused(tmp_path, "label: is a column of Parquet", label="label")
    written(tmp_path / "made.parquet", range(4))
    assert len(read_images(tmp_path).labels) == 10, "a folder with pictures stays a folder of images"


def test_tables_and_texts_take_their_splits_from_the_names_of_files(tmp_path):
    for name, size in (("train", 8), ("validation", 3), ("test", 2)):
        rows = pyarrow.table({"x": [float(n) for n in range(size)], "y": [n % 2 for n in range(size)]})
        (tmp_path / "table").mkdir(exist_ok=True)
        pyarrow.parquet.write_table(rows, tmp_path / "table" / f"{name}-00000-of-00001.parquet")
        (tmp_path / "text").mkdir(exist_ok=True)
        text = pyarrow.table({"text": [name, f" {name}\n"]})
        pyarrow.parquet.write_table(text, tmp_path / "text" / f"{name}.parquet")
    table = read_table(tmp_path / "table", "y")
    assert {name: len(part) for name, part in table.splits.items()} == dict(train=8, validation=3, test=2)
    text = read_text(tmp_path / "text")
    words = {
        name: "".join(text.vocabulary[one] for one in text.tokens[part]) for name, part in text.splits.items()
    }
    assert words["train"] == "train train\n"
    refused(tmp_path / "text", "says its split by its name and by a column 'split'", read_split_twice)
    rows = rows.append_column("z", [[1, 2]])
    pyarrow.parquet.write_table(rows, tmp_path / "table" / "test-00000-of-00001.parquet")
    refused(tmp_path / "table", "test-00000-of-00001.parquet has other columns than train", read_table, target="y")


def read_split_twice(folder):
    rows = pyarrow.table({"x": [1.0], "split": ["train"]})
    pyarrow.parquet.write_table(rows, folder / "train.parquet")
    return read_table(folder, "x")

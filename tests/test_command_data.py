"""``selftune data``: folders and files become Parquet, and are described."""

import io
import sys

import numpy as np
import pyarrow.parquet
import pytest
import torch
from pictures import encoded_picture, folder_of_pets, picture
from PIL import Image
from selftune.objectives.data.image_files import read_images
from selftune.objectives.data.tables import read_table
from selftune.objectives.data.text_files import read_text

from selftune.cli import main


@pytest.fixture
def pets(tmp_path):
    return folder_of_pets(tmp_path / "pets")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out" / "data.parquet"


def imported(capsys, source, out, *options):
    out.parent.mkdir(exist_ok=True)
    assert main(["data", "import", str(source), "--output", str(out), *options]) == 0
    told = capsys.readouterr().out
    assert [entry.name for entry in out.parent.iterdir()] == [out.name]
    assert main(["data", "show", str(out)]) == 0
    assert told.startswith(capsys.readouterr().out.rstrip()), "show prints the same"
    return told.splitlines()


def refused(capsys, source, out, sentence, *options):
    out.parent.mkdir(exist_ok=True)
    before = {entry: entry.read_bytes() for entry in out.parent.iterdir()}
    assert main(["data", "import", str(source), "--output", str(out), *options]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert sentence in said[0]
    assert {entry: entry.read_bytes() for entry in out.parent.iterdir()} == before


def test_folders_of_images_are_what_they_were_with_splits_and_a_summary(pets, out, capsys):
    (pets / "cat" / "notes.txt").write_text("no image")
    lines = imported(capsys, pets, out, "--split", "validation=0.1,test=0.3", "--seed", "5")
    there = read_images(pets, split={"validation": 0.1, "test": 0.3}, seed=5)
    made = read_images(out)
    assert torch.equal(made.pixels, there.pixels)
    assert torch.equal(made.labels, there.labels)
    assert made.classes == there.classes
    assert all(torch.equal(made.splits[name], there.splits[name]) for name in there.splits)
    train = there.pixels[there.splits["train"]] / 255
    assert lines[0].startswith(f"{out}: 20 images in 2 classes, in colour, 6 x 5 pixels (height x width), ")
    said = [float(word.strip(",")) for word in lines[1].split() if word[0].isdigit() and "." in word]
    np.testing.assert_allclose(said[:3], train.mean((0, 2, 3)), atol=6e-4)
    np.testing.assert_allclose(said[3:], train.std((0, 2, 3), correction=0), atol=6e-4)
    assert lines[2] == "splits: train 12, validation 2, test 6"
    assert [line.split() for line in lines[4:6]] == [["cat", "6", "1", "3"], ["dog", "6", "1", "3"]]
    assert lines[-1] == f"left out: {pets / 'cat' / 'notes.txt'}"


def test_bytes_of_images_are_kept_and_row_groups_are_small(tmp_path, out, capsys):
    for number in range(150):
        file = tmp_path / "many" / "ab"[number % 2] / f"{number:03}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(file)
    imported(capsys, tmp_path / "many", out)
    file = pyarrow.parquet.ParquetFile(out)
    assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == [64, 64, 22]
    first = (tmp_path / "many" / "a" / "000.jpg").read_bytes()
    assert file.read_row_group(0)["image"][0].as_py() == first
    again = out.with_name("again.parquet")
    main(["data", "import", str(out), "--output", str(again)])
    assert torch.equal(read_images(again).pixels, read_images(out).pixels)


def test_images_are_resized_where_it_is_asked_for(pets, out, capsys):
    picture(9, 12, 10).save(pets / "dog" / "09.png")
    refused(capsys, pets, out, "09.png has 12 x 10 pixels and the first image 6 x 5; give size")
    imported(capsys, pets, out, "--size", "4", "3")
    assert torch.equal(read_images(out).pixels, read_images(pets, size=[4, 3]).pixels)
    stored = pyarrow.parquet.read_table(out)["image"][0].as_py()
    assert Image.open(io.BytesIO(stored)).size == (3, 4)


def hugging_face(folder, labels):
    """Twelve training images in two files, four test images."""
    for name, numbers in (
        ("train-00000-of-00002", range(7)),
        ("train-00001-of-00002", range(7, 12)),
        ("test-00000-of-00001", range(12, 16)),
    ):
        images = [{"bytes": encoded_picture(number), "path": None} for number in numbers]
        columns = {"img": images} | {label: [number % 2 for number in numbers] for label in labels}
        (folder / "data").mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(pyarrow.table(columns), folder / "data" / f"{name}.parquet")
    return folder


def test_downloads_of_hugging_face_become_one_file(tmp_path, out, capsys):
    pets = hugging_face(tmp_path / "pets", ["label"])
    lines = imported(capsys, pets, out, "--split", "validation=0.25")
    assert lines[2] == "splits: train 9, validation 3, test 4"
    made = read_images(out)
    for number in range(16):
        np.testing.assert_array_equal(made.pixels[number].movedim(0, 2), picture(number))
    assert made.splits["test"].tolist() == [12, 13, 14, 15]
    assert main(["data", "show", str(pets)]) == 0
    assert capsys.readouterr().out.splitlines()[2] == "splits: train 12, test 4"


def test_of_several_columns_of_labels_one_is_named(tmp_path, out, capsys):
    pets = hugging_face(tmp_path / "pets", ["fine_label", "coarse_label"])
    refused(capsys, pets, out, "several columns of labels, fine_label, coarse_label; choose one, by")
    imported(capsys, pets, out, "--label", "fine_label")
    assert main(["data", "show", str(pets)]) == 2
    assert main(["data", "show", str(pets), "--label", "coarse_label", "--image", "img"]) == 0
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    assert main(["data", "show", str(tmp_path / "a.csv"), "--label", "y"]) == 2
    assert "label: does not go with" in capsys.readouterr().err
    other = out.with_name("other.parquet")
    refused(capsys, tmp_path / "a.csv", other, "label: does not go with", "--label", "y", "--target", "y")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_is_told_how_far_it_is(pets, out, monkeypatch, capsys):
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    out.parent.mkdir()
    assert main(["data", "import", str(pets), "--output", str(out)]) == 0
    assert "20/20" in terminal.getvalue()
    assert capsys.readouterr().out.startswith(f"{out}: 20 images")


def test_a_pipe_is_told_nothing_but_the_result(pets, out, capsys):
    out.parent.mkdir()
    assert main(["data", "import", str(pets), "--output", str(out)]) == 0
    assert capsys.readouterr().err == ""


def test_text_is_cut_at_ends_of_lines(tmp_path, out, capsys):
    text = "".join(f"line {number} of a longer text\n" for number in range(100))
    (tmp_path / "a.txt").write_text(text)
    lines = imported(capsys, tmp_path / "a.txt", out)
    assert lines[0] == f"{out}: text of 2,490 characters (23 different), 700 words (106 different)"
    rows = pyarrow.parquet.read_table(out).to_pydict()
    assert "".join(rows["text"]) == text
    assert rows["split"] == ["train", "validation", "test"]
    assert all(part.endswith("\n") for part in rows["text"])
    assert len(read_text(out, "words").tokens) == 700


def test_tables_keep_their_columns_and_know_their_target(tmp_path, out, capsys):
    file = tmp_path / "wine.csv"
    rows = [f"{n},{n % 3},{'' if n == 4 else n / 7:.3},{'white' if n % 2 else 'red'}" for n in range(30)]
    file.write_text("id,grapes,acid,colour\n" + "\n".join(rows).replace("0.571", ""))
    refused(capsys, file, out, "target: name the column to predict")
    options = ("--target", "colour", "--categorical", "grapes", "--ignore", "id")
    lines = imported(capsys, file, out, *options)
    there = read_table(file, "colour", ["grapes"], ignore=["id"])
    made = read_table(out, "colour")
    assert made.columns == there.columns == ("acid", "acid is missing", "grapes")
    assert made.classes == there.classes
    for name in ("numbers", "categories", "target"):
        assert torch.equal(getattr(made, name), getattr(there, name)), name
    assert lines[0].startswith(f"{out}: table of 30 rows and 4 columns, ")
    assert lines[2:7] == [
        "columns:",
        "  grapes  3 categories",
        "  acid    double, from 0 to 4.14, 1 missing",
        "  colour  2 categories",
        "target: colour, classification",
    ]
    assert lines[-1] == "left out: column id"


def test_nothing_is_overwritten_without_force(pets, out, capsys):
    imported(capsys, pets, out)
    refused(capsys, pets, out, f"{out}: is there already; give --force to overwrite it")
    imported(capsys, pets, out, "--force", "--seed", "1")


def test_what_cannot_be_imported_is_one_sentence_and_writes_nothing(pets, out, tmp_path, capsys):
    refused(capsys, tmp_path / "none", out, f"path: there is no file {tmp_path / 'none'}; give a folder of images")
    (tmp_path / "a.bin").write_text("?")
    refused(capsys, tmp_path / "a.bin", out, "says by no suffix what it is")
    refused(capsys, pets, out, "target: does not go with", "--target", "label")
    refused(capsys, pets, out, "split: the fraction for test must be in (0, 1)", "--split", "test=2")
    (tmp_path / "a.txt").write_text("a text")
    refused(capsys, tmp_path / "a.txt", out, "size: does not go with", "--size", "3", "3")
    (pets / "dog" / "11.png").write_bytes(b"damaged")
    refused(capsys, pets, out, f"path: {pets / 'dog' / '11.png'}: is damaged, or no picture")
    assert main(["data", "show", str(tmp_path / "none.parquet")]) == 2
    assert "there is no file" in capsys.readouterr().err


def test_places_that_cannot_be_written_are_named(pets, tmp_path, capsys):
    place = tmp_path / "nowhere" / "a.parquet"
    assert main(["data", "import", str(pets), "--output", str(place)]) == 2
    assert capsys.readouterr().err == f"{place}: there is no folder {place.parent}; make it first\n"
    (tmp_path / "folder").mkdir()
    assert main(["data", "import", str(pets), "--force", "--output", str(tmp_path / "folder")]) == 2
    assert capsys.readouterr().err == f"{tmp_path / 'folder'}: cannot be written: is a directory\n"
    assert not [*tmp_path.glob(".*")]


@pytest.mark.parametrize("text", ["0.2", "validation:0.2", "validation=much"])
def test_fractions_are_written_as_such(text, capsys):
    assert main(["data", "import", "a", "--output", "b", "--split", text]) == 2
    assert "must be such as validation=0.2,test=0.2" in capsys.readouterr().err

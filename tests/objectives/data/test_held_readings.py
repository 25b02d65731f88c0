"""What was read last is held while its files and settings are the same."""

import os

import torch
from pictures import folder_of_pets, picture
from selftune.objectives.data.held_readings import MOST, held
from selftune.objectives.data.split_images import read_split_images
from selftune.objectives.tasks.images import Images


def reader():
    calls = []

    @held
    def read(path, *settings, **named):
        calls.append((settings, named))
        return object()

    return read, calls


def test_the_same_file_with_the_same_settings_is_read_once(tmp_path):
    read, calls = reader()
    (tmp_path / "a").write_text("one")
    first = read(tmp_path / "a", [3, 4], split={"test": 0.2})
    assert read(str(tmp_path / "a"), (3, 4), split={"test": 0.2}) is first
    assert len(calls) == 1
    assert read(tmp_path / "a", [3, 4], split={"test": 0.3}) is not first
    assert read(tmp_path / "a", [4, 3], split={"test": 0.2}) is not first


def test_settings_of_other_types_are_other_settings(tmp_path):
    read, calls = reader()
    (tmp_path / "a").write_text("one")
    assert read(tmp_path / "a", 1) is not read(tmp_path / "a", True)
    assert len(calls) == 2


def test_a_file_that_changed_is_read_anew(tmp_path):
    read, _ = reader()
    for path, file in ((tmp_path / "a", tmp_path / "a"), (tmp_path, tmp_path / "b" / "c")):
        file.parent.mkdir(exist_ok=True)
        file.write_text("one")
        first = read(path)
        file.write_text("two!")
        second = read(path)
        assert second is not first, "it has another size"
        about = file.stat()
        os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns + 1))
        assert read(path) is not second, "it was changed at another time"


def test_few_readings_are_held(tmp_path):
    read, calls = reader()
    (tmp_path / "a").write_text("one")
    for number in range(MOST + 1):
        read(tmp_path / "a", number)
    read(tmp_path / "a", MOST)
    assert len(calls) == MOST + 1
    read(tmp_path / "a", 0)
    assert len(calls) == MOST + 2


def test_tasks_of_one_folder_share_their_images(tmp_path):
    pets = folder_of_pets(tmp_path / "pets")
    for number in range(20):
        picture(number, 10, 10).save(pets / ("cat", "dog")[number % 2] / f"{number:02}.png")
    first, second = (Images(str(pets), batch_size=2, width=width) for width in (2, 4))
    shared = read_split_images(str(pets), None, None, 0, None, None).train[0]
    for task in (first, second):
        assert task.splits()["train"]["inputs"].data_ptr() == shared.data_ptr()
    assert torch.equal(first.splits()["test"]["labels"], second.splits()["test"]["labels"])

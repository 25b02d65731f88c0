"""Small data sets on disk."""

import pytest
from pictures import folder_of_pets, picture


@pytest.fixture
def folder(tmp_path):
    return folder_of_pets(tmp_path / "pets")


@pytest.fixture
def split_folder(tmp_path):
    """Four images per split and class; the folders of splits are called as some people call them."""
    for split in ("Train", "val", "test"):
        for name in ("cat", "dog"):
            for number in range(4):
                file = tmp_path / "split_pets" / split / name / f"{number}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                picture(number).save(file)
    return tmp_path / "split_pets"

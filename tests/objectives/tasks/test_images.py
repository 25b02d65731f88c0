import pickle

import pytest
import torch
from PIL import Image
from selftune.objectives.data.photograph_tiles import photograph_tiles
from selftune.objectives.tasks.images import Images

from selftune.errors import SettingError
from selftune.hyperparameters import Tune
from selftune.regularization.regularizer import regularizers
from selftune.training import Trainer


@pytest.fixture
def folder(tmp_path):
    for number in range(40):
        file = tmp_path / "pictures" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 10), (100 * (number % 2), number, 7)).save(file)
    return tmp_path / "pictures"


def test_no_tile_is_in_two_splits_and_every_photograph_in_all():
    images = photograph_tiles(seed=1)
    assert sorted(torch.cat(list(images.splits.values())).tolist()) == list(range(len(images.pixels)))
    for positions in images.splits.values():
        assert set(images.labels[positions].tolist()) == set(range(10))
    tiles = {tile.tobytes() for tile in images.pixels.numpy()}
    assert len(tiles) > 0.99 * len(images.pixels)


@pytest.mark.parametrize("architecture", ["cnn", "resnet18"])
def test_a_folder_by_its_path(folder, architecture):
    task = Images(str(folder), architecture=architecture, width=2, batch_size=8)
    assert task.class_names == ("a", "b")
    train = task.splits()["train"]["inputs"]
    assert (train.dtype, train.shape[1:]) == (torch.uint8, (3, 10, 12))
    members = [regularizers["weight_decay"](strength=Tune(1e-3)), regularizers["cutout"]()]
    trainer = Trainer(pickle.loads(pickle.dumps(task)), members, steps=1)
    inputs = task.inputs(task.splits()["train"])
    standard = trainer.plain_network().before(inputs)
    assert standard.mean(dim=(0, 2, 3)).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": "photograph"}, "^dataset: photograph is no file.*did you mean photographs"),
        ({"size": (16, 16)}, "^size: is for images in files"),
        ({"label": "fine_label"}, "^label: is for images in files"),
        ({"width": 0}, "^width: must be at least 1"),
        ({"batch_size": 1000}, "^batch_size: the train split has 576 examples"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        Images(**settings)


def test_images_that_are_too_small_are_refused(folder):
    with pytest.raises(SettingError, match=r"^size: images must have at least 8 x 8 pixels, these have 4 x 4"):
        Images(str(folder), size=(4, 4))


def test_what_is_no_folder_of_images_is_named_under_the_key_of_the_setting(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(SettingError, match=r"^dataset: .*a\.txt"):
        Images(str(tmp_path / "a.txt"))

"""Data sets and loaders at the door of an objective."""

import warnings

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from selftune import BinaryClassification, Classification, MultiLabelClassification, Optimization, Regression
from selftune.data.loading import Loading
from selftune.errors import SettingError
from selftune.lower_level.objective import Stage

X = torch.randn(90, 4, generator=torch.Generator().manual_seed(0))
Y = (X.sum(dim=1) > 0).long()
WHOLE = TensorDataset(X, Y)
TENSORS = [(X[part], Y[part]) for part in (slice(0, 50), slice(50, 70), slice(70, 90))]
SETS = [TensorDataset(*pair) for pair in TENSORS]
LOADERS = [DataLoader(data, batch_size=10) for data in SETS]


class Mappings(Dataset):
    """Items with names, among them one more than inputs and labels."""

    def __len__(self):
        return 50

    def __getitem__(self, position):
        return {"inputs": X[position], "labels": Y[position], "domains": position % 2, "name": str(position)}


class Stream(IterableDataset):
    def __iter__(self):
        return iter(SETS[0])


def classification(train=SETS[0], validation=SETS[1], test=SETS[2], batch_size=10, **settings):
    return Classification(
        lambda: nn.Linear(4, 2), train, validation, test, Optimization(batch_size=batch_size), **settings
    )


@pytest.mark.parametrize("splits", [SETS, LOADERS, [SETS[0], TENSORS[1], LOADERS[2]]])
def test_data_come_in_whatever_form(splits):
    objective = classification(*splits)
    batch = objective.example(3, "train")
    assert torch.equal(batch["inputs"], X[:3])
    assert torch.equal(batch["labels"], Y[:3])
    assert objective.classes == 2
    assert objective.inventory().layers[0].name == ""
    assert "real_inputs" in objective.offers()


def test_what_else_a_mapping_holds_is_provided():
    objective = classification(Mappings())
    assert "domains" in objective.provides
    assert "name" not in objective.provides


def test_a_stream_of_examples_is_made_into_batches():
    objective = classification(Stream())
    assert len(next(iter(objective.data("train")))[0]) == 10
    assert not {"index", "examples"} & objective.provides


def test_a_loader_tells_no_positions():
    assert "index" not in classification(LOADERS[0]).provides
    assert {"index", "examples"} <= classification().provides


def test_a_loaders_batches_are_as_large_as_it_makes_them():
    assert classification(LOADERS[0], batch_size=64).optimization.batch_size == 10


def test_splits_that_are_read_are_no_tensors():
    objective = classification(SETS[0], TENSORS[1], SETS[2])
    assert list(objective.splits()) == ["validation"]
    with pytest.raises(SettingError, match="train: must be tensors in memory here"):
        objective.splits()["train"]
    assert objective.constant_answer() is None


@pytest.mark.parametrize(
    ("settings", "key", "words"),
    [
        ({"train": iter(SETS[0])}, "train", "only once"),
        ({"train": 5}, "train", "a Dataset or a DataLoader, got 5"),
        ({"train": DataLoader(TensorDataset(X[:0], Y[:0]))}, "train", "gives no batch"),
        ({"train": Subset(WHOLE, range(5))}, "batch_size", "fewer than a batch of 10"),
        ({"train": LOADERS[0], "batch_size": 7}, "batch_size", "makes batches of 10"),
        ({"train": TensorDataset(X)}, "train", "a list of 1; a collate function"),
        ({"train": TensorDataset(X * torch.nan, Y)}, "inputs", "first batch of the train split hold nan"),
        ({"train": TensorDataset(X, Y + 5)}, "labels", "go up to 6"),
        ({"train": TensorDataset(X, Y - 100)}, "labels", "hold -100"),
        ({"test": TensorDataset(X, X)}, "labels", "of the test split have shape"),
        ({"validation": LOADERS[1], "validation_batch_size": 3}, "validation_batch_size", "leave it out"),
        ({"validation_batch_size": 21}, "validation_batch_size", "has 20 examples"),
        ({"balanced_by": "labels"}, "balanced_by", "in memory"),
        ({"extra": {"domains": (Y, Y, Y)}}, "extra", "mappings"),
        ({"train": LOADERS[0], "stages": [Stage(torch.arange(20), 5)]}, "stages", "by their position"),
    ],
)
def test_what_cannot_be_used_is_refused(settings, key, words):
    with pytest.raises(SettingError, match=words) as refused:
        classification(**settings)
    assert refused.value.key == key


def test_settings_of_loading_that_would_do_nothing_are_refused():
    with pytest.raises(SettingError, match="set up the loader itself"):
        classification(*LOADERS, loading=Loading(workers=2))


def test_a_data_set_that_cannot_be_read_is_refused():
    class Broken(Mappings):
        def __getitem__(self, position):
            raise OSError("no such file")

    with pytest.raises(SettingError, match="train: cannot be read: no such file"):
        classification(Broken())


def test_a_label_without_an_output_is_refused_when_its_batch_comes():
    labels = torch.cat([Y[:40], torch.full((10,), 7)])
    objective = classification(TensorDataset(X[:50], labels))
    with pytest.raises(SettingError, match="go up to 7"):
        objective.arrange("train", [X[:2], labels[-2:]])


@pytest.mark.parametrize(
    ("train", "validation", "shared"),
    [
        (SETS[0], SETS[0], "all examples"),
        (LOADERS[0], DataLoader(SETS[0], batch_size=4), "all examples"),
        (Subset(WHOLE, range(50)), Subset(WHOLE, range(40, 60)), "10 examples"),
        (SETS[0], TensorDataset(X[5:40], Y[5:40]), "5 examples of their first batches"),
    ],
)
def test_data_that_judge_and_share_examples_with_training_are_warned_of(train, validation, shared):
    with pytest.warns(UserWarning, match=f"validation: shares {shared} with the training data"):
        classification(train, validation)


def test_data_that_are_apart_are_not_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classification(Subset(WHOLE, range(50)), Subset(WHOLE, range(50, 70)), Subset(WHOLE, range(70, 90)))
        classification(*LOADERS)
        classification(*TENSORS)


@pytest.mark.parametrize(
    ("kind", "labels", "outputs"),
    [
        (Regression, X[:, :2].sum(dim=1), 1),
        (Regression, X[:, :2], 2),
        (BinaryClassification, Y, 1),
        (MultiLabelClassification, (X[:, :3] > 0).long(), 3),
    ],
)
def test_every_objective_of_labels_takes_data_sets(kind, labels, outputs):
    data = TensorDataset(X, labels)
    splits = [Subset(data, range(*bounds)) for bounds in ((0, 50), (50, 70), (70, 90))]
    read, held = (
        kind(lambda: nn.Linear(4, outputs), *given, Optimization(batch_size=10))
        for given in (splits, [data[list(split.indices)] for split in splits])
    )
    batches = read.first_batch("train"), held.example(10, "train")
    assert torch.equal(*(batch["labels"] for batch in batches))
    assert read.quantities()["labels"] == held.quantities()["labels"]
    assert read.constant_answer() is None

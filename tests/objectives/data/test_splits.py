"""Which examples are held out where a data set has no splits."""

import pytest
import torch
from selftune.objectives.data.splits import completed, consecutive, named_splits

from selftune.errors import SettingError


def test_splits_are_apart_cover_everything_and_follow_from_the_seed():
    splits = completed({}, 103, {"validation": 0.1, "test": 0.3}, seed=3)
    assert torch.cat([*splits.values()]).sort().values.tolist() == list(range(103))
    assert [len(part) for part in splits.values()] == [62, 10, 31]
    assert all(part.tolist() == sorted(part.tolist()) for part in splits.values())
    again = completed({}, 103, {"validation": 0.1, "test": 0.3}, seed=3)
    assert all(torch.equal(splits[name], again[name]) for name in splits)
    assert not torch.equal(splits["test"], completed({}, 103, {"validation": 0.1, "test": 0.3}, seed=4)["test"])


@pytest.mark.parametrize("seed", range(5))
def test_every_class_has_its_share_of_every_split(seed):
    counts = torch.tensor([100, 31, 10, 2, 1])
    labels = torch.arange(5).repeat_interleave(counts)
    splits = completed({}, len(labels), None, seed, labels)
    for name, fraction in {"train": 0.6, "validation": 0.2, "test": 0.2}.items():
        share = labels[splits[name]].bincount(minlength=5)
        assert ((share - fraction * counts).abs() < 2).all(), name
    assert (labels[splits["train"]].bincount(minlength=5) > 0).all()


def test_what_is_missing_is_drawn_from_the_training_split():
    given = named_splits(["train"] * 8 + ["test"] * 2, "a file")
    splits = completed(given, 10, {"validation": 0.25})
    assert splits["test"].tolist() == [8, 9]
    assert len(splits["validation"]) == 2
    assert sorted([*splits["train"].tolist(), *splits["validation"].tolist()]) == list(range(8))


def test_streams_are_split_in_their_order():
    splits = consecutive(100, {"validation": 0.1, "test": 0.15})
    assert splits["train"].tolist() == list(range(75))
    assert splits["validation"].tolist() == list(range(75, 85))


@pytest.mark.parametrize(
    ("split", "sentence"),
    [
        ({"validation": 0.5, "test": 0.5}, "leave nothing for training"),
        ({"valdation": 0.5}, "did you mean validation"),
        ({"test": 2}, r"the fraction for test must be in \(0, 1\), got 2"),
        (0.3, "must be fractions such as"),
        ({"validation": 0.001}, "20 examples are too few: the validation split would be empty"),
    ],
)
def test_fractions_that_make_no_splits_are_refused(split, sentence):
    for draw in (completed, lambda _, *rest: consecutive(*rest)):
        with pytest.raises(SettingError, match=f"^split: .*{sentence}"):
            draw({}, 20, split)


def test_names_that_are_no_splits_are_refused_with_their_row():
    with pytest.raises(SettingError, match="a file, row 1: the column split holds 'left'"):
        named_splits(["train", "left"], "a file")
    with pytest.raises(SettingError, match="no training ones"):
        completed(named_splits(["test", "val"], "a file"), 2)

import pytest
import torch
from selftune.objectives.tasks.repeated_token_pretraining import _splits

CORPUS = bytes(range(100))


def test_windows_predict_every_byte_once_and_splits_do_not_overlap():
    train, held_out = _splits(CORPUS, unique_tokens=61, held_out_tokens=31, context=10)
    assert train.shape == (6, 11)
    assert held_out.shape == (3, 11)
    assert torch.equal(train[:, 1:].flatten(), torch.arange(1, 61))
    assert torch.equal(held_out[:, 1:].flatten(), torch.arange(62, 92))
    assert torch.equal(train[1:, 0], train[:-1, -1])


def test_what_fills_no_window_is_left_out():
    assert _splits(CORPUS, 30, 12, 10)[0].shape == (2, 11)


def test_too_short_a_corpus_or_split_is_refused():
    with pytest.raises(ValueError, match="longer corpus"):
        _splits(CORPUS, 90, 11, 5)
    with pytest.raises(ValueError, match="context of 10"):
        _splits(CORPUS, 20, 10, 10)

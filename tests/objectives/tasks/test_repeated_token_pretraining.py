import pytest
import torch
from orders import with_response
from selftune.objectives.tasks.repeated_token_pretraining import RepeatedTokenPretraining, _splits

from selftune.errors import SettingError
from selftune.hyperparameters import Tune
from selftune.methods import Response
from selftune.methods.work_orders import FollowSchedule
from selftune.regularization.regularizer import regularizers
from selftune.training import Trainer

CORPUS = bytes(range(100))
TINY = {"unique_tokens": 300, "validation_tokens": 200, "test_tokens": 200, "context": 8, "width": 8, "depth": 1}


def test_windows_predict_every_byte_once_and_splits_do_not_overlap():
    train, held_out = _splits(CORPUS, {"train": 61, "held_out": 31}, context=10)
    assert train.shape == (6, 11)
    assert held_out.shape == (3, 11)
    assert torch.equal(train[:, 1:].flatten(), torch.arange(1, 61))
    assert torch.equal(held_out[:, 1:].flatten(), torch.arange(62, 92))
    assert torch.equal(train[1:, 0], train[:-1, -1])


def test_what_fills_no_window_is_left_out():
    assert _splits(CORPUS, {"train": 30, "held_out": 12}, 10)[0].shape == (2, 11)


def test_settings_that_do_not_fit_are_refused(tmp_path):
    text = tmp_path / "text"
    text.write_bytes(CORPUS)
    with pytest.raises(SettingError, match="bytes of text"):
        RepeatedTokenPretraining(corpus=str(text))
    with pytest.raises(SettingError, match="above the context"):
        RepeatedTokenPretraining(**TINY | {"context": 250})
    with pytest.raises(SettingError, match="multiple of 4"):
        RepeatedTokenPretraining(**TINY | {"width": 10})


def test_no_byte_sees_what_follows_it():
    torch.manual_seed(0)
    network = RepeatedTokenPretraining(**TINY).network()
    tokens = torch.randint(256, (1, 8))
    changed = tokens.clone()
    changed[0, 5] = (changed[0, 5] + 1) % 256
    first, second = network(tokens), network(changed)
    assert torch.equal(first[:, :5], second[:, :5])
    assert not torch.allclose(first[:, 5:], second[:, 5:])


def test_dropout_and_weight_decay_are_tuned_online():
    task = RepeatedTokenPretraining(**TINY)
    members = [regularizers["dropout"](rate=Tune(0.2)), regularizers["decoupled_weight_decay"](strength=Tune(0.1))]
    trainer = Trainer(task, members)
    order = with_response(trainer, vars(Response(learning_rate=0.01)), 6, tune_scale=True)
    report = trainer.execute(order)
    assert report.kind == "cycle", report.message
    assert (report.tensors["hypergradient"] != 0).all()


def test_repetition_lowers_training_loss_below_held_out_loss():
    trainer = Trainer(RepeatedTokenPretraining(**TINY | {"width": 32}, batch_size=16, learning_rate=1e-2), [])
    trainer.execute(FollowSchedule(segments=((120, torch.empty(0)),)))
    measures = {
        s: trainer.lower.evaluate(trainer.plain_network(), s)[f"{s}_loss"] for s in ("train", "validation")
    }
    assert measures["train"] < 1.5 < 3.0 < measures["validation"]

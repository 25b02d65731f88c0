import pickle

import pytest
import torch
from selftune.objectives.tasks.language_model import LanguageModel

from selftune.errors import SettingError
from selftune.hyperparameters import Tune
from selftune.regularization.regularizer import regularizers
from selftune.training import Trainer


@pytest.mark.parametrize("architecture", ["lstm", "transformer"])
@pytest.mark.parametrize("unit", ["characters", "words"])
def test_a_prediction_sees_what_came_before_it_only(architecture, unit):
    torch.manual_seed(0)
    task = LanguageModel(architecture=architecture, unit=unit, vocabulary=30, width=8, context=8)
    network, tokens = task.network().eval(), task.splits()["train"]["inputs"][:2].clone()
    assert task.classes == 30
    before = network(tokens)
    tokens[:, 5] = (tokens[:, 5] + 1) % 30
    differs = (network(tokens) != before).any(dim=2)
    assert not differs[:, :5].any()
    assert differs[:, 5:].all()


def test_a_text_by_its_path(tmp_path):
    (tmp_path / "text.txt").write_text("to be, or not to be, that is the question. " * 400)
    task = LanguageModel(str(tmp_path / "text.txt"), unit="words", width=8, context=5, batch_size=4)
    assert set(task.vocabulary_tokens) == {"to", "be", ",", "or", "not", "that", "is", "the", "question", "."}
    assert pickle.loads(pickle.dumps(task)).classes == 10


def test_regularizers_of_recurrent_networks_fit():
    members = [
        regularizers["variational_dropout"](parts={"input": ["layers.0"], "output": ["decoder"]}, rate=Tune(0.2)),
        *(regularizers[name]() for name in ("weight_drop", "embedding_dropout", "activation_regularization")),
    ]
    Trainer(LanguageModel(width=8, context=8), members, steps=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": "nothing.txt"}, "^dataset: .*nothing.txt"),
        ({"vocabulary": 1}, "vocabulary: must be at least 2"),
        ({"width": 0}, "width: must be at least 1"),
        ({"width": 30, "architecture": "transformer"}, "width: must be a multiple of the 4 heads, got 30"),
        ({"hidden": 8, "architecture": "transformer"}, "hidden: is for an LSTM"),
        ({"heads": 2}, "heads: are for a transformer"),
        ({"context": 0}, "context: must be at least 1"),
        ({"context": 2000}, "batch_size: the train split has 13 examples"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        LanguageModel(**settings)

"""Losses per element are those whose mean the models of Hugging Face return themselves."""

import pytest
import torch

transformers = pytest.importorskip("transformers", reason="the extra hf is not installed")

from rounding import rounding  # noqa: E402

from selftune.errors import SettingError  # noqa: E402
from selftune.integrations.hugging_face_loss import element_losses, logits, share_of_batch  # noqa: E402
from selftune.lower_level.losses import as_losses  # noqa: E402

BERT = {
    "vocab_size": 30,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 16,
}
GPT2 = {"vocab_size": 30, "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 16}
T5 = {"vocab_size": 30, "d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2}


def ids():
    return torch.randint(30, (4, 6))


def some_ignored(labels):
    return labels.masked_fill(torch.rand(labels.shape) < 0.3, -100)


MODELS = {
    "classes": (lambda: bert("SequenceClassification", num_labels=3), lambda: torch.randint(3, (4,))),
    "regression": (lambda: bert("SequenceClassification", num_labels=1), lambda: torch.randn(4)),
    "several labels": (
        lambda: bert("SequenceClassification", num_labels=5),
        lambda: torch.randint(2, (4, 5)).float(),
    ),
    "classes of tokens": (
        lambda: bert("TokenClassification", num_labels=3),
        lambda: some_ignored(torch.randint(3, (4, 6))),
    ),
    "masked tokens": (lambda: bert("MaskedLM"), lambda: some_ignored(ids())),
    "next tokens": (
        lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config(**GPT2)),
        lambda: some_ignored(ids()),
    ),
    "sequence to sequence": (
        lambda: transformers.T5ForConditionalGeneration(
            transformers.T5Config(**T5, decoder_start_token_id=0, pad_token_id=0)
        ),
        lambda: some_ignored(ids()),
    ),
}


def bert(kind, **settings):
    return getattr(transformers, f"BertFor{kind}")(transformers.BertConfig(**BERT, **settings))


@pytest.mark.parametrize("name", MODELS)
def test_the_mean_is_the_loss_of_the_model(name):
    torch.manual_seed(0)
    build, labels = MODELS[name]
    model = build().eval()
    batch = {"input_ids": ids(), "labels": labels()}
    theirs = model(**batch).loss
    ours = as_losses(element_losses(model, logits(model, model, batch), batch)).mean()
    assert abs(float(ours) - float(theirs)) <= rounding(theirs.detach(), dtype=torch.float32)


def test_the_shares_of_accumulated_batches_add_up():
    torch.manual_seed(0)
    model = MODELS["next tokens"][0]()
    batches = [{"labels": some_ignored(ids())} for _ in range(3)]
    items = sum((batch["labels"][:, 1:] != -100).sum() for batch in batches)
    assert float(sum(share_of_batch(model, batch, items) for batch in batches)) == pytest.approx(1)


def test_what_fits_no_kind_needs_a_loss():
    model = bert("SequenceClassification", num_labels=3)
    with pytest.raises(SettingError, match=r"loss: is needed: logits of shape \(4, 3\) and labels of \(5,\)"):
        element_losses(model, torch.randn(4, 3), {"labels": torch.zeros(5, dtype=torch.long)})


def test_a_model_without_logits_needs_a_forward():
    model = transformers.BertModel(transformers.BertConfig(**BERT))
    with pytest.raises(SettingError, match="forward: is needed, because BertModel puts out no logits"):
        logits(model, model, {"input_ids": ids()})
